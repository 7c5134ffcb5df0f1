"""The examples of the HTTP runtime's page, run as printed but for the runtime's class and address: over HTTP, and over
NATS."""

import asyncio
import importlib.metadata
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from child_processes import Program, answer_of
from hivewire import AgentId, MessageContext, TopicId, TypeSubscription
from snippets.documented_examples import example
from snippets.stages import Stage
from snippets.stand_ins import Inbox, Recorder

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
DEADLINE_S = 30.0


def test_65_one_command_installs_and_nothing_is_generated() -> None:
    assert "pip install -e ." in example(65).text.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert importlib.metadata.distribution("hivewire").metadata["Name"] == "hivewire"
    assert project["build-system"]["requires"] == ["hatchling>=1.27"]
    assert not [each for each in project["project"]["dependencies"] if "grpc" in each]
    generated = [path for pattern in ("*.proto", "*_pb2*.py") for path in (ROOT / "runtime").rglob(pattern)]
    assert not generated


async def test_66_two_workers_answer_the_orchestrator(broker_url: str) -> None:
    commands = [shlex.split(line, comments=True) for line in example(66).text.splitlines()]
    server, *workers, orchestrator = [Path(command[1]) for command in commands if command]
    # The NATS server is the host.
    assert server.name == "run_server.py"
    examples = ROOT / "examples" / "text_agents"
    text = "Hello distributed NATS runtime!"

    async with (
        Program(examples / workers[0].name, BROKER_URL=broker_url) as reverse,
        Program(examples / workers[1].name, BROKER_URL=broker_url) as upper,
    ):
        for worker in (reverse, upper):
            await worker.printed("is ready")
        async with Program(examples / orchestrator.name, text, BROKER_URL=broker_url) as program:
            await program.ended_well()

    assert program.lines == [f"reverse → {text[::-1]}", f"upper → {text.upper()}"]


async def test_67_an_app_switches_by_the_import_and_the_address(network_stage: Stage) -> None:
    inbox = Inbox()
    notebook = network_stage.notebook()
    await notebook.run(67)
    runtime = notebook["runtime"]

    # The rest of the code is unchanged.
    await Recorder.register(runtime, "echo", inbox.recorder)
    assert await runtime.send_message("Hello", AgentId("echo", "k")) == "Hello"
    assert inbox.messages == ["Hello"]


async def test_68_an_agent_that_overrides_on_message_answers_until_its_process_gets_a_signal(
    network_stage: Stage, network_url: str
) -> None:
    runtime = network_stage.runtime()
    await runtime.connect()
    async with Program(PROGRAMS / "echo_worker.py", BROKER_URL=network_url) as worker:
        assert await answer_of(runtime, "Hello", AgentId("echo", "k")) == "echo: Hello"
        await worker.send_signal(SIGTERM)
        await worker.ended_well()
        assert worker.errors == ""


async def test_69_a_prefix_with_a_star_gets_what_is_published_below_it(network_stage: Stage) -> None:
    inbox, runtime = Inbox(), network_stage.runtime()
    await Recorder.register(runtime, "my_agent", inbox.recorder)
    await runtime.start()

    await network_stage.notebook(rt=runtime).run(69)
    await runtime.publish_message({"headline": "none"}, TopicId("other.tech", "server"))
    await runtime.stop_when_idle()

    assert inbox.messages == [{"headline": "42"}]
    assert inbox.received[0].context.topic_id == TopicId("news.tech", "server")


async def test_70_a_dataclass_serializer_is_imported_from_the_top_and_added(network_stage: Stage) -> None:
    inbox, runtime, sender = Inbox(), network_stage.runtime(), network_stage.runtime()
    notebook = network_stage.notebook(runtime=runtime)
    await notebook.run(70)
    await Recorder.register(runtime, "echo", inbox.recorder)
    await runtime.start()
    await sender.connect()

    message = notebook["TextMessage"]("this is a message")
    assert await sender.send_message(message, AgentId("echo", "k")) == message
    assert inbox.messages == [message]


async def test_71_a_serializer_for_str_replaces_the_built_in_one(network_stage: Stage) -> None:
    runtime = network_stage.runtime()
    notebook = network_stage.notebook(runtime=runtime)
    await notebook.run(71)
    used: list[str] = []
    serializer_class = notebook["StringSerializer"]

    class Observed(serializer_class):  # type: ignore[misc, valid-type]
        def serialize(self, message: str) -> bytes:
            used.append(message)
            return serializer_class.serialize(self, message)  # type: ignore[no-any-return]

    runtime.add_message_serializer(Observed())
    await Recorder.register(runtime, "echo", Recorder)
    await runtime.start()

    assert await runtime.send_message("Hello", AgentId("echo", "k")) == "Hello"
    assert used == ["Hello", "Hello"]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
async def test_72_a_signal_lets_a_running_call_finish_and_leaves_no_call_waiting(
    network_stage: Stage, network_url: str, number: Signals
) -> None:
    never, runtime = asyncio.Event(), network_stage.runtime()

    async def stay_silent(message: Any, ctx: MessageContext) -> None:
        await never.wait()

    silent = Inbox()
    await Recorder.register(runtime, "silent", lambda: silent.recorder(stay_silent))
    await runtime.start()
    async with Program(PROGRAMS / "signalled_worker.py", BROKER_URL=network_url) as worker:
        await worker.printed("ready")
        assert await runtime.send_message(number.name, AgentId("worker", "k")) == "finished"
        await worker.ended_well()
        assert worker.lines == ["ready", "the call that waited ended", "tasks left: 0"]
        assert worker.errors == ""
    assert silent.messages == ["x"]
    never.set()


async def test_73_a_tracer_provider_sees_each_message_once_on_its_way_out_and_once_on_its_way_in(
    network_stage: Stage,
) -> None:
    sent, handled = Spans(), Spans()
    sender, worker = (
        network_stage.runtime(tracer_provider=sent.provider),
        network_stage.runtime(tracer_provider=handled.provider),
    )
    inbox = Inbox()
    await Recorder.register(worker, "worker", inbox.recorder)
    await worker.add_subscription(TypeSubscription("news", "worker"))
    await worker.start()
    await sender.connect()

    await sender.send_message("Hello", AgentId("worker", "k"))
    await sender.publish_message("Hello", TopicId("news", "k"))
    await worker.stop_when_idle()
    await sender.stop()

    assert sent.names == {"autogen create worker.(k)-A": 1, "autogen create news.(k)-T": 1}
    assert handled.names == {"create_agent worker": 1, "autogen process worker.(k)-A": 2}
    assert inbox.messages == ["Hello", "Hello"]


class Spans:
    """What one tracer provider saw."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def names(self) -> Counter[str]:
        return Counter(span.name for span in self._exporter.get_finished_spans())
