"""The in-process runtime."""

from hivewire.local.runtime import SingleThreadedAgentRuntime

__all__ = ["SingleThreadedAgentRuntime"]
