"""Logins for a NATS server in operator mode: who holds a signing key of an account makes its users, and the server has
to be told nothing.

Pure: the clock and the randomness come from the caller. The format is that of nats-io/jwt, version 2. A user's file is
what the components read (`NATS_CREDS`); it is to be replaced when half of its life is over, as a mounted Secret takes a
minute to change and the server ends a connection whose login has expired.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import nkeys  # type: ignore[import-untyped]  # it comes without types

from hivewire.provisioning import Permissions

__all__ = ["KeyPair", "Login", "account_jwt", "new_key_pair", "new_login", "operator_jwt"]

_PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORAGE = ("mem_storage", "disk_storage", "streams", "consumer")
_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+([\w-]+\.[\w-]+\.[\w-]+)\s+-")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key pair, as its seed says it."""

    seed: str = field(repr=False)

    @property
    def public(self) -> str:
        """The public key, which names an operator, account or user.

        Raises:
            ValueError: the seed is no seed.
        """
        return str(self._pair().public_key.decode())

    def sign(self, data: bytes) -> bytes:
        """Sign.

        Raises:
            ValueError: the seed is no seed.
        """
        signature: bytes = self._pair().sign(data)
        return signature

    def _pair(self) -> Any:
        try:
            return nkeys.from_seed(bytearray(self.seed.encode()))
        except (nkeys.NkeysError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"not the seed of a NATS key ({error!r}): it begins with SO, SA or SU") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user's credentials file, and what it says. Times are in seconds since 1970; `expires_at` is None: never."""

    file: str = field(repr=False)
    user: str
    issued_at: int
    expires_at: int | None

    @classmethod
    def read(cls, file: str) -> Login:
        """Read a credentials file.

        Raises:
            ValueError: it is none.
        """
        try:
            found = _JWT.search(file)
            assert found is not None
            payload = found[1].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            expires_at = claims.get("exp")
            return cls(
                file=file,
                user=str(claims["sub"]),
                issued_at=int(claims["iat"]),
                expires_at=None if expires_at is None else int(expires_at),
            )
        except (AssertionError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a NATS credentials file: {error!r}") from None

    def renew_at(self) -> float | None:
        """Return when half of its life is over; None: never."""
        return None if self.expires_at is None else (self.issued_at + self.expires_at) / 2


def new_key_pair(kind: Literal["operator", "account", "user"], entropy: bytes) -> KeyPair:
    """Make a key pair of 32 random bytes."""
    return KeyPair(nkeys.encode_seed(entropy, _PREFIXES[kind]).decode())


def new_login(
    signer: KeyPair,
    *,
    name: str,
    permissions: Permissions,
    now: float,
    lives_s: float,
    entropy: bytes,
    account: str | None = None,
) -> Login:
    """Make a user.

    Args:
        signer: The account's key, or one of its signing keys.
        entropy: 32 random bytes.
        account: The account's public key, if a signing key signs.

    Raises:
        ValueError: the signer's seed is no seed.
    """
    user = new_key_pair("user", entropy)
    nats: dict[str, Any] = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    if account is not None and account != signer.public:
        nats["issuer_account"] = account
    expires_at = int(now + lives_s)
    jwt = _signed(signer, user.public, name, {**nats, **permissions.claims()}, now=now, expires_at=expires_at)
    file = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return Login(file=file, user=user.public, issued_at=int(now), expires_at=expires_at)


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
    return _signed(signer, account, name, nats, now=now)


def operator_jwt(
    operator: KeyPair, *, name: str, system_account: str, now: float, signing_keys: Iterable[str] = ()
) -> str:
    """Make the JWT of an operator, whom the server's configuration names."""
    nats = {"type": "operator", "version": 2, "system_account": system_account, "signing_keys": sorted(signing_keys)}
    return _signed(operator, operator.public, name, nats, now=now)


def _signed(
    signer: KeyPair, subject: str, name: str, nats: Mapping[str, Any], *, now: float, expires_at: int | None = None
) -> str:
    claims: dict[str, Any] = {"iat": int(now), "iss": signer.public, "sub": subject, "name": name, "nats": nats}
    if expires_at is not None:
        claims["exp"] = expires_at
    digest = hashlib.new("sha512_256", _json(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    body = f"{_b64url(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_b64url(_json(claims))}"
    return f"{body}.{_b64url(signer.sign(body.encode()))}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
