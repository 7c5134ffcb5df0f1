"""Spans of agents, tools and messages, what a runtime counts, and how log lines look."""

from hivewire.telemetry.log_lines import configure_logging
from hivewire.telemetry.measuring import RuntimeMetrics
from hivewire.telemetry.passed_on_trace import PassingTracer, passed_on_trace, passing_on
from hivewire.telemetry.recorded_span import end_span, record_error
from hivewire.telemetry.requests import RequestTracer
from hivewire.telemetry.spans import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span
from hivewire.telemetry.tracing import MessageTracer

__all__ = [
    "MessageTracer",
    "PassingTracer",
    "RequestTracer",
    "RuntimeMetrics",
    "configure_logging",
    "end_span",
    "passed_on_trace",
    "passing_on",
    "record_error",
    "trace_create_agent_span",
    "trace_invoke_agent_span",
    "trace_tool_span",
]
