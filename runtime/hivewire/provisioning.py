"""What it takes to run a namespace for others: provision it, keep it, and say what each component may do."""

from hivewire.nats.delivery import DeliveryPolicy
from hivewire.nats.history import HistoryProgress
from hivewire.nats.permissions import (
    ADMINISTRATOR,
    GATEWAY,
    OPERATOR,
    Permissions,
    admin_permissions,
    gateway_permissions,
    operator_permissions,
    worker_permissions,
)
from hivewire.nats.registry import TypeShape
from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import TopicFilter
from hivewire.nats.trust import trusted
from hivewire.nats.upkeep import Upkeep

__all__ = [
    "ADMINISTRATOR",
    "GATEWAY",
    "OPERATOR",
    "DeliveryPolicy",
    "HistoryProgress",
    "Permissions",
    "Subjects",
    "TopicFilter",
    "TypeShape",
    "Upkeep",
    "admin_permissions",
    "gateway_permissions",
    "operator_permissions",
    "trusted",
    "worker_permissions",
]
