"""Revokes the logins of what was deleted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from hivewire_operator.cluster import Cluster
from hivewire_operator.ledger import Entry, Issued, Ledger
from hivewire_operator.ledgers import Ledgers
from hivewire_operator.login_sources import Minting, login_secret, login_source
from hivewire_operator.revocations import RevocationError, revoke

__all__ = ["DepartedLogins", "revoke_departed"]

log = logging.getLogger("hivewire.operator.logins")


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartedLogins:
    """What became of the logins of objects that are gone.

    Attributes:
        revoked: Those that NATS lets in no more.
        expiring: Those that can't be revoked, as the keys for it are not there, and expire by themselves.
        failed: What went wrong, to be tried again.
    """

    revoked: tuple[Issued, ...] = ()
    expiring: tuple[Issued, ...] = ()
    failed: tuple[str, ...] = ()

    def message(self) -> str:
        """Say what is left, for people; empty: nothing."""
        told = list(self.failed)
        if self.expiring:
            last = datetime.fromtimestamp(max(each.expires_at for each in self.expiring), UTC)
            told.append(
                f"Logins of what was deleted that can't be revoked, as there are no keys for it: {len(self.expiring)}."
                f" The last one expires at {last:%Y-%m-%dT%H:%M:%SZ}."
            )
        return " ".join(told)


async def revoke_departed(
    cluster: Cluster,
    ledgers: Ledgers,
    namespace: str,
    existing: Callable[[], Awaitable[Collection[str]]],
    *,
    own_namespace: str,
    now: float,
) -> DepartedLogins:
    """Revoke the logins of objects that are gone, and forget those for which nothing is left to do. May be repeated.

    Args:
        existing: Asks for the uids of what there is, as `Ledger.departed` wants them. It is called after the ledger was
            read: what is made meanwhile would seem to be gone otherwise.

    Raises:
        MalformedLedgerError: the ledger can't be read.
        ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
    """
    ledger = (await ledgers.load(namespace)).without_expired(now=now)
    revoked: list[Issued] = []
    expiring: list[Issued] = []
    failed: list[str] = []
    forgotten: set[str] = set()
    departed = ledger.departed(await existing())
    for login, issued in _by_login(departed).items():
        secret = await cluster.get("Secret", own_namespace, login_secret(login))
        source = login_source(secret, name=login, namespace=None)
        if not isinstance(source, Minting) or source.revoking is None:
            expiring += issued
            continue
        mine = [each for each in issued if each.account == source.account]
        expiring += [each for each in issued if each.account != source.account]
        users = {each.user: each.expires_at for each in mine}
        forget = ledger.forgettable(source.account, now=now) if users else []
        try:
            await revoke(source.revoking, source.account, users=users, forget=forget, now=now)
        except RevocationError as error:
            failed.append(f"{error}.")
            continue
        revoked += mine
        forgotten |= set(forget)
        log.info("revoked %d logins of what was deleted in %s", len(mine), namespace)
    await ledgers.change(namespace, lambda before: _settled(before, departed, revoked, forgotten, now=now))
    return DepartedLogins(revoked=tuple(revoked), expiring=tuple(expiring), failed=tuple(failed))


def _by_login(departed: Iterable[Entry]) -> dict[str, list[Issued]]:
    """Return what was issued, by the name of what it was made from."""
    found: dict[str, list[Issued]] = {}
    for entry in departed:
        for each in entry.issued:
            found.setdefault(each.login, []).append(each)
    return found


def _settled(
    ledger: Ledger, departed: Iterable[Entry], revoked: Iterable[Issued], forgotten: Collection[str], *, now: float
) -> Ledger:
    ledger = ledger.without_expired(now=now).with_forgotten(forgotten)
    users = {each.user for each in revoked}
    for entry in departed:
        ledger = ledger.with_revoked(entry.uid, users)
        if not ledger.users_of(entry.uid) and not entry.deletes:
            ledger = ledger.without(entry.uid)
    return ledger
