"""Which shards this process owns: what it should own by the sessions that live, claimed and given up accordingly.

All processes watch the sessions and reach the same assignment. Whoever should own a shard that is free, or whose owner
is gone, claims it by compare-and-set on its position; whoever owns one that another should have gives it up, and tells
the other one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from nats.aio.msg import Msg

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError, MessageTooLargeError
from hivewire.nats import pod_numbers
from hivewire.nats.assignment import assign
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import Bucket, BucketView, WriteConflictError
from hivewire.nats.event_stream import EventStream
from hivewire.nats.incoming import FORWARDED_HEADER
from hivewire.nats.owned_shard import OwnedShard, ShardServices
from hivewire.nats.positions import Position
from hivewire.nats.registry import Registry, first_position
from hivewire.nats.session import SessionKeeper, SessionRecord, read_session
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.subjects import type_token
from hivewire.telemetry.measuring import LeaseChange

log = logging.getLogger("hivewire.shards")

_LOOK_AGAIN_S = 0.5
_OWNER_ALIVE_PAUSE_S = 0.05
_ASK_EVERY_S = 0.2
_ASK_TIMEOUT_S = 2.0
_REMEMBERED = 255
_UNWRITTEN = (BrokerUnavailableError, JetStreamError, MessageTooLargeError, AccessDeniedError)


@dataclass(slots=True)
class _Served:
    """A type that this process serves: with `keys`, those registered instances, else a share of `shards`."""

    shards: int
    keys: set[str] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Shards:
    """The shards of one process. `serve` types, keep `run` running, and end with `release_all`."""

    def __init__(
        self,
        services: ShardServices,
        registry: Registry,
        keeper: SessionKeeper,
        *,
        deployment: str,
        stream: EventStream,
    ) -> None:
        self._services = services
        self._registry = registry
        self._keeper = keeper
        self._deployment = deployment
        self._stream = stream
        self._leases = Bucket(services.broker, services.subjects.leases_bucket)
        self._sessions = BucketView(self._leases, on_change=lambda *_: self._wake.set())
        self._wake = asyncio.Event()
        self._served: dict[str, _Served] = {}
        self._owned: dict[ShardScope, OwnedShard] = {}
        self._busy: dict[ShardScope, asyncio.Task[None]] = {}
        self._lapsed: dict[ShardScope, OwnedShard] = {}
        self._departed: list[OwnedShard] = []
        self._concluded_here: list[OwnedShard] = []
        self._answered = asyncio.Event()
        self._closing = False

    def owns(self, agent_type: str, slot: int) -> bool:
        """Tell whether an agent of a sharded type, with this slot, lives in this process."""
        served = self._served.get(agent_type)
        if served is None or served.keys is not None:
            return False
        shard = ShardScope(agent_type=agent_type, shard=slot % served.shards, shards=served.shards)
        return shard in self._owned

    def owned_by_type(self) -> Counter[str]:
        """Count the shards that this process owns."""
        return Counter(scope.agent_type for scope in self._owned)

    async def run(self) -> None:
        """Keep the assignment until cancelled."""
        tasks = self._services.tasks
        tasks.start(self._sessions.run(), name="hivewire: sessions")
        while True:
            await self._sessions.ready.wait()
            self._wake.clear()
            if not self._closing:
                self._reconcile()
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def save_positions(self) -> None:
        """Write the positions that moved; to be called several times a second."""
        for scope, shard in list(self._owned.items()):
            if scope not in self._busy and not await shard.save_if_due():
                if self._owned.pop(scope, None) is not None:
                    self._count(scope, "lost")
                self._services.tasks.start(shard.abandon())

    async def serve(self, agent_type: str, shards: int, *, timeout: float) -> None:
        """Take part in a sharded type. Returns when this process has the shards that it should have now, or gave up to
        wait for them."""
        await self._settle(self._served.setdefault(agent_type, _Served(shards)), timeout)

    async def serve_instance(self, agent_type: str, key: str, *, timeout: float) -> None:
        """Serve one registered instance."""
        served = self._served.setdefault(agent_type, _Served(1, set()))
        if served.keys is not None:
            served.keys.add(key)
        await self._settle(served, timeout)

    def relieve(self) -> None:
        """An event that killed its processes was given up: nothing else is suspected for now."""
        for shard in self._owned.values():
            shard.relieve()

    async def release_all(self) -> None:
        """Give up everything; others take over at once."""
        self._closing = True
        await asyncio.gather(*self._busy.values())
        await asyncio.gather(*(self._try_release(scope) for scope in list(self._owned)))

    async def conclude(self, timeout: float) -> None:
        """Once all turns have ended, see that the next owners learn of those that ran on here when the shards went.

        Returns when they have, or after `timeout` seconds; what they did not learn of is handled again.
        """
        self._departed = [shard for shard in self._departed if not await self._concluded(shard)]
        try:
            async with asyncio.timeout(timeout):
                while self._departed:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            log.warning("the next owners of %s did not ask which turns had ended", self._departed)

    async def is_drained(self) -> bool:
        """Tell whether all events that are stored by now, of the shards owned here, are handled."""
        if self._busy or any(not served.settled.is_set() for served in self._served.values()):
            return False
        if not await self._services.readers.is_drained():
            return False
        return not any(shard.tracker.unfinished or shard.held or shard.parked for shard in self._owned.values())

    def session_lost(self) -> None:
        """The session was lost and another one begun: nothing is owned any more. What nobody else claims meanwhile is
        taken up where it was."""
        for scope, shard in list(self._owned.items()):
            del self._owned[scope]
            self._count(scope, "lost")
            self._lapsed[scope] = shard
            self._services.tasks.start(shard.abandon())
        self._wake.set()

    async def stream_changed(self) -> None:
        """The event stream is another one: what is owned by sequences of the one before is given up without a word, and
        claimed anew from where its types begin now."""
        # What is under way may be of the stream before.
        await asyncio.gather(*self._busy.values())
        self._lapsed.clear()
        self._departed.clear()
        self._concluded_here.clear()
        self._answered.set()
        of_before = [scope for scope, shard in self._owned.items() if shard.stream != self._stream.created]
        for scope in of_before:
            self._count(scope, "lost")
        await asyncio.gather(*(self._owned.pop(scope).abandon() for scope in of_before))
        self._wake.set()

    def left_here(self, agent_type: str, name: str) -> tuple[list[str], list[int]]:
        """Answer the next owner of a shard that was given up: the key tokens whose turns still run here, and the events
        whose turns ended here and which are not finished all the same."""
        keys, unfinished = [], []
        for shard in [*self._departed, *self._concluded_here]:
            if (shard.scope.agent_type, shard.scope.name) != (agent_type, name):
                continue
            keys += shard.busy_keys
            unfinished += shard.unfinished_here
            if not shard.busy_keys and shard in self._departed:
                self._departed.remove(shard)
                # It may be asked again.
                self._concluded_here = [*self._concluded_here[-_REMEMBERED:], shard]
        return keys, unfinished

    async def on_control(self, message: Msg) -> None:
        """Answer what another process sends to this one's control subject."""
        if message.headers and FORWARDED_HEADER in message.headers:
            await self._take_inner(message, message.headers.pop(FORWARDED_HEADER))
            return
        request = json.loads(message.data)
        match request.get("op"):
            case "claim":
                self._wake.set()
            case pod_numbers.OPERATION:
                await self._tell_numbers(message.reply)
            case "running" if self._services.tasks.closing:
                # Turns that are being cancelled are not done; silence lets the asker wait for the session's end.
                pass
            case "running":
                running, unfinished = self.left_here(request["type"], request["shard"])
                answer = json.dumps({"running": running, "unfinished": unfinished}).encode()
                await self._services.broker.publish(message.reply, answer)
                self._answered.set()
            case other:
                log.warning("unknown control message %.40r", other)

    async def _tell_numbers(self, reply: str) -> None:
        services = self._services
        services.metrics.tell()
        numbers = pod_numbers.own_numbers(services.subjects.namespace)
        await services.broker.publish(reply, numbers.to_json(limit_bytes=services.broker.max_payload))

    async def _take_inner(self, message: Msg, subject: str) -> None:
        message.subject = subject
        address = self._services.subjects.parse_rpc(subject)
        for shard in list(self._departed):
            if type_token(shard.scope.agent_type) == address.type_token and await shard.take_inner(message):
                return
        await self._services.calls.bounce(message)

    @property
    def leads(self) -> bool:
        """Whether this process does what one of all has to do: its session is the least of those that serve, which is
        the oldest. While sessions come and go it may be none, or two."""
        return self._keeper.valid() and min(self._live_sessions(), default=None) == self._keeper.id

    def is_alive(self, session: str) -> bool:
        """Tell whether a session lives, be it draining, as far as this process has seen."""
        suffix = f".{session}"
        return any(key.endswith(suffix) for key in self._sessions.entries)

    async def _has_ended(self, session: str) -> bool:
        """Tell whether a session lives no more. One that was not seen may have begun since, so the broker is asked."""
        if self.is_alive(session):
            return False
        return (await self._leases.get(self._services.subjects.lease_of(session))).value is None

    async def _try_release(self, scope: ShardScope) -> None:
        try:
            await self._release(scope)
        except _UNWRITTEN as error:
            log.warning("shard %s of %s is not handed over: %s", scope.name, scope.agent_type, error)

    async def _concluded(self, shard: OwnedShard) -> bool:
        try:
            return await shard.conclude()
        except _UNWRITTEN as error:
            log.warning("%r: %s", shard, error)
            return True

    # Deciding

    def _reconcile(self) -> None:
        sessions = self._live_sessions()
        wanted = self._wanted(sessions)
        for scope in wanted:
            owned = self._owned.get(scope)
            if owned is not None and not owned.serving and scope not in self._busy:
                # It was to be given up, which failed, and now it should stay: claimed again, it serves again.
                del self._owned[scope]
                self._count(scope, "released")
                self._lapsed[scope] = owned
            if scope not in self._owned:
                self._begin(scope, self._claim)
        for scope in list(self._owned):
            if scope not in wanted:
                self._begin(scope, self._release)
        own = sessions.get(self._keeper.id)
        for agent_type, served in self._served.items():
            of_type = {scope for scope in wanted if scope.agent_type == agent_type}
            # As long as the own session is seen without the type, nobody's share of it can be told.
            announced = own is not None and agent_type in own.types
            if announced and of_type <= self._owned.keys() - self._busy.keys():
                served.settled.set()

    def _wanted(self, sessions: dict[str, SessionRecord]) -> set[ShardScope]:
        wanted: set[ShardScope] = set()
        if self._keeper.id not in sessions:
            # The own session is not visible yet, or is lost: keep what there is, claim nothing.
            return set(self._owned)
        for agent_type, served in self._served.items():
            if served.keys is not None:
                wanted |= {ShardScope(agent_type=agent_type, key=key) for key in served.keys}
                continue
            serving = [each.session for each in sessions.values() if agent_type in each.types]
            owners = assign(agent_type, served.shards, serving)
            wanted |= {
                ShardScope(agent_type=agent_type, shard=shard, shards=served.shards)
                for shard, owner in owners.items()
                if owner == self._keeper.id
            }
        return wanted

    def _live_sessions(self) -> dict[str, SessionRecord]:
        records = [read_session(entry.value) for entry in self._sessions.entries.values() if entry.value]
        return {record.session: record for record in records if record is not None and record.state == "serving"}

    def _begin(self, scope: ShardScope, work: Callable[[ShardScope], Awaitable[None]]) -> None:
        if scope not in self._busy:
            self._busy[scope] = self._services.tasks.start(self._do(scope, work))

    async def _do(self, scope: ShardScope, work: Callable[[ShardScope], Awaitable[None]]) -> None:
        try:
            await work(scope)
        except (*_UNWRITTEN, WriteConflictError) as error:
            log.info("shard %s of %s: %s", scope.name, scope.agent_type, error)
        finally:
            self._busy.pop(scope, None)
            self._wake.set()

    # Doing

    async def _claim(self, scope: ShardScope) -> None:
        services = self._services
        key = services.subjects.position_key(scope.agent_type, scope.name)
        entry = await services.positions.get(key)
        session = self._keeper.id
        try:
            known = None if entry.value is None else Position.from_json(entry.value)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.error("the position %s can't be read, and its shard is not served: %r", key, error)
            await asyncio.sleep(_LOOK_AGAIN_S)
            return
        owner = None if known is None else known.owner
        if owner not in (None, session) and not await self._has_ended(str(owner)):
            # The owner gives it up in a moment, when it sees the sessions as this process does.
            await asyncio.sleep(_OWNER_ALIVE_PAUSE_S)
            return
        stream = self._stream.created
        position = known if known is not None and known.stream == stream else await self._first_position(scope, stream)
        if position is None or not self._keeper.valid():
            return
        lapsed = self._lapsed_position(scope, known)
        if lapsed is None:
            # Whatever is in memory is of an earlier ownership, and somebody else may have gone on since, except where
            # a turn of then still runs: nobody goes on before it ends.
            still_busy = [key for shard in self._departed if shard.scope == scope for key in shard.busy_keys]
            await services.passivate(scope, still_busy)
        claimed = (lapsed or position).claimed_by(session)
        # After a death: no earlier owner can have started what is stored from now on.
        end = (await self._stream.look()).last if claimed.unclean else 0
        revision = await services.positions.put(key, claimed.to_json(), revision=entry.revision)
        shard = OwnedShard(scope, services, claimed, revision, end=end)
        self._owned[scope] = shard
        self._count(scope, "claimed" if lapsed is not None or owner in (None, session) else "taken_over")
        await shard.start()
        await services.broker.flush()
        log.debug("%r was taken over, epoch %d", shard, claimed.epoch)
        if shard.held:
            services.tasks.start(self._wait_for_earlier_owners(shard))

    async def _first_position(self, scope: ShardScope, stream: str) -> Position | None:
        record = self._registry.get(scope.agent_type)
        position = None if record is None else first_position(record, stream)
        if position is None or scope.key is None:
            return position
        # Nobody has kept anything for an instance that is new.
        state = await self._stream.look()
        return replace(position, floor=max(position.floor, state.first - 1))

    def _lapsed_position(self, scope: ShardScope, known: Position | None) -> Position | None:
        """Return how far this process had come with a shard that nobody else had since."""
        lapsed = self._lapsed.pop(scope, None)
        if lapsed is None or known is None:
            return None
        if (known.owner, known.epoch) != (lapsed.position.owner, lapsed.position.epoch):
            return None
        if lapsed.stream != self._stream.created:
            return None
        # Its turns that still run are asked for as if they ran elsewhere.
        self._departed.append(lapsed)
        return lapsed.as_left()

    async def _release(self, scope: ShardScope) -> None:
        shard = self._owned[scope]
        # The next owner may ask as soon as the position is written.
        self._departed.append(shard)
        asked_for = False
        change: LeaseChange = "released"
        try:
            asked_for = await shard.release()
        except WriteConflictError:
            change = "lost"
            log.warning("%r was claimed by another process", shard)
        finally:
            if not asked_for and shard in self._departed:
                self._departed.remove(shard)
        if self._owned.pop(scope, None) is not None:
            self._count(scope, change)
        log.debug("%r was given up", shard)
        await self._tell_next_owner(scope)

    def _count(self, scope: ShardScope, change: LeaseChange) -> None:
        self._services.metrics.of_type(scope.agent_type).lease_changes[change].inc()

    async def _tell_next_owner(self, scope: ShardScope) -> None:
        services = self._services
        sessions = self._live_sessions()
        serving = [each.session for each in sessions.values() if scope.agent_type in each.types]
        owner = sessions.get(assign(scope.agent_type, scope.shards, serving).get(scope.shard, ""))
        if owner is not None and scope.key is None and owner.session != self._keeper.id:
            subject = services.subjects.pod(owner.deployment, owner.session)
            await services.broker.publish(subject, b'{"op":"claim"}')

    async def _wait_for_earlier_owners(self, shard: OwnedShard) -> None:
        """Ask each earlier owner, again and again, which turns still run there, until none does or it is gone."""
        services, scope = self._services, shard.scope
        question = json.dumps({"op": "running", "type": scope.agent_type, "shard": scope.name}).encode()
        while shard.held and self._owned.get(scope) is shard:
            for deployment, session in shard.held.sessions:
                if any(each.session == session and each.scope == scope for each in self._departed):
                    keys, unfinished = self.left_here(scope.agent_type, scope.name)
                    shard.held.still_running(session, keys, unfinished=unfinished)
                    continue
                try:
                    if await self._has_ended(session):
                        shard.held.session_ended(session)
                        continue
                    subject = services.subjects.pod(deployment, session)
                    answer = await services.broker.request(subject, question, timeout=_ASK_TIMEOUT_S)
                    if answer.data:
                        told = json.loads(answer.data)
                        shard.held.still_running(session, told["running"], unfinished=told.get("unfinished", ()))
                except (TimeoutError, BrokerUnavailableError, AccessDeniedError, JetStreamError) as error:
                    log.debug("asking session %s: %s", session, error)
            await asyncio.sleep(_ASK_EVERY_S)

    async def _settle(self, served: _Served, timeout: float) -> None:
        served.settled.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await served.settled.wait()
        except TimeoutError:
            log.warning("not all shards could be claimed within %g s; the runtime goes on trying", timeout)
