from __future__ import annotations

from hivewire import NatsAgentRuntime
from hivewire.model.readiness import Readiness


def test_a_readiness_is_as_true_as_it_says() -> None:
    assert Readiness(True)
    assert not Readiness(False, "why")


async def test_a_runtime_that_was_not_started_or_has_stopped_is_not_ready() -> None:
    runtime = NatsAgentRuntime("nats://127.0.0.1")
    assert runtime.ready == Readiness(False, "the runtime is new")
    await runtime.stop()
    assert runtime.ready == Readiness(False, "the runtime is stopped")
