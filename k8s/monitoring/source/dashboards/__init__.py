"""The dashboards, a module each."""

from k8s.monitoring.source.boards import Board
from k8s.monitoring.source.dashboards.agent_types import AGENT_TYPES
from k8s.monitoring.source.dashboards.gateway import GATEWAY
from k8s.monitoring.source.dashboards.nats import NATS
from k8s.monitoring.source.dashboards.operator import OPERATOR
from k8s.monitoring.source.dashboards.overview import OVERVIEW
from k8s.monitoring.source.dashboards.shards import SHARDS

BOARDS: tuple[Board, ...] = (OVERVIEW, AGENT_TYPES, SHARDS, GATEWAY, OPERATOR, NATS)
