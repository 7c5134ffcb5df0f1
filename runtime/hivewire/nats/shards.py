"""Which shards this process owns: what it should own by the sessions that live, claimed and given up accordingly.

All processes watch the sessions and reach the same assignment. Whoever should own a shard that is free, or whose owner
is gone, claims it by compare-and-set on its position; whoever owns one that another should have gives it up, and tells
the other one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.assignment import assign
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import Bucket, BucketView, WriteConflictError
from hivewire.nats.owned_shard import OwnedShard, ShardServices
from hivewire.nats.positions import Position, PositionTracker
from hivewire.nats.registry import Registry
from hivewire.nats.session import SessionKeeper, SessionRecord, read_session
from hivewire.nats.shard_scope import ShardScope

log = logging.getLogger("hivewire.shards")

_LOOK_AGAIN_S = 0.5
_OWNER_ALIVE_PAUSE_S = 0.05
_ASK_EVERY_S = 0.2
_ASK_TIMEOUT_S = 2.0


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
        stream_created: str,
    ) -> None:
        self._services = services
        self._registry = registry
        self._keeper = keeper
        self._deployment = deployment
        self._stream_created = stream_created
        self._sessions = BucketView(
            Bucket(services.broker, services.subjects.leases_bucket), on_change=lambda *_: self._wake.set()
        )
        self._wake = asyncio.Event()
        self._served: dict[str, _Served] = {}
        self._owned: dict[ShardScope, OwnedShard] = {}
        self._busy: dict[ShardScope, asyncio.Task[None]] = {}
        self._lapsed: dict[ShardScope, OwnedShard] = {}
        self._departed: list[OwnedShard] = []
        self._answered = asyncio.Event()
        self._closing = False

    def owns(self, agent_type: str, slot: int) -> bool:
        """Tell whether an agent of a sharded type, with this slot, lives in this process."""
        served = self._served.get(agent_type)
        if served is None or served.keys is not None:
            return False
        shard = ShardScope(agent_type=agent_type, shard=slot % served.shards, shards=served.shards)
        return shard in self._owned

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
                self._owned.pop(scope, None)
                await shard.abandon()

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
        return not any(shard.tracker.unfinished or shard.held for shard in self._owned.values())

    def session_lost(self) -> None:
        """The session was lost and another one begun: nothing is owned any more. What nobody else claims meanwhile is
        taken up where it was."""
        for scope, shard in list(self._owned.items()):
            del self._owned[scope]
            self._lapsed[scope] = shard
            self._services.tasks.start(shard.abandon())
        self._wake.set()

    def busy_keys(self, agent_type: str, name: str) -> list[str]:
        """Answer the next owner of a shard that was given up: the key tokens whose turns still run here. Once there is
        none, the shard is forgotten."""
        keys = []
        for shard in list(self._departed):
            if (shard.scope.agent_type, shard.scope.name) != (agent_type, name):
                continue
            keys += shard.busy_keys
            if not shard.busy_keys:
                self._departed.remove(shard)
        return keys

    async def on_control(self, message: Msg) -> None:
        """Answer what another process sends to this one's control subject."""
        request = json.loads(message.data)
        match request.get("op"):
            case "claim":
                self._wake.set()
            case "running" if self._services.tasks.closing:
                # Turns that are being cancelled are not done; silence lets the asker wait for the session's end.
                pass
            case "running":
                running = self.busy_keys(request["type"], request["shard"])
                await self._services.broker.publish(message.reply, json.dumps({"running": running}).encode())
                self._answered.set()
            case other:
                log.warning("unknown control message %r", other)

    async def _try_release(self, scope: ShardScope) -> None:
        try:
            await self._release(scope)
        except (BrokerUnavailableError, JetStreamError) as error:
            log.warning("shard %s of %s is not handed over: %s", scope.name, scope.agent_type, error)

    async def _concluded(self, shard: OwnedShard) -> bool:
        try:
            return await shard.conclude()
        except (BrokerUnavailableError, JetStreamError) as error:
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

    def _is_alive(self, session: str) -> bool:
        suffix = f".{session}"
        return any(key.endswith(suffix) for key in self._sessions.entries)

    def _begin(self, scope: ShardScope, work: Callable[[ShardScope], Awaitable[None]]) -> None:
        if scope not in self._busy:
            self._busy[scope] = self._services.tasks.start(self._do(scope, work))

    async def _do(self, scope: ShardScope, work: Callable[[ShardScope], Awaitable[None]]) -> None:
        try:
            await work(scope)
        except (BrokerUnavailableError, JetStreamError, WriteConflictError) as error:
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
        if known is not None and known.owner not in (None, session) and self._is_alive(str(known.owner)):
            # The owner gives it up in a moment, when it sees the sessions as this process does.
            await asyncio.sleep(_OWNER_ALIVE_PAUSE_S)
            return
        position = self._first_position(scope) if known is None or known.stream != self._stream_created else known
        if position is None or not self._keeper.valid():
            return
        lapsed = self._lapsed_tracker(scope, known)
        if lapsed is None:
            # Whatever is in memory is of an earlier ownership; somebody else may have gone on since.
            await services.passivate(scope, ())
        claimed = position.claimed_by(session)
        revision = await services.positions.put(key, claimed.to_json(), revision=entry.revision)
        shard = OwnedShard(scope, services, claimed, revision, tracker=lapsed)
        self._owned[scope] = shard
        await shard.start()
        await services.broker.flush()
        if shard.held:
            services.tasks.start(self._wait_for_earlier_owners(shard))

    def _first_position(self, scope: ShardScope) -> Position | None:
        record = self._registry.get(scope.agent_type)
        if record is None or record.begins is None:
            return None
        begins = record.begins
        # Another creation time means another stream, whose sequences begin anew.
        floor = begins.sequence if begins.stream == self._stream_created else 0
        return Position(
            owner=None, epoch=0, stream=self._stream_created, subscriptions=begins.subscriptions, floor=floor
        )

    def _lapsed_tracker(self, scope: ShardScope, known: Position | None) -> PositionTracker | None:
        """Return what this process remembers of a shard that nobody else had since."""
        lapsed = self._lapsed.pop(scope, None)
        if lapsed is None or known is None:
            return None
        same = (known.owner, known.epoch) == (lapsed.position.owner, lapsed.position.epoch)
        return lapsed.tracker if same else None

    async def _release(self, scope: ShardScope) -> None:
        shard = self._owned[scope]
        try:
            if await shard.release():
                self._departed.append(shard)
        except WriteConflictError:
            log.warning("%r was claimed by another process", shard)
        self._owned.pop(scope, None)
        await self._tell_next_owner(scope)

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
                if not self._is_alive(session):
                    shard.held.session_ended(session)
                    continue
                try:
                    subject = services.subjects.pod(deployment, session)
                    answer = await services.broker.request(subject, question, timeout=_ASK_TIMEOUT_S)
                    if answer.data:
                        shard.held.still_running(session, json.loads(answer.data)["running"])
                except (TimeoutError, BrokerUnavailableError) as error:
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
