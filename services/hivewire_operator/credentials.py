"""Logins for a NATS server in operator mode: who holds a signing key of an account makes its users, and the server has
to be told nothing.

Pure: the clock and the randomness come from the caller. A user's file is what the components read (`NATS_CREDS`); it is
to be replaced when half of its life is over, as a mounted Secret takes a minute to change and the server ends a
connection whose login has expired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hivewire.provisioning import Permissions
from hivewire_operator.nats_keys import KeyPair, claims_of, new_key_pair, signed

__all__ = ["Login", "new_login"]

_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+([\w-]+\.[\w-]+\.[\w-]+)\s+-")
_SEED = re.compile(r"-BEGIN USER NKEY SEED-+\s+(SU[A-Z2-7]+)\s+-")


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
            claims = claims_of(jwt[1])
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
    jwt = signed(signer, user.public, name, nats, now=now, expires_at=expires_at)
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
