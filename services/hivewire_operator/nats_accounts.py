"""The JWTs of a NATS' operator and accounts, and whom an account lets in no more.

Pure: the clock comes from the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hivewire_operator.nats_keys import KeyPair, claims_of, sealed, signed

__all__ = ["account_jwt", "operator_jwt", "revocations_of", "with_revocations"]

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORAGE = ("mem_storage", "disk_storage", "streams", "consumer")


def account_jwt(
    signer: KeyPair,
    account: str,
    *,
    name: str,
    now: float,
    signing_keys: Iterable[str] = (),
    revoked: Mapping[str, float] | None = None,
    has_jetstream: bool = True,
) -> str:
    """Make the JWT of an account, without limits.

    Args:
        signer: The operator's key, or one of its signing keys.
        account: The account's public key.
        signing_keys: Public keys that may sign its users too.
        revoked: Users by their public keys: what was issued for them until that time is void.
        has_jetstream: The system account has none.
    """
    limits = {**_UNLIMITED, **dict.fromkeys(_STORAGE, -1 if has_jetstream else 0), "wildcards": True}
    nats: dict[str, Any] = {"type": "account", "version": 2, "limits": limits, "signing_keys": sorted(signing_keys)}
    if revoked:
        nats["revocations"] = {user: int(until) for user, until in revoked.items()}
    return signed(signer, account, name, nats, now=now)


def operator_jwt(
    operator: KeyPair, *, name: str, system_account: str, now: float, signing_keys: Iterable[str] = ()
) -> str:
    """Make the JWT of an operator, whom the server's configuration names."""
    nats = {"type": "operator", "version": 2, "system_account": system_account, "signing_keys": sorted(signing_keys)}
    return signed(operator, operator.public, name, nats, now=now)


def revocations_of(account_jwt: str) -> dict[str, int]:
    """Return whom an account has revoked: what was issued for them until that time is void.

    Raises:
        ValueError: it is no JWT.
    """
    return dict(_account_claims(account_jwt)["nats"].get("revocations") or {})


def with_revocations(
    account_jwt: str, signer: KeyPair, *, add: Mapping[str, int], drop: Collection[str] = (), now: float
) -> str:
    """Change whom an account has revoked, and nothing else that its JWT says.

    Args:
        signer: The operator's key, or one of its signing keys.
        now: The JWT's time is at least one second above the old one's: servers that compare their copies keep the
            newer one.

    Raises:
        ValueError: it is no JWT.
    """
    claims = _account_claims(account_jwt)
    kept = {user: until for user, until in revocations_of(account_jwt).items() if user not in drop}
    for user, until in add.items():
        kept[user] = max(until, kept.get(user, 0))
    nats = {**claims["nats"], "revocations": kept}
    issued_at = max(int(now), int(claims["iat"]) + 1)
    return sealed(signer, {**claims, "iat": issued_at, "iss": signer.public, "nats": nats})


def _account_claims(jwt: str) -> dict[str, Any]:
    try:
        claims = claims_of(jwt)
        assert claims["nats"]["type"] == "account" and int(claims["iat"]) >= 0
    except (AssertionError, IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"not the JWT of a NATS account: {error!r}") from None
    return claims
