"""Direct messages as their worker sees them: run the turn, answer once, give signs of life meanwhile.

Whatever happens in the turn becomes an answer; a caller never waits for one that does not come while this process
lives. The one silence is deliberate: a process whose session has lapsed while the turn ran does not answer, because
another one may own the agent by now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

from nats.aio.msg import Msg

from hivewire.exceptions import (
    AccessDeniedError,
    BrokerUnavailableError,
    DeadlineExceededError,
    MessageDroppedException,
    MessageTooLargeError,
    RuntimeStateError,
    SerializationError,
    UndeliverableException,
    WorkerLostError,
)
from hivewire.logging import (
    EVENT_LOGGER_NAME,
    DeliveryStage,
    MessageEvent,
    MessageHandlerExceptionEvent,
    MessageKind,
    current_message,
)
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import NestedCalls
from hivewire.model.ids import AgentId
from hivewire.model.interventions import InterventionChain
from hivewire.model.remote_errors import encode_error
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.nats.broker import Broker
from hivewire.nats.caller_watch import CallerWatch
from hivewire.nats.chunk_sender import ChunkSender
from hivewire.nats.envelope import (
    EXPIRED,
    NONE_TYPE_NAME,
    CallEnvelope,
    EnvelopeError,
    ReplyEnvelope,
    call_id_of,
    decode_call,
    encode_reply,
)
from hivewire.nats.kept_chunks import KeptChunks
from hivewire.nats.outbox import Outbox
from hivewire.nats.session import SessionKeeper
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import token, untoken
from hivewire.nats.turn import SessionLapsedError, Streamed, Turn, TurnWithdrawnError
from hivewire.nats.turns import Turns
from hivewire.telemetry import RuntimeMetrics
from hivewire.telemetry.label_values import OTHER
from hivewire.telemetry.measuring import MessageResult

log = logging.getLogger("hivewire.incoming")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

FORWARDED_HEADER = "Hw-Forwarded"
"""On a call that one process sends on to another: the subject that its caller sent it to."""

_RECONNECT_WAIT_S = 10.0
_STOP_S = 3.0
_DOUBT_WAIT_S = 10.0
_DOUBT_POLL_S = 0.1
_EARLY_CANCEL_S = 10.0
_EARLY_CANCELS = 10_000
_MOVED = encode_reply(ReplyEnvelope(status="moved"))
_OVERLOADED = encode_reply(ReplyEnvelope(status="overloaded"))


# Not frozen, as that would make it three times as slow to build.
@dataclass(slots=True, kw_only=True)
class IncomingCall:
    """A request that was received and not answered yet. `deadline` is on the monotonic clock; `session` is the one that
    this process had when the request came. `sender` is there once the answer is a streamed one."""

    id: str
    agent: AgentId
    envelope: CallEnvelope
    reply: str
    session: str
    deadline: float
    cancellation: CancellationToken
    sender: ChunkSender | KeptChunks | None = None
    turn: Turn | None = None

    def expire(self) -> None:
        """Note that the deadline has passed, on the caller's clock."""
        self.deadline = time.monotonic()
        if self.turn is not None:
            self.turn.expire(self.deadline)


class IncomingCalls:
    """Answers direct messages. Nobody is asked here whether this process owns the agent; see `refuse` for when not.

    From `read` on a call gives signs of life and can be cancelled, until `serve` or `refuse` ends it.
    """

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        subjects: Subjects,
        keeper: SessionKeeper,
        turns: Turns,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        metrics: RuntimeMetrics,
        tasks: TaskScope,
        *,
        record_payloads: bool,
        store_timeout: float,
    ) -> None:
        self._store_timeout = store_timeout
        self._refusing = False
        self._broker = broker
        self._outbox = outbox
        self._subjects = subjects
        self._keeper = keeper
        self._turns = turns
        self._serializers = serializers
        self._interventions = interventions
        self._metrics = metrics
        self._tasks = tasks
        self._record_payloads = record_payloads
        self._watch = CallerWatch(broker, outbox, self._caller_gone)
        self._senders: set[ChunkSender | KeptChunks] = set()
        self._open: dict[str, IncomingCall] = {}
        self._orphans: set[str] = set()
        self._cancelled_early: OrderedDict[str, float] = OrderedDict()

    async def listen(self) -> None:
        """Listen for cancels, and look after callers."""
        await self._broker.subscribe(self._subjects.cancels, self._on_cancel)
        self._tasks.start(self._watch.run(), name="hivewire: callers")

    def tick(self) -> None:
        """To be called every second or so."""
        self._senders = {sender for sender in self._senders if sender.tick()}

    def wants_reply(self, message: Msg) -> bool:
        """Tell whether a message is a request. One that is not can't be answered, and is not run."""
        if not message.reply:
            log.warning("a message to %s is dropped: it names no subject for the reply", message.subject)
        return bool(message.reply)

    def may_start(self) -> bool:
        """Tell whether this process still holds its session, so that an agent is its to run."""
        return not self._refusing and self._keeper.valid()

    def refuse_all(self) -> None:
        """Send the callers of all requests that come from now on elsewhere."""
        self._refusing = True

    async def bounce(self, message: Msg) -> None:
        """Tell the caller of a request that was not read that it was not executed here."""
        headers, payload = _MOVED
        await self._publish(message.reply, payload, headers)

    async def refuse(self, call: IncomingCall) -> None:
        """End a call by telling its caller that it was not executed here."""
        self._forget(call)
        headers, payload = _MOVED
        await self._publish(call.reply, payload, headers)

    async def forward(self, call: IncomingCall, message: Msg, subject: str) -> None:
        """Send a call on to a process's control subject, which answers it or sends its caller back here."""
        self._forget(call)
        headers = {**(message.headers or {}), FORWARDED_HEADER: message.subject}
        try:
            await self._broker.publish(subject, message.data, reply=message.reply, headers=headers)
        except BrokerUnavailableError as error:
            log.warning("a direct message to %s is not sent on: %s", call.agent, error)

    async def read(self, message: Msg, agent_type: str) -> IncomingCall | None:
        """Read a request. None: it is cancelled, can't be read, or finds no room, and its caller was told so."""
        reply = message.reply
        if not reply:
            log.warning("a direct message on %s names no subject for the answer and is not executed", message.subject)
            return None
        call_id = call_id_of(reply)
        if self._cancelled_early and self._cancelled_early.pop(call_id, None) is not None:
            return None
        try:
            key_token = self._subjects.parse_rpc(message.subject).key_token
            envelope = decode_call(message.headers, message.data)
            agent = AgentId(agent_type, addressed_key(key_token, envelope.key))
        except (EnvelopeError, ValueError) as error:
            self._metrics.message(agent_type, "direct", message_type=OTHER, size_bytes=len(message.data)).finished(
                "error"
            )
            unreadable = SerializationError(f"The request can't be read: {error}")
            await self._answer_error(reply, unreadable, agent_type, self._keeper.id)
            return None
        if not self._turns.admit(call_id, agent, envelope.chain):
            headers, payload = _OVERLOADED
            await self._publish(reply, payload, headers)
            return None
        self._keeper.call_received(reply)
        if not envelope.kept:
            self._watch.add(reply)
        call = self._open[call_id] = IncomingCall(
            id=call_id,
            agent=agent,
            envelope=envelope,
            reply=reply,
            session=self._keeper.id,
            deadline=time.monotonic() + envelope.left_ms / 1000,
            cancellation=CancellationToken(),
        )
        return call

    def turn_of(self, call: IncomingCall, owner: object = None) -> Turn:
        """Return the turn that a call asks for."""
        envelope = call.envelope
        call.turn = Turn(
            id=call.id,
            agent=call.agent,
            type_name=envelope.type_name,
            content_type=envelope.content_type,
            payload=envelope.payload,
            message_id=envelope.message_id or call.id,
            operation=envelope.operation,
            sender=envelope.sender,
            chain=envelope.chain,
            trace=envelope.trace,
            token=call.cancellation,
            deadline=call.deadline,
            owner=owner,
            emit=partial(self._emit, call),
        )
        if envelope.operation == "message":
            call.turn.meter = self._metrics.message(
                call.agent.type, "direct", message_type=envelope.type_name, size_bytes=len(envelope.payload)
            )
        return call.turn

    async def serve(self, call: IncomingCall, turn: Turn) -> None:
        """Run the call's turn and answer."""
        named = current_message.set(turn)
        meter = turn.meter
        if meter is not None:
            meter.comes()
        try:
            if call.envelope.kept:
                await self._keep(call)
            await self._serve(call, turn)
        except Exception:
            _finished(turn, "error")
            # What goes wrong with one answer must not end the work of all others.
            log.exception("answering a direct message to %s failed", call.agent)
        finally:
            self._forget(call)
            if meter is not None:
                meter.goes()
            if isinstance(call.sender, KeptChunks):
                await call.sender.close()
            current_message.reset(named)

    async def _serve(self, call: IncomingCall, turn: Turn) -> None:
        reply, agent_id, session = call.reply, call.agent, call.session
        try:
            value = await self._turns.run(turn)
            if isinstance(value, Streamed):
                _finished(turn, "ok")
                await self._end(call, ReplyEnvelope(status="end"))
                return
            answer = await self._encoded(value, agent_id, call.envelope)
            _finished(turn, "ok")
            if isinstance(call.sender, KeptChunks):
                if answer.type_name != NONE_TYPE_NAME:
                    await call.sender.send(answer, call.cancellation, None)
                await self._end(call, ReplyEnvelope(status="end"))
                return
            headers, payload = encode_reply(answer)
        except (TurnWithdrawnError, SessionLapsedError):
            await self.refuse(call)
        except BaseException as error:
            _finished(turn, _result_of(error))
            if self._was_stopped(error, call, turn):
                stopped = WorkerLostError(f"The process of {agent_id} stopped before the handler had finished")
                await self._fail(call, stopped)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            if call.id in self._orphans:
                error = BrokerUnavailableError(
                    f"The call to {agent_id} was cancelled: its caller's connection to NATS was gone"
                )
            if isinstance(call.sender, KeptChunks) and _ran_out(call, error):
                error = DeadlineExceededError(f"The handler of {agent_id} was cancelled: its message's deadline passed")
            if not call.cancellation._cancelled:
                log.info("%s raised %s on a direct message", agent_id, type(error).__name__)
            self._report_failure(agent_id, call.envelope, error)
            await self._fail(call, error)
        else:
            try:
                await self._send(reply, payload, headers, session)
            except MessageTooLargeError as error:
                await self._answer_error(reply, error, agent_id, session)

    def _was_stopped(self, error: BaseException, call: IncomingCall, turn: Turn) -> bool:
        """Tell whether a turn ended as the process ends, or a part of its runtime failed."""
        if self._tasks.closing:
            # The calls that its handler waited for are broken off with a `RuntimeStateError`.
            return isinstance(error, asyncio.CancelledError | RuntimeStateError)
        task = asyncio.current_task()
        is_cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
        return bool(is_cancelled) and not turn.overdue and not call.cancellation._cancelled

    async def _emit(self, call: IncomingCall, chunk: Any, nested: NestedCalls | None) -> None:
        """Send one chunk of a streamed answer."""
        encoded = await self._encoded(chunk, call.agent, call.envelope)
        if not self._is_held(call.session) and not await self._holds(call.session):
            raise asyncio.CancelledError("The session that the stream began in is lost")
        await self._sender_of(call).send(encoded, call.cancellation, nested)

    async def _end(self, call: IncomingCall, outcome: ReplyEnvelope) -> None:
        if not await self._holds(call.session):
            return
        try:
            async with asyncio.timeout(_STOP_S if self._tasks.closing else None):
                await self._sender_of(call).finish(outcome)
        except (UndeliverableException, TimeoutError) as error:
            await self._answer_error(call.reply, error, call.agent, call.session)

    async def _fail(self, call: IncomingCall, error: BaseException) -> None:
        if call.sender is None:
            await self._answer_error(call.reply, error, call.agent, call.session)
        elif isinstance(call.sender, ChunkSender) and call.cancellation._cancelled and call.id not in self._orphans:
            # Its reader has left it.
            self._senders.discard(call.sender)
            call.sender.close()
        else:
            await self._end(call, ReplyEnvelope(status="error", payload=encode_error(error, agent=str(call.agent))))

    async def _keep(self, call: IncomingCall) -> None:
        """Store the answer under the id of its call, as a stream."""
        call.sender = KeptChunks(
            self._broker, self._outbox, self._subjects.chunk(call.id), call.reply, store_timeout=self._store_timeout
        )
        self._senders.add(call.sender)
        await call.sender.open(self._subjects.pulse(call.id))
        # From now on it is here that the stream goes on or ends, and not with its caller.
        headers, payload = encode_reply(ReplyEnvelope(status="alive"))
        self._outbox.post(call.reply, payload, headers=headers)

    def _sender_of(self, call: IncomingCall) -> ChunkSender | KeptChunks:
        if call.sender is None:
            call.sender = ChunkSender(self._broker, self._outbox, call.reply)
            self._senders.add(call.sender)
        return call.sender

    async def _encoded(self, value: Any, agent_id: AgentId, envelope: CallEnvelope) -> ReplyEnvelope:
        if self._interventions and envelope.operation == "message":
            value = await self._interventions.on_response(value, sender=agent_id, recipient=envelope.sender)
        encoded = self._serializers.encode(value)
        if envelope.operation == "message" and _event_log.isEnabledFor(logging.INFO):
            _event_log.info(
                MessageEvent(
                    payload=encoded.payload.decode(errors="replace") if self._record_payloads else encoded.type_name,
                    sender=agent_id,
                    receiver=envelope.sender,
                    kind=MessageKind.RESPOND,
                    delivery_stage=DeliveryStage.SEND,
                )
            )
        return ReplyEnvelope(type_name=encoded.type_name, content_type=encoded.content_type, payload=encoded.payload)

    def _report_failure(self, agent_id: AgentId, envelope: CallEnvelope, error: BaseException) -> None:
        is_message = envelope.operation == "message" and not isinstance(error, MessageDroppedException)
        if is_message and _event_log.isEnabledFor(logging.INFO):
            payload = envelope.payload.decode(errors="replace") if self._record_payloads else envelope.type_name
            _event_log.info(MessageHandlerExceptionEvent(payload=payload, handling_agent=agent_id, exception=error))

    async def _answer_error(self, reply: str, error: BaseException, agent: AgentId | str, session: str) -> None:
        headers, payload = encode_reply(ReplyEnvelope(status="error", payload=encode_error(error, agent=str(agent))))
        await self._send(reply, payload, headers, session)

    async def _send(self, reply: str, payload: bytes, headers: dict[str, str], session: str) -> None:
        if await self._holds(session) and not await self._publish(reply, payload, headers):
            await self._send_after_reconnect(reply, payload, headers, session)

    async def _send_after_reconnect(self, reply: str, payload: bytes, headers: dict[str, str], session: str) -> None:
        try:
            await self._broker.wait_connected(asyncio.get_running_loop().time() + _RECONNECT_WAIT_S)
        except BrokerUnavailableError as error:
            log.warning("an answer could not be sent: %s", error)
            return
        # The caller may come back later than this process, and an answer that it has already is passed over.
        for pause in (0.0, 0.5, 1.5):
            await asyncio.sleep(pause)
            if await self._holds(session):
                await self._publish(reply, payload, headers)

    def _is_held(self, session: str) -> bool:
        return self._keeper.id == session and self._keeper.valid()

    async def _holds(self, session: str) -> bool:
        """Tell whether the session that a turn began in holds; one that is in doubt is waited for, a little while."""
        until = time.monotonic() + _DOUBT_WAIT_S
        # The keeper lives in another thread, so it can only be asked.
        while self._keeper.id == session and not self._keeper.valid() and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_DOUBT_POLL_S)
        if self._is_held(session):
            return True
        log.warning("an answer is held back: the session that its turn began in is lost")
        return False

    async def _publish(self, reply: str, payload: bytes, headers: dict[str, str]) -> bool:
        try:
            await self._broker.publish(reply, payload, headers=headers)
        except BrokerUnavailableError:
            return False
        except AccessDeniedError as error:
            log.error("an answer could not be sent: %s", error)
        return True

    def _forget(self, call: IncomingCall) -> None:
        self._open.pop(call.id, None)
        self._turns.dismiss(call.id)
        self._keeper.call_ended(call.reply)
        self._watch.remove(call.reply)
        self._orphans.discard(call.id)

    def _caller_gone(self, reply: str) -> None:
        call_id = call_id_of(reply)
        call = self._open.get(call_id)
        if call is not None:
            log.info("the caller of %s is gone: its call is cancelled", call_id)
            self._orphans.add(call_id)
            call.cancellation.cancel()

    async def _on_cancel(self, message: Msg) -> None:
        call_id = call_id_of(message.subject)
        call = self._open.get(call_id)
        if call is not None:
            if message.data == EXPIRED:
                call.expire()
            call.cancellation.cancel()
            return
        # The cancel may have overtaken its call, which is then dropped when it comes.
        now = time.monotonic()
        early = self._cancelled_early
        early[call_id] = now
        while early and (len(early) > _EARLY_CANCELS or now - next(iter(early.values())) > _EARLY_CANCEL_S):
            early.popitem(last=False)


def _finished(turn: Turn, result: MessageResult) -> None:
    if turn.meter is not None:
        turn.meter.finished(result)


def _result_of(error: BaseException) -> MessageResult:
    if isinstance(error, MessageDroppedException):
        return "dropped"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"


def _ran_out(call: IncomingCall, error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) and time.monotonic() >= call.deadline


def addressed_key(key_token: str, named_key: str | None) -> str:
    """Return the agent key of a message, which the subject tells, or a header where the subject has only a hash.

    Raises:
        EnvelopeError: the header is missing or names another key.
    """
    if named_key is None:
        key = untoken(key_token)
        if key is None:
            raise EnvelopeError("the key is too long for the subject, and the header Hw-Key does not name it")
        return key
    if token(named_key) != key_token:
        raise EnvelopeError("the header Hw-Key names another agent than the subject")
    return named_key
