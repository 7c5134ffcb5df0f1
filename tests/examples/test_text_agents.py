"""The example with a reverse agent, an upper agent and an orchestrator, as three processes."""

import signal
from pathlib import Path

from child_processes import Program

DIRECTORY = Path(__file__).parents[2] / "examples" / "text_agents"


async def test_the_orchestrator_gets_its_text_backwards_and_in_capitals(nats_url: str, namespace: str) -> None:
    broker = {"BROKER_URL": nats_url, "HIVEWIRE_NAMESPACE": namespace}
    async with (
        Program(DIRECTORY / "reverse_agent.py", **broker) as reverse,
        Program(DIRECTORY / "upper_agent.py", **broker) as upper,
    ):
        await reverse.printed("reverse is ready")
        await upper.printed("upper is ready")
        for arguments, text in (([], "Hello distributed NATS runtime!"), (["Grüße", "an alle"], "Grüße an alle")):
            async with Program(DIRECTORY / "orchestrator.py", *arguments, **broker) as orchestrator:
                await orchestrator.ended_well()
                assert orchestrator.errors == ""
            assert orchestrator.lines == [f"reverse → {text[::-1]}", f"upper → {text.upper()}"]

        for worker, stop in ((reverse, signal.SIGINT), (upper, signal.SIGTERM)):
            await worker.send_signal(stop)
            await worker.ended_well()
            assert worker.errors == ""


async def test_the_orchestrator_goes_on_when_one_of_two_reverse_agents_stops(nats_url: str, namespace: str) -> None:
    broker = {"BROKER_URL": nats_url, "HIVEWIRE_NAMESPACE": namespace}
    async with (
        Program(DIRECTORY / "upper_agent.py", **broker) as upper,
        Program(DIRECTORY / "reverse_agent.py", **broker) as first,
        Program(DIRECTORY / "reverse_agent.py", **broker) as second,
    ):
        for worker in (upper, first, second):
            await worker.printed("is ready")
        await first.send_signal(signal.SIGTERM)
        async with Program(DIRECTORY / "orchestrator.py", "abc", **broker) as orchestrator:
            await orchestrator.ended_well()
            assert orchestrator.errors == ""
        assert orchestrator.lines == ["reverse → cba", "upper → ABC"]
        await first.ended_well()
