"""The examples of the core reference, run as printed."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image as PillowImage

from hivewire import (
    JSON_DATA_CONTENT_TYPE,
    PROTOBUF_DATA_CONTENT_TYPE,
    AgentId,
    BaseAgent,
    CancellationToken,
    ComponentLoader,
    DefaultTopicId,
    DropMessage,
    Image,
    KvStore,
    MessageContext,
    MessageDroppedException,
    MessageSerializer,
    NatsAgentRuntime,
    RoutedAgent,
    RpcCall,
    SerializationError,
    TopicId,
    TypeSubscription,
    UnknownPayload,
    is_component_instance,
    message_handler,
)
from hivewire.logging import MessageEvent, MessageKind
from hivewire.model.caches import read_cache, write_cache
from snippets.documented_examples import example
from snippets.stages import Stage
from snippets.stand_ins import Inbox, MyMessage, Recorder


async def test_01_an_agent_made_with_an_id_and_a_runtime_has_both(stage: Stage) -> None:
    notebook = stage.notebook()
    await notebook.run(1)
    agent_id, runtime = AgentId("my_agent", "key"), stage.runtime()

    agent: BaseAgent = notebook["MyAgent"](agent_id, runtime)

    assert agent.id == agent_id
    assert agent.runtime is runtime


async def test_02_a_routed_agent_handles_a_message_and_a_call_by_method_name(stage: Stage) -> None:
    notebook = stage.notebook(MessageContext=MessageContext)
    await notebook.run(2)
    runtime = stage.runtime()
    await notebook["WorkerAgent"].register(runtime, "worker", notebook["WorkerAgent"])
    await runtime.start()
    worker = AgentId("worker", "default")

    assert await runtime.send_message(notebook["TaskMessage"](task="sums"), worker) == "Completed: sums"
    assert await runtime.send_message(RpcCall("get_status"), worker) == {"status": "ready"}


async def test_03_a_closure_agent_made_with_a_runtime_answers_and_sends(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "recipient", inbox.recorder)
    await runtime.start()
    notebook = stage.notebook(runtime=runtime, recipient_id=AgentId("recipient", "default"))
    await notebook.run(3)

    assert await runtime.send_message("Hello", AgentId("my_agent", "default")) == "Done"
    assert inbox.messages == ["processed"]
    assert inbox.received[0].context.sender == AgentId("my_agent", "default")


async def test_04_plain_values_are_sent_and_published(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.add_subscription(TypeSubscription("events", "worker"))
    await runtime.start()
    notebook = stage.notebook()
    await notebook.run(4)

    await notebook["example"](runtime)
    await runtime.stop_when_idle()

    assert inbox.messages == ["Hello", {"event": "started"}]
    assert [each.context.topic_id for each in inbox.received] == [None, TopicId("events", "default")]


async def test_05_the_runtime_in_one_process_takes_a_factory_and_a_subscription_and_starts(local_stage: Stage) -> None:
    inbox = Inbox()

    class WorkerAgent(Recorder):
        def __init__(self) -> None:
            super().__init__(inbox.received)

    notebook = local_stage.notebook(WorkerAgent=WorkerAgent)
    await notebook.run(5)

    await notebook["runtime"].publish_message("x", TopicId("tasks", "s"))
    await notebook["runtime"].stop_when_idle()

    assert inbox.agents == [AgentId("worker", "s")]


async def test_06_a_handler_written_outside_of_a_class_sees_its_context(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook(message_handler=message_handler)
    await notebook.run(6)

    class Printer(RoutedAgent):
        handle = notebook["handle"]

    runtime = stage.runtime()
    await Printer.register(runtime, "printer", Printer)
    await runtime.add_subscription(TypeSubscription("news", "printer"))
    await runtime.start()

    await runtime.send_message("x", AgentId("printer", "k"), sender=AgentId("writer", "1"), message_id="m-1")
    await runtime.publish_message("x", TopicId("news", "k"), message_id="m-2")
    await runtime.stop_when_idle()

    assert capsys.readouterr().out == (
        "From: writer/1\nTopic: None\nMessage ID: m-1\nFrom: None\nTopic: news/k\nMessage ID: m-2\n"
    )


async def test_07_an_agent_id_is_made_by_keywords_and_has_a_type_and_a_key(
    local_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await local_stage.notebook().run(7)
    assert capsys.readouterr().out == "worker\ninstance_1\n"


async def test_08_an_agent_type_has_a_name(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(8)
    assert notebook["worker_type"].name == notebook["worker_type"].type == "worker"


async def test_09_a_topic_id_is_made_by_keywords(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(9)
    assert notebook["topic"] == TopicId("events", "system")


async def test_10_a_proxy_sends_without_a_sender(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.start()
    notebook = stage.notebook(runtime=runtime, agent_id=AgentId("worker", "k"))
    await notebook.run(10)

    assert notebook["result"] == "Hello"
    assert inbox.received[0].context.sender is None


async def test_11_a_type_subscription_is_made_by_keywords_and_added(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.start()
    await stage.notebook(runtime=runtime).run(11)

    await runtime.publish_message("x", TopicId("tasks", "s"))
    await runtime.publish_message("y", TopicId("tasks.other", "s"))
    await runtime.stop_when_idle()

    assert inbox.messages == ["x"]
    assert inbox.agents == [AgentId("worker", "s")]


async def test_12_a_prefix_subscription_gets_the_topics_with_that_prefix_only(stage: Stage) -> None:
    inbox, runtime, notebook = Inbox(), stage.runtime(), stage.notebook()
    await notebook.run(12)
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.add_subscription(notebook["subscription"])
    await runtime.start()

    await runtime.publish_message("other", TopicId("other", "s"))
    await runtime.publish_message("a", TopicId("task.a", "s"))
    await runtime.stop_when_idle()

    assert inbox.messages == ["a"]


async def test_13_a_default_subscription_gets_what_is_published_to_the_default_topic(stage: Stage) -> None:
    inbox, runtime, notebook = Inbox(), stage.runtime(), stage.notebook()
    await notebook.run(13)
    await Recorder.register(runtime, "logger", inbox.recorder)
    await runtime.add_subscription(notebook["subscription"])
    await runtime.start()

    await runtime.publish_message("x", DefaultTopicId())
    await runtime.publish_message("y", TopicId("other", "default"))
    await runtime.stop_when_idle()

    assert inbox.messages == ["x"]


async def test_14_a_serializer_without_properties_is_the_last_resort_for_its_content_type(stage: Stage) -> None:
    class Note(dict[str, Any]):
        """Nothing built in serializes this class."""

    notebook = stage.notebook(Any=Any, json=json)
    await notebook.run(14)
    inbox, runtime = Inbox(), stage.runtime()
    runtime.add_message_serializer(notebook["MySerializer"]())
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.start()

    assert await runtime.send_message(Note(text="hi"), AgentId("worker", "k")) == {"text": "hi"}
    assert inbox.messages == [{"text": "hi"}]


async def test_15_a_decorated_component_is_written_down_and_built_again(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(15)
    component = notebook["MyComponent"]({"value": 7})

    config = component.to_config()

    assert is_component_instance(component)
    assert (config.component_type, config.config, config.provider) == ("MyComponent", {"value": 7}, None)
    for loaded in (
        ComponentLoader.load_component(config),
        ComponentLoader.load_component(component.dump_component()),
        notebook["MyComponent"].load_component(config),
    ):
        assert type(loaded) is notebook["MyComponent"]
        assert loaded.value == component.value


async def test_16_an_image_is_read_from_bytes_a_file_and_when_allowed_a_url(
    local_stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = BytesIO()
    PillowImage.new("RGB", (2, 3), "red").save(buffer, format="PNG")
    PillowImage.new("RGB", (4, 5), "blue").save(tmp_path / "photo.jpg", format="JPEG")
    monkeypatch.chdir(tmp_path)
    fetched: list[str] = []

    def fetch(url: str, access: object) -> bytes:
        fetched.append(url)
        return buffer.getvalue()

    monkeypatch.setattr("hivewire.model.images.fetch", fetch)
    notebook = local_stage.notebook(image_bytes=buffer.getvalue())
    with pytest.raises(ValueError, match="allow_urls"):
        await notebook.run(16)
    # All but the URL worked.
    assert notebook["image"].image.size == (4, 5)

    Image.allow_urls("example.com")
    try:
        await notebook.run(16)
    finally:
        Image.forbid_urls()
    assert notebook["image"].image.size == (2, 3)
    assert fetched == ["https://example.com/image.png"]
    assert base64.b64decode(notebook["image"].to_base64()).startswith(b"\x89PNG")


async def test_17_a_cache_store_may_have_async_methods_which_users_of_stores_await(local_stage: Stage) -> None:
    notebook = local_stage.notebook(Any=Any)
    await notebook.run(17)
    store = notebook["CustomStore"]()

    assert await store.get("key") is None
    await write_cache(store, "key", "value")
    # The printed methods do nothing.
    assert await read_cache(store, "key", "default") == "default"


async def test_18_an_in_memory_store_is_awaited_when_set_and_not_when_got(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    with pytest.raises(TypeError, match="can't be used in 'await' expression"):
        await notebook.run(18)
    assert notebook["store"].get("key") == "value"


async def test_18_a_kv_store_is_awaited_both_times(nats_stage: Stage) -> None:
    runtime: NatsAgentRuntime = nats_stage.runtime()
    await runtime.start()
    notebook = nats_stage.notebook(KvStore=KvStore, runtime=runtime)
    await notebook.run_text(example(18).source().replace("InMemoryStore()", 'KvStore(runtime, "cache")'))
    assert notebook["result"] == "value"


async def test_19_an_intervention_handler_approves_a_message_or_raises_to_drop_it(stage: Stage) -> None:
    async def get_approval(message: str) -> bool:
        return message == "please"

    notebook = stage.notebook(Any=Any, needs_approval=lambda message: message != "harmless", get_approval=get_approval)
    await notebook.run(19)
    inbox, runtime = Inbox(), stage.runtime(intervention_handlers=[notebook["ApprovalHandler"]()])
    await Recorder.register(runtime, "worker", inbox.recorder)
    await runtime.start()
    worker = AgentId("worker", "k")

    assert await runtime.send_message("harmless", worker) == "harmless"
    assert await runtime.send_message("please", worker) == "please"
    with pytest.raises(MessageDroppedException, match="Not approved"):
        await runtime.send_message("drop tables", worker)
    assert inbox.messages == ["harmless", "please"]


async def test_20_drop_message_is_raised_as_any_exception(local_stage: Stage) -> None:
    with pytest.raises(DropMessage, match="Message rejected by policy"):
        await local_stage.notebook().run(20)


async def test_21_a_token_tells_whether_it_is_cancelled_and_cancels_itself_after_a_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It returns when the token is cancelled, so it stands in a function.
    notebook = stage.notebook()
    body = example(21).source().replace("\n", "\n    ")
    await notebook.run_text(f"def printed():\n    {body}\n    return token")
    timers: list[tuple[float, Callable[[], object]]] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            asyncio.get_running_loop(), "call_later", lambda delay, fire: timers.append((delay, fire)) or Mock()
        )
        token: CancellationToken = notebook["printed"]()
    assert not token.is_cancelled
    started, seen = asyncio.Event(), asyncio.Event()

    class Waiting(RoutedAgent):
        @message_handler
        async def on_text(self, message: str, ctx: MessageContext) -> None:
            ctx.cancellation_token.add_callback(seen.set)
            started.set()
            await seen.wait()

    runtime = stage.runtime()
    await Waiting.register(runtime, "waiting", Waiting)
    await runtime.start()
    call = asyncio.ensure_future(
        runtime.send_message("x", AgentId("waiting", "k"), cancellation_token=token, timeout=30)
    )
    await asyncio.wait_for(started.wait(), 30)

    # Ten seconds pass.
    ((delay_s, fire),) = timers
    fire()

    assert delay_s == 10.0
    assert token.is_cancelled
    assert token.is_cancelled()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(seen.wait(), 30)


async def test_22_each_span_helper_makes_one_span_with_the_printed_keywords(
    local_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)

    class WorkerAgent:
        async def handle(self, task: str) -> str:
            return task.upper()

    class Calculator:
        def add(self, first: int, second: int) -> int:
            return first + second

    notebook = local_stage.notebook(
        WorkerAgent=WorkerAgent, agent_id=AgentId("worker", "k"), task="sums", calculator=Calculator()
    )
    await notebook.run(22)

    assert notebook["result"] == 3
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["create_agent worker", "invoke_agent worker", "execute_tool calculator"]
    invoked = dict(spans[1].attributes or {})
    assert invoked["gen_ai.agent.id"] == "worker/k"
    assert invoked["message_type"] == "Task"


async def test_23_levels_set_on_the_root_logger_hold_for_events(stage: Stage) -> None:
    names = ("autogen_core", "autogen_core.events", "autogen_core.trace")
    root_level = logging.getLogger(names[0]).level
    seen: list[MessageEvent] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.msg, MessageEvent):
                seen.append(record.msg)

    handler = Handler()
    notebook = stage.notebook()
    try:
        await notebook.run(23)
        assert notebook["ROOT_LOGGER_NAME"] == names[0]
        assert notebook["event_logger"] is logging.getLogger(names[1])
        assert notebook["trace_logger"] is logging.getLogger(names[2])
        assert notebook["event_logger"].isEnabledFor(logging.INFO)
        assert not notebook["event_logger"].isEnabledFor(logging.DEBUG)

        notebook["event_logger"].addHandler(handler)
        runtime = stage.runtime()
        await Recorder.register(runtime, "worker", Recorder)
        await runtime.start()
        await runtime.send_message("x", AgentId("worker", "k"))
        kinds = [each.kwargs["kind"] for each in seen]
        assert kinds[:3] == [str(MessageKind.DIRECT), str(MessageKind.DIRECT), str(MessageKind.RESPOND)]
    finally:
        logging.getLogger(names[1]).removeHandler(handler)
        logging.getLogger(names[0]).setLevel(root_level)


async def test_24_arguments_of_a_function_call_are_kept_as_json_text(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(24)
    assert json.loads(notebook["call"].arguments) == {"a": 1, "b": 2}


class _Foreign(MessageSerializer[MyMessage]):
    """Writes a type name that only this serializer's process knows."""

    @property
    def type_name(self) -> str:
        return "foreign"

    def serialize(self, message: MyMessage) -> bytes:
        return message.field1.encode()

    def deserialize(self, payload: bytes) -> MyMessage:
        raise AssertionError("nobody reads it in the sender's process")


async def test_25_a_message_of_an_unknown_type_arrives_as_an_unknown_payload(nats_stage: Stage) -> None:
    notebook = nats_stage.notebook()
    await notebook.run(25)
    inbox, receiver, sender = Inbox(), nats_stage.runtime(), nats_stage.runtime()
    await Recorder.register(receiver, "worker", lambda: inbox.recorder(_nothing))
    await receiver.start()
    await sender.start()
    sender.add_message_serializer(_Foreign())

    with pytest.warns(RuntimeWarning, match="No serializer can decode 'foreign'"):
        await sender.send_message(MyMessage("x", 1), AgentId("worker", "k"))

    assert notebook["UnknownPayload"] is UnknownPayload
    assert inbox.messages == [UnknownPayload("foreign", "application/json", b"x")]


async def test_25_with_strict_payloads_an_unknown_type_is_an_error(nats_stage: Stage) -> None:
    receiver, sender = nats_stage.runtime(strict_payloads=True), nats_stage.runtime()
    await Recorder.register(receiver, "worker", Recorder)
    await receiver.start()
    await sender.start()
    sender.add_message_serializer(_Foreign())

    with pytest.raises(SerializationError, match="No serializer can decode 'foreign'"):
        await sender.send_message(MyMessage("x", 1), AgentId("worker", "k"))


async def _nothing(message: Any, ctx: MessageContext) -> None:
    return None


async def test_26_the_json_constant_is_the_printed_one(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(26)
    assert notebook["JSON_DATA_CONTENT_TYPE"] == JSON_DATA_CONTENT_TYPE


async def test_26_a_serializer_may_declare_the_printed_protobuf_content_type(stage: Stage) -> None:
    notebook = stage.notebook()
    await notebook.run(26)
    printed: str = notebook["PROTOBUF_DATA_CONTENT_TYPE"]
    assert (printed, PROTOBUF_DATA_CONTENT_TYPE) == ("application/protobuf", "application/x-protobuf")

    class Declaring(MessageSerializer[MyMessage]):
        @property
        def data_content_type(self) -> str:
            return printed

        def serialize(self, message: MyMessage) -> bytes:
            return f"{message.field1} {message.field2}".encode()

        def deserialize(self, payload: bytes) -> MyMessage:
            field1, field2 = payload.decode().split()
            return MyMessage(field1, int(field2))

    runtime = stage.runtime()
    runtime.add_message_serializer(Declaring())
    await Recorder.register(runtime, "worker", Recorder)
    await runtime.start()

    assert await runtime.send_message(MyMessage("x", 1), AgentId("worker", "k")) == MyMessage("x", 1)
