"""Keys of a NATS in operator mode, and JWTs that are signed with them, in the format of nats-io/jwt, version 2.

Pure: the clock and the randomness come from the caller.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import nkeys  # type: ignore[import-untyped]  # it comes without types

__all__ = ["KeyPair", "claims_of", "is_account", "new_key_pair", "sealed", "signed"]

_PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


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


def claims_of(jwt: str) -> dict[str, Any]:
    """Read what a JWT says. That it was signed is not looked at.

    Raises:
        IndexError, ValueError: it is no JWT.
    """
    payload = jwt.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def signed(
    signer: KeyPair, subject: str, name: str, nats: Mapping[str, Any], *, now: float, expires_at: int | None = None
) -> str:
    """Make a JWT of NATS claims. Times are in seconds since 1970; `expires_at` is None: never."""
    claims: dict[str, Any] = {"iat": int(now), "iss": signer.public, "sub": subject, "name": name, "nats": nats}
    if expires_at is not None:
        claims["exp"] = expires_at
    return sealed(signer, claims)


def sealed(signer: KeyPair, claims: Mapping[str, Any]) -> str:
    """Sign all claims of a JWT, and name it by them."""
    unnamed = {name: value for name, value in claims.items() if name != "jti"}
    digest = hashlib.new("sha512_256", _json(unnamed)).digest()
    claims = {**unnamed, "jti": base64.b32encode(digest).decode().rstrip("=")}
    body = f"{_b64url(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_b64url(_json(claims))}"
    return f"{body}.{_b64url(signer.sign(body.encode()))}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
