"""Spans of agents, tools and messages, made with the OpenTelemetry API alone."""

from hivewire.telemetry.spans import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span
from hivewire.telemetry.tracing import MessageTracer

__all__ = ["MessageTracer", "trace_create_agent_span", "trace_invoke_agent_span", "trace_tool_span"]
