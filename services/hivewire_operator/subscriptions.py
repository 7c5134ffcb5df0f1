"""The AgentSubscriptions: each is in the registry of its namespace for as long as it is there.

The ledger knows of each before the registry does, so one that was deleted while no operator ran is removed as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from hivewire.exceptions import AgentNotFoundError, HivewireError
from hivewire.provisioning import DeliveryPolicy, HistoryProgress, TopicFilter, Upkeep
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.conditions import Finding, Truth
from hivewire_operator.deliveries import delivery_policy
from hivewire_operator.ledger import Entry
from hivewire_operator.ledgers import Ledgers
from hivewire_operator.parsing import MalformedError, parsed
from hivewire_operator.resources.agent_subscription import AgentSubscriptionSpec
from hivewire_operator.status import write_status
from hivewire_operator.systems import Systems

_KIND: Final = "AgentSubscription"
_AGAIN_S: Final = 5.0
_SLICE_S: Final = 2.0


class Subscriptions:
    """Keeps the AgentSubscriptions.

    Args:
        on_gone: Called with the namespace when one is gone: then its AgentSystem is to be looked at.
    """

    def __init__(self, cluster: Cluster, ledgers: Ledgers, systems: Systems, *, on_gone: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._ledgers = ledgers
        self._systems = systems
        self._on_gone = on_gone

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make it as it is asked for. Returns in how many seconds to look again; None: when something changes.

        Raises:
            ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
            MalformedLedgerError: somebody has written nonsense into the ledger.
        """
        found = await self._cluster.get(_KIND, namespace, name)
        if found is None:
            self._on_gone(namespace)
            return None
        try:
            spec = parsed(AgentSubscriptionSpec, found)
        except MalformedError as error:
            await self._report(found, "False", "Malformed", str(error))
            return None
        system = self._systems.get(namespace)
        if system is None or system.upkeep is None:
            message = f"{namespace} has no AgentSystem that works." if system is None else system.problem
            await self._report(found, "False", "NatsUnavailable", message)
            return _AGAIN_S
        topics = _filter(spec)
        entry = Entry(
            kind=_KIND,
            name=name,
            uid=found["metadata"]["uid"],
            url=system.spec.nats.url,
            deletes=True,
            agent_types=(spec.agent_type,),
            subscription=topics.content_id,
        )
        ledger = await self._ledgers.change(namespace, lambda ledger: ledger.with_object(entry))
        first = await self._first(namespace, ledger.alike(entry)) or found
        try:
            delivery = delivery_policy(parsed(AgentSubscriptionSpec, first).delivery)
            if spec.start == "Now":
                await system.upkeep.add_subscription(spec.agent_type, topics, delivery)
            else:
                history = await _send_history(system.upkeep, spec.agent_type, topics, delivery)
                if not history.done:
                    await self._report(found, "False", "SendingHistory", _so_far(history))
                    return 0.0
        except (ValueError, MalformedError) as error:
            await self._report(found, "False", "Malformed", str(error))
            return None
        except AgentNotFoundError as error:
            await self._report(found, "False", "TypeUnknown", f"{error}: then its events will wait for it.")
            return _AGAIN_S
        except HivewireError as error:
            await self._report(found, "False", "NatsUnavailable", str(error))
            return _AGAIN_S
        message = f"{spec.agent_type} gets the events."
        if first is not found:
            message += f" How they are delivered, {first['metadata']['name']} says, which is for the same ones."
        await self._report(found, "True", "Subscribed", message)
        return float(system.spec.resync_seconds)

    async def _first(self, namespace: str, alike: Iterable[Entry]) -> Object | None:
        """Return the first by name of the subscriptions to the same that come before this one; None: it is the first.

        What was deleted may still be among the entries.
        """
        for entry in alike:
            other = await self._cluster.get(_KIND, namespace, entry.name)
            if other is not None and other["metadata"]["uid"] == entry.uid:
                return other
        return None

    async def _report(self, found: Object, status: Truth, reason: str, message: str) -> None:
        ready = Finding(type="Ready", status=status, reason=reason, message=message)
        await write_status(self._cluster, _KIND, found, [ready], {}, now=datetime.now(UTC))


async def _send_history(
    upkeep: Upkeep, agent_type: str, topics: TopicFilter, delivery: DeliveryPolicy | None
) -> HistoryProgress:
    """Send what is left, or as much as can be sent while others wait a moment."""
    until = time.monotonic() + _SLICE_S
    while not (history := await upkeep.send_history(agent_type, topics, delivery)).done:
        if time.monotonic() >= until:
            break
    return history


def _so_far(history: HistoryProgress) -> str:
    return f"{history.sent} stored events were sent to the agents by now, {history.waiting} are to be looked at."


def _filter(spec: AgentSubscriptionSpec) -> TopicFilter:
    if spec.topic_type is not None:
        return TopicFilter(kind="exact", value=spec.topic_type)
    return TopicFilter(kind="prefix", value=spec.topic_prefix or "")
