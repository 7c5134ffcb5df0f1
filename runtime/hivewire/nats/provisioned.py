"""Finds what somebody else provisions: for processes that make no stream, bucket or durable consumer themselves.

On Kubernetes the operator provisions, and the other processes may not. So what is missing is an error that says whose
business it is; only the consumer of a stateless type, which follows each change of its subscriptions, is waited for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from hivewire.exceptions import RuntimeStateError
from hivewire.nats.broker import Broker
from hivewire.nats.provisioner import consumer_of_stateless, live_topology
from hivewire.nats.registry import TypeRecord
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import PLAN_VERSION, Topology, difference, plan, plan_version_of

CONSUMER_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1
_WHO: Final = (
    "whoever provisions the namespace has to see to it, on Kubernetes the operator; this process may not, as "
    "HIVEWIRE_PROVISION is off, or `provision=False`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedElsewhere:
    """Looks whether there is what is needed; see `Provisioning`."""

    broker: Broker
    subjects: Subjects

    async def ensure(self) -> str:
        planned = plan(self.subjects)
        # To look at the bucket of states would take the right to list all agents that have one. It is made before the
        # event stream, which comes last.
        looked_at = {
            name: config for name, config in planned.streams.items() if name != f"KV_{self.subjects.state_bucket}"
        }
        wanted = Topology(streams=looked_at, consumers=planned.consumers)
        live = await live_topology(self.broker, wanted)
        for change in difference(wanted, live):
            if change.action == "conflict":
                raise RuntimeStateError(str(change))
            if change.action == "create":
                what = f"stream {change.stream}" if change.consumer is None else f"consumer {change.consumer}"
                raise RuntimeStateError(f"Namespace {self.subjects.namespace!r} has no {what}: {_WHO}")
        oldest = min(map(plan_version_of, live.streams.values()))
        if oldest < PLAN_VERSION:
            raise RuntimeStateError(
                f"Namespace {self.subjects.namespace!r} is provisioned by plan {oldest}, and this version needs "
                f"{PLAN_VERSION}: {_WHO}"
            )
        info = await self.broker.api(f"STREAM.INFO.{self.subjects.events_stream}")
        return str(info["created"])

    async def ensure_type(self, record: TypeRecord) -> None:
        if record.shape is None or record.shape.kind != "stateless":
            return
        wanted = consumer_of_stateless(self.subjects, record)
        try:
            async with asyncio.timeout(CONSUMER_WITHIN_S):
                while True:
                    if not difference(wanted, await live_topology(self.broker, wanted)):
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise RuntimeStateError(
                f"The stateless type {record.name!r} has no consumer for its subscriptions after "
                f"{CONSUMER_WITHIN_S:g} s: {_WHO}"
            ) from None
