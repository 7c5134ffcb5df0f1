"""Spans of agents, tools and messages, what a runtime counts, and how log lines look."""

from hivewire.telemetry.log_lines import configure_logging
from hivewire.telemetry.measuring import RuntimeMetrics
from hivewire.telemetry.spans import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span
from hivewire.telemetry.tracing import MessageTracer

__all__ = [
    "MessageTracer",
    "RuntimeMetrics",
    "configure_logging",
    "trace_create_agent_span",
    "trace_invoke_agent_span",
    "trace_tool_span",
]
