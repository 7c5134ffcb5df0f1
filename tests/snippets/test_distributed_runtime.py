"""The examples of the distributed runtime's chapter. Where they speak of processes, each is an operating system's own.

Their broker address stands for that of the test server.
"""

import asyncio
import importlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from types import ModuleType
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from child_processes import Program, answer_of
from hivewire import (
    JSON_DATA_CONTENT_TYPE,
    PROTOBUF_DATA_CONTENT_TYPE,
    AgentId,
    MessageContext,
    RoutedAgent,
    SerializationError,
    TopicId,
    rpc,
)
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.nats.envelope import CallEnvelope, ReplyEnvelope, encode_call, encode_reply
from plain_yaml import read_yaml
from snippets import stand_ins
from snippets.documented_examples import example
from snippets.stages import Stage
from snippets.stand_ins import CollectRequest, CollectResponse, Inbox, MyMessage, Recorder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = HERE / "programs"
VECTORS = HERE.parent / "vectors"
DEADLINE_S = 30.0


async def test_50_the_constants_print_as_documented_but_for_the_protobuf_one(
    local_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await local_stage.notebook().run(50)
    assert capsys.readouterr().out.splitlines() == [JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE]
    assert (JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE) == ("application/json", "application/x-protobuf")


async def test_51_a_worker_process_answers_until_it_gets_a_signal(
    nats_stage: Stage, broker_url: str, tmp_path: Path
) -> None:
    notebook = nats_stage.notebook()
    await notebook.run(51)
    runtime = nats_stage.runtime()
    await runtime.connect()

    async with Program(worker_program(tmp_path, broker_url)) as worker:
        request = notebook["WorkRequest"](task_id="1", data={"a": [1, None]})
        answer = await answer_of(runtime, request, AgentId("worker", "default"))
        await worker.send_signal(SIGTERM)
        await worker.ended_well()

    assert answer == notebook["WorkResponse"](task_id="1", result="Processed task 1")
    # The printed address has the scheme of another protocol, and that is the one thing it warns about.
    (warning,) = worker.errors.splitlines()
    assert warning.startswith("grpc://")


async def test_52_a_task_that_nobody_subscribes_to_counts_as_unrouted(broker_url: str, tmp_path: Path) -> None:
    worker_program(tmp_path, broker_url)
    async with Program(coordinator_program(tmp_path, broker_url)) as coordinator:
        await coordinator.logged("nobody subscribes to topic type tasks")
        await coordinator.send_signal(SIGTERM)
        await coordinator.ended_well()
    assert coordinator.lines == ["unrouted: 1"]


async def test_52_a_coordinator_that_subscribes_has_its_task_done_by_the_worker_process(
    broker_url: str, nats_stage: Stage, tmp_path: Path
) -> None:
    notebook = nats_stage.notebook()
    await notebook.run(51)
    runtime = nats_stage.runtime()
    await runtime.connect()
    async with Program(worker_program(tmp_path, broker_url)) as worker:
        request = notebook["WorkRequest"](task_id="0", data={})
        await answer_of(runtime, request, AgentId("worker", "default"))
        async with Program(coordinator_program(tmp_path, broker_url, subscribe=True)) as coordinator:
            assert await coordinator.printed("Worker") == "Worker completed: Processed task task-1"
            for process in (coordinator, worker):
                await process.send_signal(SIGTERM)
                await process.ended_well()
    assert coordinator.lines[1:] == ["unrouted: 0"]


def worker_program(directory: Path, broker_url: str) -> Path:
    path = directory / "worker.py"
    path.write_text(at_broker(example(51).source(), broker_url))
    return path


def coordinator_program(directory: Path, broker_url: str, *, subscribe: bool = False) -> Path:
    """Write the example down with what it leaves undefined before it, and a line about unrouted messages after it."""
    text = example(52).source()
    if subscribe:
        text = text.replace("class Coordinator", '@type_subscription("tasks")\nclass Coordinator')
    waiting = "    await runtime.wait_until_stopped()\n"
    assert text.count(waiting) == 1
    text = text.replace(waiting, f'{waiting}    print(f"unrouted: {{runtime.unrouted_messages_count}}")\n')
    before = (
        "import logging\n"
        "from hivewire import TopicId, type_subscription\n"
        "from worker import WorkRequest\n"
        "logging.basicConfig(level=logging.INFO)\n"
    )
    path = directory / "coordinator.py"
    path.write_text(before + at_broker(text, broker_url))
    return path


def at_broker(text: str, broker_url: str) -> str:
    assert text.count("grpc://localhost:50051") == 1
    return text.replace("localhost:50051", broker_url.removeprefix("nats://"))


async def collector(stage: Stage) -> Any:
    """Return a started runtime with the documented agent that collects data."""
    notebook = stage.notebook(CollectRequest=CollectRequest, CollectResponse=CollectResponse)
    await notebook.run(53)

    class Collector(notebook["DataCollector"]):  # type: ignore[misc]
        async def collect_data(self) -> list[float]:
            return [1.0, 2.0, 6.0]

    runtime = stage.runtime()
    await Collector.register(runtime, "collector", Collector)
    await runtime.start()
    return runtime


STD_DEV = (14 / 3) ** 0.5


async def test_53_an_agent_of_another_process_answers_with_message_classes_of_its_own(
    nats_stage: Stage, broker_url: str
) -> None:
    runtime = await collector(nats_stage)
    async with Program(PROGRAMS / "analytics_worker.py", BROKER_URL=broker_url) as worker:
        await worker.printed("ready")
        answer = await runtime.send_message(CollectRequest(), AgentId("collector", "k"), timeout=DEADLINE_S)
    assert (answer.mean, answer.std_dev) == (3.0, pytest.approx(STD_DEV))


async def test_53_a_plain_nats_client_answers_with_headers_and_json_alone(
    nats_stage: Stage, broker_url: str, namespace: str
) -> None:
    runtime = await collector(nats_stage)
    requests: list[Msg] = []

    async def analyze(request: Msg) -> None:
        requests.append(request)
        points = json.loads(request.data)["data_points"]
        mean = sum(points) / len(points)
        std_dev = (sum((point - mean) ** 2 for point in points) / len(points)) ** 0.5
        payload = json.dumps({"mean": mean, "std_dev": std_dev}).encode()
        await peer.publish(request.reply, payload, headers={"Hw-Type": "AnalyticsResponse"})

    peer = await nats.connect(broker_url)
    await peer.subscribe(f"{namespace}.rpc.analytics.*.*.default", queue="analytics", cb=analyze)
    await subscribed(peer)
    answer = await runtime.send_message(CollectRequest(), AgentId("collector", "k"), timeout=DEADLINE_S)
    await peer.close()

    assert (answer.mean, answer.std_dev) == (3.0, pytest.approx(STD_DEV))
    (request,) = requests
    assert request.headers is not None
    assert request.headers["Hw-Type"] == "AnalyticsRequest"
    assert request.headers["Hw-Sender"] == "collector/k"


async def test_54_golden_vectors_hold_what_an_agent_in_another_language_reads_and_writes(local_stage: Stage) -> None:
    notebook = local_stage.notebook(CollectRequest=CollectRequest, CollectResponse=CollectResponse)
    await notebook.run(53)
    request, reply = json.loads((VECTORS / "analytics.json").read_text())
    registry = SerializerRegistry()
    # The records of the printed program have these fields.
    for record in ("AnalyticsRequest(float[] DataPoints)", "AnalyticsResponse(float Mean, float StdDev)"):
        assert f"public record {record};" in example(54).text

    encoded = registry.encode(notebook["AnalyticsRequest"](**request["input"]["fields"]))
    headers, payload = encode_call(
        CallEnvelope(
            type_name=encoded.type_name,
            payload=encoded.payload,
            left_ms=request["input"]["left_ms"],
            sender=AgentId.from_str(request["input"]["sender"]),
        )
    )
    assert {"headers": headers, "payload": payload.decode()} == request["expected"]

    encoded = registry.encode(notebook["AnalyticsResponse"](**reply["input"]["fields"]))
    headers, payload = encode_reply(ReplyEnvelope(type_name=encoded.type_name, payload=encoded.payload))
    assert {"headers": headers, "payload": payload.decode()} == reply["expected"]
    read = registry.decode(payload, type_name=headers["Hw-Type"], content_type=JSON_DATA_CONTENT_TYPE)
    assert read == notebook["AnalyticsResponse"](**reply["input"]["fields"])


async def test_55_a_serializer_puts_a_versioned_type_name_on_the_wire(
    nats_stage: Stage, broker_url: str, namespace: str
) -> None:
    receiver, sender = nats_stage.runtime(), nats_stage.runtime()
    for runtime in (receiver, sender):
        await nats_stage.notebook(runtime=runtime, MyMessage=MyMessage).run(55)
    inbox = Inbox()
    await Recorder.register(receiver, "worker", inbox.recorder)
    await receiver.start()
    await sender.connect()

    async with calls_on_the_wire(broker_url, namespace) as calls:
        answer = await sender.send_message(MyMessage("x", 1), AgentId("worker", "k"))
        call = await asyncio.wait_for(calls.get(), DEADLINE_S)

    assert answer == MyMessage("x", 1)
    assert inbox.messages == [MyMessage("x", 1)]
    assert call.headers["Hw-Type"] == "my_message_v1"
    assert json.loads(call.data) == {"version": 1, "field1": "x", "field2": 1}


async def test_55_a_message_of_a_later_version_is_an_error_at_its_sender(nats_stage: Stage) -> None:
    receiver, sender = nats_stage.runtime(), nats_stage.runtime()
    await nats_stage.notebook(runtime=receiver, MyMessage=MyMessage).run(55)
    later = example(55).source().replace('"version": 1', '"version": 2')
    await nats_stage.notebook(runtime=sender, MyMessage=MyMessage).run_text(later)
    await Recorder.register(receiver, "worker", Recorder)
    await receiver.start()
    await sender.connect()

    with pytest.raises(SerializationError, match="Unsupported version: 2"):
        await sender.send_message(MyMessage("x", 1), AgentId("worker", "k"))


@pytest.fixture(scope="session")
def messages_pb2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module that the documented proto file compiles to. Its names are taken in the process from then on."""
    directory = tmp_path_factory.mktemp("proto")
    (directory / "messages.proto").write_text(example(56).text)
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{directory}", f"--python_out={directory}", "messages.proto"],
        cwd=directory,
        check=True,
    )
    sys.path.insert(0, str(directory))
    yield importlib.import_module("messages_pb2")
    sys.path.remove(str(directory))


async def test_56_protobuf_messages_travel_without_a_serializer_of_their_own(
    nats_stage: Stage, messages_pb2: ModuleType
) -> None:
    inbox, receiver, sender = Inbox(), nats_stage.runtime(), nats_stage.runtime()
    await Recorder.register(receiver, "worker", inbox.recorder)
    await receiver.start()
    await sender.connect()

    for message in (
        messages_pb2.TaskRequest(task_id="1", data="x"),
        messages_pb2.TaskResponse(task_id="1", result="ok"),
    ):
        answer = await sender.send_message(message, AgentId("worker", "k"))
        assert (type(answer), answer) == (type(message), message)
        assert inbox.messages[-1] == message


async def test_57_a_serializer_may_write_bare_protobuf_bytes(
    nats_stage: Stage, messages_pb2: ModuleType, broker_url: str, namespace: str
) -> None:
    receiver, sender = nats_stage.runtime(), nats_stage.runtime()
    notebook = nats_stage.notebook()
    await notebook.run_text(
        "from dataclasses import dataclass\n@dataclass\nclass TaskRequest:\n    task_id: str\n    data: str\n"
    )
    await notebook.run(57)
    for runtime in (receiver, sender):
        runtime.add_message_serializer(notebook["TaskRequestSerializer"]())
    inbox = Inbox()
    await Recorder.register(receiver, "worker", inbox.recorder)
    await receiver.start()
    await sender.connect()
    message = notebook["TaskRequest"]("1", "x")

    async with calls_on_the_wire(broker_url, namespace) as calls:
        answer = await sender.send_message(message, AgentId("worker", "k"))
        call = await asyncio.wait_for(calls.get(), DEADLINE_S)

    assert (type(answer), answer) == (type(message), message)
    assert inbox.messages == [message]
    assert call.data == messages_pb2.TaskRequest(task_id="1", data="x").SerializeToString()
    assert call.headers["Hw-Type"] == "TaskRequest"
    assert call.headers["Hw-Content"] in ("application/protobuf", PROTOBUF_DATA_CONTENT_TYPE)


async def subscribed(client: Client) -> None:
    """Return when the server knows of the client's subscriptions."""
    # The first ping is written past what waits in the client's output buffer; the second comes after it.
    await client.flush()
    await client.flush()


@asynccontextmanager
async def calls_on_the_wire(broker_url: str, namespace: str) -> AsyncIterator[asyncio.Queue[Any]]:
    """Collect the requests that pass the server."""
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    spy = await nats.connect(broker_url)
    await spy.subscribe(f"{namespace}.rpc.>", cb=seen.put)
    await subscribed(spy)
    yield seen
    await spy.close()


async def test_58_a_state_that_was_saved_is_restored_in_the_process_that_takes_over(
    nats_stage: Stage, broker_url: str
) -> None:
    agent_id, runtime = AgentId("resilient", "k"), nats_stage.runtime()
    await runtime.connect()
    async with Program(PROGRAMS / "resilient_agent.py", BROKER_URL=broker_url) as first:
        await first.printed("ready")
        await runtime.agent_load_state(agent_id, {"count": 3})
        await first.printed("Agent restored with state: {'count': 3}")
        saved = await runtime.agent_save_state(agent_id)
        first.kill()
        async with Program(PROGRAMS / "resilient_agent.py", BROKER_URL=broker_url) as second:
            await second.printed("ready")
            # Waits until the second process has taken over.
            await runtime.agent_load_state(agent_id, saved)
            await second.printed("Agent restored with state: {'count': 3}")
            assert await runtime.agent_save_state(agent_id) == {"count": 3}


async def test_59_a_call_that_takes_too_long_ends_as_an_error_response_and_cancels_the_other_process(
    nats_stage: Stage, broker_url: str
) -> None:
    notebook = nats_stage.notebook(
        RoutedAgent=RoutedAgent, rpc=rpc, MessageContext=MessageContext, AgentId=AgentId, Request=stand_ins.Request,
        Response=stand_ins.Response, ErrorResponse=stand_ins.ErrorResponse, SubRequest=stand_ins.SubRequest,
    )  # fmt: skip
    await notebook.run(59)
    handler, runtime = notebook["TimeoutHandler"], nats_stage.runtime()
    await handler.register(runtime, "handler", handler)
    await runtime.start()
    async with Program(PROGRAMS / "slow_worker.py", BROKER_URL=broker_url) as worker:
        await worker.printed("ready")
        started = asyncio.get_running_loop().time()
        answer = await runtime.send_message(stand_ins.Request("x"), AgentId("handler", "k"), timeout=DEADLINE_S)
        assert answer == stand_ins.ErrorResponse(error="Request timed out")
        assert asyncio.get_running_loop().time() - started >= 5
        await worker.printed("was cancelled")


async def test_60_an_event_reaches_the_subscriber_in_another_process(nats_stage: Stage, broker_url: str) -> None:
    runtime = nats_stage.runtime()
    await runtime.connect()
    async with (
        Program(PROGRAMS / "one_of_several.py", "60", "1", BROKER_URL=broker_url) as publisher,
        Program(PROGRAMS / "one_of_several.py", "60", "2", BROKER_URL=broker_url) as subscriber,
    ):
        await publisher.printed("ready")
        await subscriber.printed("ready")
        # What makes the publisher publish is an event for it alone, on the topic of its own messages.
        await runtime.publish_message(stand_ins.TriggerEvent(), TopicId("publisher:", "k"))
        await subscriber.printed("Received event: something happened")
    assert publisher.lines == ["ready"]


async def test_61_three_processes_share_the_keys_and_each_message_is_handled_once(
    nats_stage: Stage, broker_url: str
) -> None:
    runtime = nats_stage.runtime()
    await runtime.connect()
    in_flight = asyncio.Semaphore(64)
    async with (
        Program(PROGRAMS / "one_of_several.py", "61", "1", BROKER_URL=broker_url) as first,
        Program(PROGRAMS / "one_of_several.py", "61", "2", BROKER_URL=broker_url) as second,
        Program(PROGRAMS / "one_of_several.py", "61", "3", BROKER_URL=broker_url) as third,
    ):
        workers = (first, second, third)
        for worker in workers:
            await worker.printed("ready")

        async def send(number: int) -> str:
            async with in_flight:
                recipient = AgentId("worker", f"instance-{number % 100}")
                response = await runtime.send_message(stand_ins.Request(str(number)), recipient)
                return response.result

        processes = await asyncio.gather(*(send(number) for number in range(1000)))
        for worker in workers:
            await worker.send_signal(SIGTERM)
            await worker.ended_well()

    assert len(set(processes)) == 3
    # All messages of one key met in one process.
    assert len({(number % 100, process) for number, process in enumerate(processes)}) == 100
    handled = [line.removeprefix("handled ") for worker in workers for line in worker.lines if line != "ready"]
    assert sorted(map(int, handled)) == list(range(1000))


async def test_62_a_call_and_an_event_each_have_one_trace_across_two_processes(broker_url: str) -> None:
    async with Program(PROGRAMS / "traced.py", "worker", BROKER_URL=broker_url) as worker:
        await worker.printed("ready")
        async with Program(PROGRAMS / "traced.py", "sender", BROKER_URL=broker_url) as sender:
            await sender.ended_well()
        await worker.printed("handled the event")
        await worker.send_signal(SIGTERM)
        await worker.ended_well()

    sent = {span["name"]: span["context"]["trace_id"] for span in spans_in(sender.lines)}
    spans = [span for span in spans_in(worker.lines) if span["name"] == "autogen process worker.(k)-A"]
    handled = [span["context"]["trace_id"] for span in spans]
    assert set(sent) == {"autogen create worker.(k)-A", "autogen create news.(k)-T"}
    assert len(set(sent.values())) == 2
    assert sorted(handled) == sorted(sent.values())


def spans_in(lines: list[str]) -> list[dict[str, Any]]:
    """Return the spans among the lines of a program, which prints them as indented JSON."""
    text, decoder, found = "\n".join(line for line in lines if line[:1] in ("{", "}", " ")), json.JSONDecoder(), []
    while text := text.strip():
        span, end = decoder.raw_decode(text)
        found.append(span)
        text = text[end:]
    return found


def test_63_the_compose_file_has_the_documented_services_variables_and_replicas() -> None:
    printed = read_yaml(example(63).text)["services"]
    ours = read_yaml((ROOT / "examples" / "docker-compose.yaml").read_text())["services"]

    assert list(ours) == list(printed)
    for name in ("worker", "coordinator"):
        assert ours[name]["depends_on"] == printed[name]["depends_on"]
        assert ours[name]["environment"] == [
            each.replace("grpc://broker:50051", "nats://broker:4222") for each in printed[name]["environment"]
        ]
        program = Path(ours[name]["command"][-1])
        assert (ROOT / "examples" / "worker_and_coordinator" / program.name).is_file()
        assert ours[name]["volumes"] == [f"./worker_and_coordinator:{program.parent}:ro"]
    assert ours["worker"]["deploy"] == printed["worker"]["deploy"] == {"replicas": 3}
    assert ours["broker"]["image"].startswith("nats:")
    assert "--jetstream" in ours["broker"]["command"]


async def test_63_three_runtimes_with_one_instance_id_run_side_by_side(
    nats_stage: Stage, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setenv("INSTANCE_ID", "worker-1")
    notebook, inboxes = nats_stage.notebook(), [Inbox() for _ in range(3)]
    await notebook.run_text("from hivewire import create_distributed_runtime")
    for number, inbox in enumerate(inboxes):
        notebook[f"runtime{number}"] = await notebook["create_distributed_runtime"]()
        await Recorder.register(notebook[f"runtime{number}"], "worker", inbox.recorder)
        await notebook[f"runtime{number}"].start()

    for number in range(100):
        await notebook["runtime0"].send_message(number, AgentId("worker", str(number)))

    assert all(inbox.messages for inbox in inboxes)
    assert sorted(number for inbox in inboxes for number in inbox.messages) == list(range(100))


def test_64_the_manifest_has_the_documented_fields() -> None:
    printed = read_yaml(example(64).text)
    ours = read_yaml((ROOT / "k8s" / "examples" / "worker-deployment.yaml").read_text())
    (printed_container,) = printed["spec"]["template"]["spec"].pop("containers")
    (container,) = ours["spec"]["template"]["spec"].pop("containers")

    assert includes(ours, printed)
    assert container["name"] == printed_container["name"]
    assert container["env"][1:] == printed_container["env"][1:]
    assert container["env"][0] == {"name": "BROKER_URL", "value": "nats://nats:4222"}


def includes(ours: Any, printed: Any) -> bool:
    if isinstance(printed, dict):
        return all(key in ours and includes(ours[key], value) for key, value in printed.items())
    return bool(ours == printed)


async def test_64_the_broker_and_the_pods_name_are_enough_to_start(broker_url: str) -> None:
    manifest = read_yaml((ROOT / "k8s" / "examples" / "worker-deployment.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    program = ROOT / "examples" / "worker_and_coordinator" / Path(container["command"][-1]).name
    names = [each["name"] for each in container["env"]]
    values = {"BROKER_URL": broker_url, "INSTANCE_ID": "worker-agent-5d8f7c9b6-x2x4z"}
    assert set(names) == set(values)

    async with Program(program, **values) as worker:
        await worker.printed("worker is ready")
        await worker.send_signal(SIGTERM)
        await worker.ended_well()
