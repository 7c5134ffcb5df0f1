"""Workers that join through the gateway's port, beside workers on NATS."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from broker.proxy import TcpProxy
from gateway.conftest import DEADLINE_S, NewRuntime
from gateway.workers import Counter, Log, Step, serve_counters, until
from hivewire import (
    AccessDeniedError,
    AgentId,
    BaseAgent,
    BrokerUnavailableError,
    ClosureAgent,
    ClosureContext,
    HttpAgentRuntime,
    MessageContext,
    MessageTooLargeError,
    NotAccessibleError,
    RetryPolicy,
    RuntimeStateError,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    WorkerLostError,
)
from hivewire.http.frames import decode_frame, encode_frame
from hivewire.nats.dead_letter_store import DeadLetterFilter, DeadLetterStore, StoredLetter
from hivewire.nats.subjects import Subjects
from hivewire_gateway import GatewayServer, new_token, token_line

NewWorker = Callable[..., HttpAgentRuntime]


@pytest.fixture
async def new_worker(gateway: GatewayServer) -> AsyncIterator[NewWorker]:
    """Makes runtimes that go through the gateway, and stops them at the end."""
    made: list[HttpAgentRuntime] = []

    def make(url: str = gateway.url, **options: Any) -> HttpAgentRuntime:
        made.append(HttpAgentRuntime(url, **{"drain_timeout": 2.0, **options}))
        return made[-1]

    yield make
    await asyncio.gather(*(runtime.stop() for runtime in made))


@pytest.fixture
async def proxy(gateway: GatewayServer) -> AsyncIterator[TcpProxy]:
    """What stands between a worker and the gateway."""
    async with TcpProxy(gateway.url) as proxy:
        yield proxy


def http(proxy: TcpProxy) -> str:
    return proxy.url.replace("nats://", "http://")


class TestBesideWorkersOnNats:
    async def test_two_workers_share_the_shards_of_a_type_and_keep_their_keys(self, new_worker: NewWorker) -> None:
        logs = []
        workers = [new_worker(instance_id=f"w{number}") for number in range(2)]
        for worker in workers:
            logs.append(await serve_counters(worker))
            await worker.start()
        keys = [f"k{number}" for number in range(40)]
        for number in range(1, 4):
            await asyncio.gather(*(workers[0].send_message(Step(number), AgentId("counter", key)) for key in keys))

        served = [{key for key, _ in log.handled} for log in logs]
        assert served[0] and served[1] and not served[0] & served[1]
        assert served[0] | served[1] == set(keys)
        for log in logs:
            for key in {key for key, _ in log.handled}:
                assert [number for each, number in log.handled if each == key] == [1, 2, 3]

    async def test_state_goes_from_a_worker_over_http_to_one_on_nats_and_back(
        self, new_worker: NewWorker, new_runtime: NewRuntime
    ) -> None:
        agent = AgentId("counter", "k")
        for number, make in enumerate((new_worker, new_runtime, new_worker), start=1):
            runtime = make()
            await serve_counters(runtime)
            await runtime.start()
            answer = await runtime.send_message(Step(1), agent)
            assert answer == Step(number)
            await runtime.stop()

    async def test_events_of_one_key_stay_in_order_while_workers_of_both_kinds_come_and_go(
        self, new_worker: NewWorker, new_runtime: NewRuntime
    ) -> None:
        client = new_worker()
        first = new_worker()
        await serve_counters(first)
        await first.start()
        await client.connect()
        keys = [f"k{number}" for number in range(6)]

        async def publish() -> None:
            for number in range(60):
                for key in keys:
                    await client.publish_message(Step(number), TopicId("steps", key))

        publishing = asyncio.create_task(publish())
        second = new_runtime()
        await serve_counters(second)
        await second.start()
        await first.stop()
        third = new_worker()
        await serve_counters(third)
        await third.start()
        await second.stop()
        await publishing
        async with asyncio.timeout(DEADLINE_S):
            while not await third._is_idle():
                await asyncio.sleep(0.01)
        for key in keys:
            state = await client.agent_save_state(AgentId("counter", key))
            assert state["numbers"] == list(range(60))


class TestABrokenConnection:
    async def test_ends_a_call_with_a_clear_error_and_the_next_one_is_served(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        worker, caller = new_worker(http(proxy)), new_runtime()
        log = await serve_counters(worker)
        log.gate.clear()
        await worker.start()
        await caller.connect()
        call = asyncio.create_task(caller.send_message(Step(1), AgentId("counter", "k")))
        await until(lambda: log.entered == [("k", 1)])

        proxy.cut()
        with pytest.raises(WorkerLostError):
            async with asyncio.timeout(DEADLINE_S):
                await call
        log.gate.set()
        # What the handler had done in memory is gone with the connection.
        assert await caller.send_message(Step(10), AgentId("counter", "k")) == Step(10)
        assert log.closed == ["k"]
        assert worker.ready

    async def test_lets_an_event_be_handled_again_and_counted_once(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        worker, client = new_worker(http(proxy)), new_runtime()
        log = await serve_counters(worker)
        log.gate.clear()
        await worker.start()
        await client.connect()
        await client.publish_message(Step(1), TopicId("steps", "k"))
        await client.publish_message(Step(2), TopicId("steps", "k"))
        await until(lambda: log.entered == [("k", 1)])

        proxy.cut()
        await until(lambda: log.entered == [("k", 1), ("k", 1)])
        log.gate.set()
        await until(lambda: log.handled == [("k", 1), ("k", 2)])
        state = await client.agent_save_state(AgentId("counter", "k"))
        assert state["numbers"] == [1, 2]

    async def test_while_it_is_away_calls_and_events_wait_and_are_sent_once(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        client, worker = new_worker(http(proxy)), new_runtime()
        log = await serve_counters(worker)
        await worker.start()
        await client.connect()
        proxy.refuse()
        await until(lambda: not client._link.connected)
        assert not client.ready
        call = asyncio.create_task(client.send_message(Step(1), AgentId("counter", "k")))
        publish = asyncio.create_task(client.publish_message(Step(2), TopicId("steps", "other")))
        await asyncio.sleep(0)
        await proxy.listen()
        async with asyncio.timeout(DEADLINE_S):
            assert await call == Step(1)
            await publish
        await until(lambda: sorted(log.handled) == [("k", 1), ("other", 2)])

    async def test_for_too_long_is_an_error_that_says_so(self, new_worker: NewWorker, proxy: TcpProxy) -> None:
        client = new_worker(http(proxy), delivery_timeout=0.3, publish_timeout=0.3)
        await client.connect()
        proxy.refuse()
        await until(lambda: not client._link.connected)
        with pytest.raises(BrokerUnavailableError, match="no connection to the gateway"):
            await client.send_message(Step(1), AgentId("counter", "k"))
        with pytest.raises(BrokerUnavailableError):
            await client.publish_message(Step(1), TopicId("steps", "k"))
        await proxy.listen()

    async def test_events_published_while_it_breaks_are_stored_once(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        client, worker = new_worker(http(proxy)), new_runtime()
        log = await serve_counters(worker)
        await worker.start()
        await client.connect()

        async def publish(number: int) -> None:
            await client.publish_message(Step(number), TopicId("steps", f"k{number % 5}"))

        publishing = asyncio.gather(*(publish(number) for number in range(200)))
        for _ in range(3):
            await asyncio.sleep(0.02)
            proxy.cut()
            await until(lambda: client._link.connected)
        async with asyncio.timeout(DEADLINE_S):
            await publishing
        await until(lambda: len(log.handled) >= 200)
        async with asyncio.timeout(DEADLINE_S):
            while not await worker._is_idle():
                await asyncio.sleep(0.01)
        assert sorted(number for _, number in log.handled) == list(range(200))

    async def test_lets_a_resumable_stream_be_read_on(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        reader, worker = new_worker(http(proxy)), new_runtime()
        gate = asyncio.Event()

        async def count(ctx: ClosureContext, message: int) -> AsyncIterator[int]:
            for number in range(1, message + 1):
                if number == 6:
                    await gate.wait()
                yield number

        await ClosureAgent.register_closure(worker, "counting", count)
        await worker.start()
        await reader.connect()
        stream = reader.stream_message(10, AgentId("counting", "k"), resumable=True)
        assert [await anext(stream) for _ in range(3)] == [1, 2, 3]
        proxy.cut()
        gate.set()
        async with asyncio.timeout(DEADLINE_S):
            assert [number async for number in stream] == [4, 5, 6, 7, 8, 9, 10]
        assert stream.position == 10

    async def test_ends_another_stream_with_a_clear_error(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        reader, worker = new_worker(http(proxy)), new_runtime()
        cancelled = asyncio.Event()

        async def wait(ctx: ClosureContext, message: int, context: MessageContext) -> AsyncIterator[int]:
            yield 1
            context.cancellation_token.add_callback(cancelled.set)
            await cancelled.wait()

        await ClosureAgent.register_closure(worker, "waiting", wait)
        await worker.start()
        await reader.connect()
        stream = reader.stream_message(10, AgentId("waiting", "k"))
        assert await anext(stream) == 1
        proxy.cut()
        with pytest.raises(WorkerLostError):
            await anext(stream)
        async with asyncio.timeout(DEADLINE_S):
            await cancelled.wait()

    async def test_closes_agents_and_keeps_instances(self, new_worker: NewWorker, proxy: TcpProxy) -> None:
        worker = new_worker(http(proxy))
        log = Log()
        instance = Counter(log)
        await worker.register_agent_instance(instance, AgentId("own", "one"))
        await serve_counters(worker)
        await worker.start()
        assert await worker.send_message(Step(1), AgentId("own", "one")) == Step(1)
        proxy.cut()
        await until(lambda: not worker._link.connected)
        await until(lambda: worker._link.connected)
        assert await worker.send_message(Step(1), AgentId("own", "one"), timeout=DEADLINE_S) == Step(2)
        assert log.closed == []

    async def test_subscriptions_of_before_and_after_the_start_hold_after_it(
        self, new_worker: NewWorker, new_runtime: NewRuntime, proxy: TcpProxy
    ) -> None:
        worker, client = new_worker(http(proxy)), new_runtime()
        log = await serve_counters(worker)
        await worker.start()
        later = TypeSubscription("more", "counter")
        await worker.add_subscription(later)
        await client.connect()
        proxy.cut()
        await until(lambda: not worker._link.connected)
        await until(lambda: worker._link.connected)
        await client.publish_message(Step(1), TopicId("steps", "k"))
        await client.publish_message(Step(2), TopicId("more", "k"))
        await until(lambda: log.handled == [("k", 1), ("k", 2)])
        await worker.remove_subscription(later.id)
        await client.publish_message(Step(3), TopicId("more", "k"))
        await client.publish_message(Step(4), TopicId("steps", "k"))
        await until(lambda: log.handled == [("k", 1), ("k", 2), ("k", 4)])


class TestAGatewayThatEnds:
    async def test_lets_handlers_finish_and_sends_workers_elsewhere(
        self, new_gateway: Callable[..., Any], new_runtime: NewRuntime, nats_url: str
    ) -> None:
        first = await new_gateway(drain_timeout_s=5.0)
        caller = new_runtime()
        await caller.connect()
        async with TcpProxy(first.url) as proxy:
            worker = HttpAgentRuntime(http(proxy), drain_timeout=5.0)
            log = await serve_counters(worker)
            log.gate.clear()
            await worker.start()
            call = asyncio.create_task(caller.send_message(Step(1), AgentId("counter", "k")))
            await until(lambda: log.entered == [("k", 1)])
            second = await new_gateway()
            proxy.target(second.url)
            leaving = asyncio.create_task(first.__aexit__(None, None, None))
            await until(lambda: not worker._link.connected)
            log.gate.set()
            async with asyncio.timeout(DEADLINE_S):
                assert await call == Step(1)
                await leaving
            await until(lambda: worker._link.connected)
            assert await caller.send_message(Step(1), AgentId("counter", "k")) == Step(2)
            await worker.stop()

    async def test_leaves_calls_of_its_workers_with_a_clear_error_and_publishes_again(
        self, new_gateway: Callable[..., Any], new_runtime: NewRuntime
    ) -> None:
        first = await new_gateway(drain_timeout_s=0.2)
        served = new_runtime()
        log = await serve_counters(served)
        log.gate.clear()
        await served.start()
        async with TcpProxy(first.url) as proxy:
            client = HttpAgentRuntime(http(proxy), drain_timeout=0.2)
            await client.connect()
            call = asyncio.create_task(client.send_message(Step(1), AgentId("counter", "k")))
            await until(lambda: log.entered == [("k", 1)])
            second = await new_gateway()
            proxy.target(second.url)
            leaving = asyncio.create_task(first.__aexit__(None, None, None))
            await until(lambda: not client._link.connected)
            await client.publish_message(Step(2), TopicId("steps", "other"))
            with pytest.raises(WorkerLostError):
                async with asyncio.timeout(DEADLINE_S):
                    await call
            await leaving
            log.gate.set()
            await until(lambda: ("other", 2) in log.handled)
            assert await client.send_message(Step(3), AgentId("counter", "new")) == Step(3)
            await client.stop()


class TestConnecting:
    @pytest.mark.parametrize("url", ["nats://127.0.0.1", "127.0.0.1:8080", "http://", "http://a@b", "http://b?c=d"])
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="address of a gateway"):
            HttpAgentRuntime(url)

    async def test_nobody_there_is_an_error_that_says_so(self, unused_tcp_port: int) -> None:
        with pytest.raises(BrokerUnavailableError, match=r"No gateway answers at ws://127\.0\.0\.1"):
            await HttpAgentRuntime(f"http://127.0.0.1:{unused_tcp_port}").connect()

    @pytest.mark.parametrize(
        ("status", "error", "text"),
        [
            (401, AccessDeniedError, "refused this worker"),
            (403, AccessDeniedError, "refused this worker"),
            (404, BrokerUnavailableError, "check the address"),
            (503, BrokerUnavailableError, "takes no workers now"),
        ],
    )
    async def test_what_a_gateway_answers_is_told(self, status: int, error: type[Exception], text: str) -> None:
        def refuse(connection: ServerConnection, request: Request) -> Response:
            assert request.headers["Authorization"] == "Bearer secret"
            return connection.respond(status, '{"detail": "because"}')

        async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0, process_request=refuse) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(error, match=text) as caught:
                await HttpAgentRuntime(url, token="secret").connect()
            assert "secret" not in str(caught.value)

    async def test_another_websocket_is_no_gateway(self) -> None:
        async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(BrokerUnavailableError, match=r"not a gateway|No gateway"):
                await HttpAgentRuntime(url).connect()

    async def test_no_client_of_nats_is_loaded(self, gateway: GatewayServer) -> None:
        program = (
            "import asyncio, sys\n"
            "from hivewire import AgentId, BaseAgent, HttpAgentRuntime\n"
            "class Echo(BaseAgent):\n"
            "    async def on_message_impl(self, message, ctx): return message\n"
            "async def main():\n"
            "    async with HttpAgentRuntime(sys.argv[1]) as runtime:\n"
            "        await runtime.register_factory('echo', Echo)\n"
            "        assert await runtime.send_message('x', AgentId('echo', 'k')) == 'x'\n"
            "asyncio.run(main())\n"
            "print([n for n in sys.modules if n.split('.')[0] == 'nats' or n.startswith('hivewire.nats')])"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, gateway.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await process.communicate()
        assert (output.decode(), process.returncode) == ("[]\n", 0), errors.decode()


class TestAToken:
    @pytest.fixture
    async def guarded(self, new_gateway: Callable[..., Any], tmp_path: Path) -> tuple[GatewayServer, str]:
        token = new_token()
        (tmp_path / "tokens").write_text(token_line("narrow", token))
        rules = {"serve": ["counter"], "send": ["counter/*"], "read": ["steps/*", "more.*/*"]}
        security = {"tokens": {"file": tmp_path / "tokens"}, "principals": {"narrow": rules}}
        return await new_gateway(security=security), token

    async def test_that_is_missing_or_wrong_is_a_clear_error(self, guarded: tuple[GatewayServer, str]) -> None:
        for token in (None, "wrong"):
            with pytest.raises(AccessDeniedError, match="refused this worker"):
                await HttpAgentRuntime(guarded[0].url, token=token).connect()

    async def test_limits_what_its_worker_does(self, guarded: tuple[GatewayServer, str], new_worker: NewWorker) -> None:
        server, token = guarded
        worker = new_worker(server.url, token=lambda: token)
        await serve_counters(worker)
        await worker.start()
        assert await worker.send_message(Step(1), AgentId("counter", "k")) == Step(1)
        await worker.add_subscription(TypePrefixSubscription("more.", "counter"))
        with pytest.raises(AccessDeniedError, match="may not send to other/k"):
            await worker.send_message(Step(1), AgentId("other", "k"))
        with pytest.raises(AccessDeniedError, match="may not publish"):
            await worker.publish_message(Step(1), TopicId("steps", "k"))
        with pytest.raises(AccessDeniedError, match="may not read secrets"):
            await worker.add_subscription(TypeSubscription("secrets", "counter"))
        with pytest.raises(AccessDeniedError, match="may not read mo"):
            await worker.add_subscription(TypePrefixSubscription("mo", "counter"))
        with pytest.raises(AccessDeniedError, match="may not serve agents of type other"):
            await worker.register_factory("other", lambda: Counter(Log()))
        with pytest.raises(AccessDeniedError, match="may not publish"):
            await worker.schedule_message(Step(1), TopicId("steps", "k"), after=1)
        with pytest.raises(AccessDeniedError, match="may not serve agents of type other"):
            await worker.send_message(Step(1), AgentId("counter", "k"), sender=AgentId("other", "k"))

    async def test_shows_its_worker_neither_the_states_nor_the_schedules_of_others(
        self, new_gateway: Callable[..., Any], new_worker: NewWorker, new_runtime: NewRuntime, tmp_path: Path
    ) -> None:
        token = new_token()
        (tmp_path / "tokens").write_text(token_line("caller", token))
        principals = {"caller": {"send": ["counter/k"]}}
        server = await new_gateway(security={"tokens": {"file": tmp_path / "tokens"}, "principals": principals})
        others = new_runtime()
        await serve_counters(others)
        await others.start()
        await others.schedule_message(Step(1), AgentId("counter", "k"), after=3600, id="own")
        await others.schedule_message(Step(1), AgentId("counter", "secret"), after=3600, id="foreign")
        caller = new_worker(server.url, token=token)
        await caller.start()
        assert await caller.send_message(Step(1), AgentId("counter", "k")) == Step(1)
        assert [each.id for each in await caller.list_schedules()] == ["own"]
        with pytest.raises(AccessDeniedError, match="may not send to counter/secret"):
            await caller.get_schedule("foreign")
        assert (await caller.agent_metadata(AgentId("counter", "k")))["type"] == "counter"
        for refused in (
            caller.agent_save_state(AgentId("counter", "k")),
            caller.agent_load_state(AgentId("counter", "k"), {}),
        ):
            with pytest.raises(AccessDeniedError, match="may not serve agents of type counter"):
                await refused


class TestWhatIsNoWorker:
    async def test_without_the_subprotocol_there_is_no_connection(self, gateway: GatewayServer) -> None:
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.url.replace("http", "ws") + "/v1/workers")
        assert caught.value.response.status_code == 400

    @pytest.mark.parametrize(
        "frame",
        [
            "text",
            b"",
            b"\xff\xff\xff\xff{}",
            b"\x00\x00\x00\x02[]",
            b"\x00\x00\x00\x03{a}",
            encode_frame({}),
            encode_frame({"op": "hello"}),
            encode_frame({"id": "x", "op": "hello"}),
            encode_frame({"id": {}}),
        ],
    )
    async def test_what_is_no_frame_ends_the_connection(self, gateway: GatewayServer, frame: str | bytes) -> None:
        async with connect(gateway.url.replace("http", "ws") + "/v1/workers", subprotocols=["hivewire.v1"]) as socket:
            await socket.send(frame)
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(DEADLINE_S):
                    await socket.recv()

    @pytest.mark.parametrize(
        "header",
        [
            {"op": "send"},
            {"op": "what"},
            {"op": "hello"},
            {"op": "hello", "instance": 1, "deployment": []},
            {"op": "hello", "instance": "i", "deployment": "d", "options": {"drain_timeout": "x"}},
            {"op": "hello", "instance": "i", "deployment": "d", "options": {"concurrency": "x"}},
        ],
    )
    async def test_a_request_that_can_t_be_served_is_answered_with_an_error(
        self, gateway: GatewayServer, header: dict[str, Any]
    ) -> None:
        async with connect(gateway.url.replace("http", "ws") + "/v1/workers", subprotocols=["hivewire.v1"]) as socket:
            await socket.send(encode_frame({"id": 1, **header}))
            async with asyncio.timeout(DEADLINE_S):
                answer, _ = decode_frame(bytes(await socket.recv()))  # type: ignore[arg-type]
            assert (answer["re"], answer["error"]) == (1, 1)

    @pytest.mark.parametrize(
        "op",
        [
            "register",
            "register_instance",
            "subscribe",
            "unsubscribe",
            "send",
            "stream",
            "resume",
            "publish",
            "schedule",
            "get_schedule",
            "operate",
            "locate",
            "activate",
            "cancel_stream",
            "cancel_schedule",
        ],
    )
    async def test_a_request_without_its_values_is_answered_with_an_error(
        self, gateway: GatewayServer, op: str
    ) -> None:
        async with connect(gateway.url.replace("http", "ws") + "/v1/workers", subprotocols=["hivewire.v1"]) as socket:
            await socket.send(encode_frame({"id": 1, "op": "hello", "instance": "i", "deployment": "d"}))
            await socket.recv()
            await socket.send(encode_frame({"id": 2, "op": op}))
            async with asyncio.timeout(DEADLINE_S):
                answer, _ = decode_frame(bytes(await socket.recv()))  # type: ignore[arg-type]
            assert (answer["re"], answer["error"]) == (2, 1)

    async def test_a_message_that_is_too_large_is_a_clear_error(self, new_worker: NewWorker) -> None:
        worker = new_worker()
        await serve_counters(worker)
        await worker.start()
        with pytest.raises(MessageTooLargeError, match="send a reference"):
            await worker.send_message("x" * 2_000_000, AgentId("counter", "k"))
        assert await worker.send_message(Step(1), AgentId("counter", "k")) == Step(1)


async def test_what_lives_with_another_worker_can_t_be_had(new_worker: NewWorker) -> None:
    serving, asking = new_worker(), new_worker()
    await serve_counters(serving)
    await serving.start()
    await asking.start()
    with pytest.raises(NotAccessibleError):
        await asking.try_get_underlying_agent_instance(AgentId("counter", "k"))


async def test_after_the_stop_a_worker_is_gone_and_says_so(new_worker: NewWorker, gateway: GatewayServer) -> None:
    open_before = gateway._traffic.open
    worker = new_worker()
    log = await serve_counters(worker)
    await worker.start()
    await worker.send_message(Step(1), AgentId("counter", "k"))
    assert gateway._traffic.open == open_before + 1
    await worker.stop()
    assert log.closed == ["k"]
    with pytest.raises(RuntimeStateError):
        await worker.send_message(Step(1), AgentId("counter", "k"))
    await until(lambda: gateway._traffic.open == open_before)


class PrivateError(Exception):
    """One that the gateway does not know."""


async def test_a_failed_event_is_told_where_its_handler_runs_and_in_its_dead_letter(
    new_worker: NewWorker, new_runtime: NewRuntime, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Final(BaseAgent):
        retry_policy = RetryPolicy(attempts=6, final=(PrivateError,))

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> None:
            raise PrivateError("the secret")

    worker, client = new_worker(), new_runtime()
    await worker.register_factory("final", lambda: Final("fails"), expected_class=Final)
    await worker.add_subscription(TypeSubscription("steps", "final"))
    await worker.start()
    await client.connect()
    await client.publish_message(Step(1), TopicId("steps", "k"))

    letters = DeadLetterStore(client._broker, Subjects(namespace))
    found: list[StoredLetter] = []
    async with asyncio.timeout(DEADLINE_S):
        while not found:
            found = [each async for each in letters.find(DeadLetterFilter(agent_type="final"))]
    letter = found[0].letter
    assert letter is not None
    assert (letter.error, letter.message, letter.attempts) == (f"{__name__}.PrivateError", "the secret", 1)
    assert "raise PrivateError" in letter.traceback
    # The gateway's log holds nothing that an error may tell.
    assert [each.name for each in caplog.records if each.exc_info] == ["hivewire.http"]
    assert "the secret" not in "".join(each.getMessage() for each in caplog.records)
