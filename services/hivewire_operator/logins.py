"""The logins at NATS of those that the operator runs, each in a Secret that belongs to its owner.

A login is made anew at half of its life. Its file says who issued it and with which rights, so nothing else has to be
remembered to know whether it is still right. One that the ledger does not know of is made anew too: so whatever is in
use can be revoked.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from hivewire.provisioning import Permissions
from hivewire_operator.cluster import ApiError, Cluster, Object
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.ledger import Entry, Issued, Ledger
from hivewire_operator.ledgers import Ledgers
from hivewire_operator.login_sources import Minting, Shared, texts_of
from hivewire_operator.names import CREDENTIALS_KEY, FIELD_MANAGER, owner_of

__all__ = ["Cause", "Kept", "Needed", "Owner", "decide", "due_at", "ensure_login"]

Cause = Literal["missing", "not known", "other issuer", "other rights", "half over", "not the shared one"]

GATEWAY_SECRET: Final = "hivewire-gateway-nats"
ADMIN_SECRET: Final = "hivewire-admin-nats"


@dataclass(frozen=True, slots=True)
class Kept:
    """The login stays as it is."""

    login: Login


@dataclass(frozen=True, slots=True)
class Needed:
    """There has to be another one."""

    cause: Cause


def decide(
    current: Login | None, source: Minting | Shared, permissions: Permissions, *, issued: Collection[str], now: float
) -> Kept | Needed:
    """Decide whether a login is still right.

    Args:
        current: None: there is none, or nothing that can be read.
        issued: The users that the ledger knows to have been made for its owner.
    """
    if current is None:
        return Needed("missing")
    if isinstance(source, Shared):
        return Kept(current) if current.file.strip() == source.login.file.strip() else Needed("not the shared one")
    if (current.account, current.issuer) != (source.account, source.signer.public):
        return Needed("other issuer")
    if current.user not in issued:
        return Needed("not known")
    if current.rights != permissions.claims():
        return Needed("other rights")
    due = due_at(current, source)
    return Needed("half over") if due is None or now >= due else Kept(current)


def due_at(login: Login, source: Minting | Shared) -> float | None:
    """Return when to look at a login again; None: never, as others replace it."""
    renew_at = login.renew_at()
    if isinstance(source, Shared) or renew_at is None:
        return None
    # A life that was made shorter holds for what was issued before, too.
    return min(renew_at, login.issued_at + source.life_s / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose login it is.

    Attributes:
        entry: Its object, as the ledger is to remember it.
        secret: Name of the Secret for the login.
    """

    namespace: str
    entry: Entry
    secret: str

    def name_at_nats(self) -> str:
        """Return what the user is called, for people."""
        return f"{self.namespace}/{self.secret}"


async def ensure_login(
    cluster: Cluster, ledgers: Ledgers, owner: Owner, source: Minting | Shared, permissions: Permissions, *, now: float
) -> float | None:
    """See to it that the owner's Secret has a login that is right. Returns when it is next due; None: never.

    Raises:
        MalformedLedgerError: the ledger can't be read, and without it no login is made.
        ApiUnavailableError, ApiError, NotLeadingError: as `Cluster`.
    """
    found = await cluster.get("Secret", owner.namespace, owner.secret)
    ledger = await ledgers.change(
        owner.namespace, lambda before: before.without_expired(now=now).with_object(owner.entry)
    )
    decision = decide(_login_in(found), source, permissions, issued=ledger.users_of(owner.entry.uid), now=now)
    if isinstance(decision, Kept):
        if found is not None and _is_owned(found, owner):
            return due_at(decision.login, source)
        login = decision.login
    elif isinstance(source, Shared):
        login = source.login
    else:
        login = new_login(
            source.signer,
            name=owner.name_at_nats(),
            permissions=permissions,
            now=now,
            lives_s=source.life_s,
            entropy=secrets.token_bytes(32),
            account=source.account,
        )
        await _record(ledgers, owner, source, login)
    try:
        await cluster.apply("Secret", _manifest(owner, login))
    except ApiError:
        # Else the ledger would grow with each attempt.
        if isinstance(decision, Needed):
            await ledgers.change(owner.namespace, lambda before: before.without_issued(owner.entry.uid, login.user))
        raise
    return due_at(login, source)


async def _record(ledgers: Ledgers, owner: Owner, source: Minting, login: Login) -> None:
    assert login.expires_at is not None
    issued = Issued(user=login.user, login=source.name, account=source.account, expires_at=login.expires_at)

    def change(before: Ledger) -> Ledger:
        return before.with_object(owner.entry).with_issued(owner.entry.uid, issued)

    await ledgers.change(owner.namespace, change)


def _login_in(secret: Object | None) -> Login | None:
    if secret is None:
        return None
    try:
        return Login.read(texts_of(secret).get(CREDENTIALS_KEY, ""))
    except ValueError:
        return None


def _is_owned(secret: Object, owner: Owner) -> bool:
    return any(each["uid"] == owner.entry.uid for each in secret["metadata"].get("ownerReferences") or ())


def _manifest(owner: Owner, login: Login) -> Object:
    entry = owner.entry
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": owner.secret,
            "namespace": owner.namespace,
            "labels": {"app.kubernetes.io/part-of": "hivewire", "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "ownerReferences": [owner_of(entry.kind, entry.name, entry.uid)],
        },
        "data": {CREDENTIALS_KEY: base64.b64encode(login.file.encode()).decode()},
    }
