"""Deletes what was made on NATS for objects that are gone: subscriptions, and data that were to go along
(`deletionPolicy: Delete`).

Whatever still serves a type keeps its data until it has stopped: pods take their time to end. So it is tried again
until it is done, and the ledger remembers that it is not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Final

from hivewire.exceptions import HivewireError
from hivewire.provisioning import TopicFilter, Upkeep
from hivewire_operator.ledger import Entry, Ledger, OwnerKind
from hivewire_operator.ledgers import Ledgers

_ORDER: Final[tuple[OwnerKind, ...]] = ("AgentSubscription", "AgentDeployment", "AgentSystem")

log = logging.getLogger("hivewire.operator.cleanup")


async def delete_departed(
    ledgers: Ledgers, namespace: str, existing: Callable[[], Awaitable[Collection[str]]], upkeep: Upkeep | None
) -> str:
    """Delete what is left of objects that are gone. Returns what stands against it; empty: nothing.

    Args:
        existing: Asks for the uids of what there is. It is called after the ledger was read.
        upkeep: None: there is no way to NATS now. That of a namespace that is deleted as a whole has ended then.

    Raises:
        MalformedLedgerError: the ledger can't be read.
        ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
    """
    ledger = await ledgers.load(namespace)
    if not any(entry.deletes for entry in ledger.entries.values()):
        return ""
    present = await existing()
    gone = [entry for entry in ledger.departed(present) if entry.deletes]
    if not gone:
        return ""
    if upkeep is None:
        return "NATS can't be reached to delete the data of what is gone."
    problems = []
    for entry in sorted(gone, key=lambda each: _ORDER.index(each.kind)):
        try:
            await _delete(upkeep, ledger, entry, present)
        except HivewireError as error:
            problems.append(f"The data of {entry.kind} {entry.name}: {error}.")
            continue
        log.info("what was made for %s %s/%s is deleted", entry.kind, namespace, entry.name)
        await ledgers.change(namespace, lambda before, entry=entry: _done(before, entry))  # type: ignore[misc]
    return " ".join(problems)


async def _delete(upkeep: Upkeep, ledger: Ledger, entry: Entry, present: Collection[str]) -> None:
    match entry.kind:
        case "AgentSystem":
            await upkeep.remove_namespace()
        case "AgentSubscription":
            if not ledger.is_subscribed(entry, present):
                for agent_type in entry.agent_types:
                    await upkeep.remove_subscription(agent_type, TopicFilter.parse(entry.subscription))
        case "AgentDeployment":
            for agent_type in ledger.orphaned_types(entry, present):
                await upkeep.remove_type(agent_type)


def _done(ledger: Ledger, entry: Entry) -> Ledger:
    if entry.uid not in ledger.entries:
        return ledger
    if not ledger.users_of(entry.uid):
        return ledger.without(entry.uid)
    kept = replace(ledger.entries[entry.uid], deletes=False)
    return ledger.with_object(kept)
