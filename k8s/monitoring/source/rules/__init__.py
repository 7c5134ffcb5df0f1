"""The rules: what is recorded for alerts and dashboards, and when somebody is told."""

from k8s.monitoring.source.rules.alerts import ALERTS
from k8s.monitoring.source.rules.recording import RECORDINGS

__all__ = ["ALERTS", "RECORDINGS"]
