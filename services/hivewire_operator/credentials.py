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
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import nkeys  # type: ignore[import-untyped]  # it comes without types

from hivewire.provisioning import Permissions

__all__ = [
    "KeyPair",
    "Login",
    "account_jwt",
    "is_account",
    "new_key_pair",
    "new_login",
    "operator_jwt",
    "revocations_of",
    "with_revocations",
]

_PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORAGE = ("mem_storage", "disk_storage", "streams", "consumer")
_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+([\w-]+\.[\w-]+\.[\w-]+)\s+-")
_SEED = re.compile(r"-BEGIN USER NKEY SEED-+\s+(SU[A-Z2-7]+)\s+-")


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
            prefix, entropy = nkeys.decode_seed(bytearray(self.seed.encode()))
            # A seed that was mistyped would be that of another key: its checksum tells.
            if nkeys.encode_seed(bytes(entropy), prefix).decode() != self.seed:
                raise ValueError("wrong checksum")
            return nkeys.from_seed(bytearray(self.seed.encode()))
        except (nkeys.NkeysError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"not the seed of a NATS key ({error!r}): it begins with SO, SA or SU") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user's credentials file, and what it says. Times are in seconds since 1970; `expires_at` is None: never.

    Attributes:
        user: Its public key.
        issuer: The public key that signed it: the account's, or that of one of its signing keys.
        rights: Its claims `pub` and `sub`.
    """

    file: str = field(repr=False)
    user: str
    issuer: str
    account: str
    rights: Mapping[str, Any] = field(repr=False)
    issued_at: int
    expires_at: int | None

    @classmethod
    def read(cls, file: str) -> Login:
        """Read a credentials file. That its issuer signed it is not looked at.

        Raises:
            ValueError: it is none.
        """
        try:
            jwt, seed = _JWT.search(file), _SEED.search(file)
            assert jwt is not None and seed is not None
            claims = _claims(jwt[1])
            assert KeyPair(seed[1]).public == claims["sub"], "the seed is of another user"
            nats, expires_at = claims["nats"], claims.get("exp")
            return cls(
                file=file,
                user=str(claims["sub"]),
                issuer=str(claims["iss"]),
                account=str(nats.get("issuer_account") or claims["iss"]),
                rights={name: nats[name] for name in ("pub", "sub") if name in nats},
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


def is_account(key: str) -> bool:
    """Tell whether a text is the public key of an account."""
    try:
        data = base64.b32decode(key)
    except ValueError:
        return False
    return len(data) == 35 and key.startswith("A") and int.from_bytes(data[33:], "little") == nkeys.crc16(data[:33])


def new_login(
    signer: KeyPair,
    *,
    name: str,
    permissions: Permissions,
    now: float,
    lives_s: float | None,
    entropy: bytes,
    account: str | None = None,
) -> Login:
    """Make a user.

    Args:
        signer: The account's key, or one of its signing keys.
        lives_s: None: for ever.
        entropy: 32 random bytes.
        account: The account's public key, if a signing key signs.

    Raises:
        ValueError: the signer's seed is no seed.
    """
    user = new_key_pair("user", entropy)
    rights = permissions.claims()
    nats: dict[str, Any] = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **rights}
    if account is not None and account != signer.public:
        nats["issuer_account"] = account
    expires_at = None if lives_s is None else int(now + lives_s)
    jwt = _signed(signer, user.public, name, nats, now=now, expires_at=expires_at)
    file = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return Login(
        file=file,
        user=user.public,
        issuer=signer.public,
        account=account or signer.public,
        rights=rights,
        issued_at=int(now),
        expires_at=expires_at,
    )


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
    return _sealed(signer, {**claims, "iat": issued_at, "iss": signer.public, "nats": nats})


def _account_claims(jwt: str) -> dict[str, Any]:
    try:
        claims = _claims(jwt)
        assert claims["nats"]["type"] == "account" and int(claims["iat"]) >= 0
    except (AssertionError, IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"not the JWT of a NATS account: {error!r}") from None
    return claims


def _claims(jwt: str) -> dict[str, Any]:
    payload = jwt.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _signed(
    signer: KeyPair, subject: str, name: str, nats: Mapping[str, Any], *, now: float, expires_at: int | None = None
) -> str:
    claims: dict[str, Any] = {"iat": int(now), "iss": signer.public, "sub": subject, "name": name, "nats": nats}
    if expires_at is not None:
        claims["exp"] = expires_at
    return _sealed(signer, claims)


def _sealed(signer: KeyPair, claims: Mapping[str, Any]) -> str:
    unnamed = {name: value for name, value in claims.items() if name != "jti"}
    digest = hashlib.new("sha512_256", _json(unnamed)).digest()
    claims = {**unnamed, "jti": base64.b32encode(digest).decode().rstrip("=")}
    body = f"{_b64url(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_b64url(_json(claims))}"
    return f"{body}.{_b64url(signer.sign(body.encode()))}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
