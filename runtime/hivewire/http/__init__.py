"""The runtime that reaches the others through a gateway's one port."""

from hivewire.http.runtime import HttpAgentRuntime

__all__ = ["HttpAgentRuntime"]
