"""What has to be done after an object is gone, written down while it is there.

An object is deleted at once, also while no operator runs: nothing holds it back. Who starts to lead compares what is
written here with what there is, and does the rest. Two things are written before they come true: a login before
anybody can use it, and that the data of an object are to be deleted with it. So nothing is ever missing here; there
may be logins that were never handed out.

Pure. Times are in seconds since 1970.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

__all__ = ["Entry", "Issued", "Ledger", "OwnerKind"]

OwnerKind = Literal["AgentDeployment", "AgentSubscription", "AgentSystem"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A user of NATS that was made, by its public key. `login` names what it was made from."""

    user: str
    login: str
    account: str
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object for which something was made.

    Attributes:
        url: Where its NATS was.
        issued: The logins that were made for it.
        deletes: Whether its data go with it.
        agent_types: Those that it serves, or the one that it subscribes.
        subscription: The topics that it subscribes to, as text; empty: it is no subscription.
    """

    kind: OwnerKind
    name: str
    uid: str
    url: str
    issued: tuple[Issued, ...] = ()
    deletes: bool = False
    agent_types: tuple[str, ...] = ()
    subscription: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The entries of one namespace, by the uid of their objects.

    Attributes:
        revoked: Users that were revoked and whose logins may not have expired yet; then the account need not remember
            them any longer.
    """

    entries: Mapping[str, Entry]
    revoked: tuple[Issued, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Ledger:
        """Read what `text` wrote. The empty text is the empty ledger.

        Raises:
            ValueError: it is no ledger, or of a later version. It must not be written over.
        """
        if not text:
            return cls(entries={})
        try:
            value = json.loads(text)
            if value["format"] != _FORMAT:
                raise ValueError(f"format {value['format']} is unknown")
            entries = [_entry(each) for each in value["entries"]]
            revoked = _issued(value["revoked"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a ledger of this version: {error!r}") from None
        return cls(entries={each.uid: each for each in entries}, revoked=revoked)

    def text(self) -> str:
        """Write it down."""
        value = {
            "format": _FORMAT,
            "entries": [asdict(self.entries[uid]) for uid in sorted(self.entries)],
            "revoked": [asdict(each) for each in self.revoked],
        }
        return json.dumps(value, separators=(",", ":"), sort_keys=True)

    def users_of(self, uid: str) -> frozenset[str]:
        """Return the users that were made for an object."""
        entry = self.entries.get(uid)
        return frozenset() if entry is None else frozenset(each.user for each in entry.issued)

    def with_object(self, seen: Entry) -> Ledger:
        """Return it with an object as it is now. What was made for it stays."""
        before = self.entries.get(seen.uid)
        return self._with(replace(seen, issued=before.issued if before is not None else ()))

    def with_issued(self, uid: str, issued: Issued) -> Ledger:
        """Return it with a login for an object that it has."""
        entry = self.entries[uid]
        return self._with(replace(entry, issued=(*entry.issued, issued)))

    def without_issued(self, uid: str, user: str) -> Ledger:
        """Return it without a login that certainly nobody got."""
        entry = self.entries.get(uid)
        if entry is None:
            return self
        return self._with(replace(entry, issued=tuple(each for each in entry.issued if each.user != user)))

    def without_expired(self, *, now: float) -> Ledger:
        """Return it without logins that have expired. Those of whom the account knows as revoked stay."""
        entries = {
            uid: replace(entry, issued=tuple(each for each in entry.issued if each.expires_at > now))
            for uid, entry in self.entries.items()
        }
        return replace(self, entries=entries)

    def departed(self, existing: Collection[str]) -> list[Entry]:
        """Return the entries of objects that are gone.

        Args:
            existing: The uids of what there is, as the API server says after the ledger was read. What is newer than
                that, or not yet in a cache, would seem to be gone.
        """
        return [entry for uid, entry in sorted(self.entries.items()) if uid not in existing]

    def orphaned_types(self, gone: Entry, existing: Collection[str]) -> list[str]:
        """Return the agent types whose data go with an object: those that nothing that exists serves."""
        if not gone.deletes:
            return []
        served = {
            name
            for uid, entry in self.entries.items()
            if uid in existing and not entry.subscription
            for name in entry.agent_types
        }
        return [name for name in gone.agent_types if name not in served]

    def is_subscribed(self, gone: Entry, existing: Collection[str]) -> bool:
        """Tell whether something that exists subscribes to the same as a subscription that is gone."""
        wanted = (gone.agent_types, gone.subscription)
        return any(
            (entry.agent_types, entry.subscription) == wanted for uid, entry in self.entries.items() if uid in existing
        )

    def alike(self, subscription: Entry) -> list[Entry]:
        """Return the subscriptions to the same whose names come before that of one."""
        wanted = (subscription.agent_types, subscription.subscription)
        return sorted(
            (
                entry
                for entry in self.entries.values()
                if (entry.agent_types, entry.subscription) == wanted and entry.name < subscription.name
            ),
            key=lambda entry: entry.name,
        )

    def without(self, uid: str) -> Ledger:
        """Return it without an object for which everything is done."""
        return replace(self, entries={other: entry for other, entry in self.entries.items() if other != uid})

    def with_revoked(self, uid: str, users: Iterable[str]) -> Ledger:
        """Return it with users of an object revoked, so that they are its users no longer."""
        done, entry = frozenset(users), self.entries.get(uid)
        if entry is None:
            return self
        revoked = tuple(each for each in entry.issued if each.user in done and each not in self.revoked)
        kept = replace(entry, issued=tuple(each for each in entry.issued if each.user not in done))
        return replace(self, revoked=(*self.revoked, *revoked))._with(kept)

    def forgettable(self, account: str, *, now: float) -> list[str]:
        """Return the users whom an account need not keep among the revoked, as their logins have expired."""
        return [each.user for each in self.revoked if each.account == account and each.expires_at <= now]

    def with_forgotten(self, users: Collection[str]) -> Ledger:
        """Return it without revoked users of whom no account knows any longer."""
        return replace(self, revoked=tuple(each for each in self.revoked if each.user not in users))

    def _with(self, entry: Entry) -> Ledger:
        return replace(self, entries={**self.entries, entry.uid: entry})


def _entry(value: Mapping[str, Any]) -> Entry:
    fields = {**value, "issued": _issued(value["issued"]), "agent_types": tuple(value["agent_types"])}
    return Entry(**fields)


def _issued(values: Iterable[Mapping[str, Any]]) -> tuple[Issued, ...]:
    return tuple(Issued(**each) for each in values)
