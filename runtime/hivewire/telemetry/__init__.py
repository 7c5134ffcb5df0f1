"""Spans of agents, tools and messages, and what a runtime counts."""

from hivewire.telemetry.measuring import RuntimeMetrics
from hivewire.telemetry.spans import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span
from hivewire.telemetry.tracing import MessageTracer

__all__ = ["MessageTracer", "RuntimeMetrics", "trace_create_agent_span", "trace_invoke_agent_span", "trace_tool_span"]
