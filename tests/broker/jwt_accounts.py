"""A server in operator mode, and users that log in to it by JWT, as the `nsc` tool would make them.

The format of the JWTs is that of nats-io/jwt, version 2.
"""

import base64
import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys

_UNLIMITED = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    **dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1),
    "wildcards": True,
}
_NO_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), 0)


class JwtAccounts:
    """An operator with a system account and one account with JetStream, whose users this makes."""

    def __init__(self) -> None:
        self._operator, self._system, self._account = (
            _key(nkeys.PREFIX_BYTE_OPERATOR),
            _key(nkeys.PREFIX_BYTE_ACCOUNT),
            _key(nkeys.PREFIX_BYTE_ACCOUNT),
        )

    @property
    def config_lines(self) -> str:
        """What a server has to be configured with."""
        accounts = {
            _public(self._system): self._account_jwt(self._system, {**_UNLIMITED, **_NO_JETSTREAM}),
            _public(self._account): self._account_jwt(self._account, _UNLIMITED),
        }
        claims = {"type": "operator", "version": 2, "system_account": _public(self._system)}
        return "\n".join(
            [
                f"operator: {_signed(self._operator, self._operator, claims)}",
                f"system_account: {_public(self._system)}",
                "resolver: MEMORY",
                f"resolver_preload: {json.dumps(accounts)}",
            ]
        )

    def credentials(self, *, lives_s: float | None = None, **claims: Any) -> str:
        """Return a credentials file of a new user, who may do all but for the claims, and so long."""
        user = _key(nkeys.PREFIX_BYTE_USER)
        jwt = _signed(
            self._account,
            user,
            {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **claims},
            expires_at=None if lives_s is None else int(time.time() + lives_s),
        )
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )

    def _account_jwt(self, account: Any, limits: dict[str, Any]) -> str:
        return _signed(self._operator, account, {"type": "account", "version": 2, "limits": limits})


def replace(path: Path, text: str) -> None:
    """Put a file in the place of another one, or of none, as a mounted Secret does it: at once, by a link."""
    target = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    target.write_text(text)
    link = path.with_name(f"{target.name}.link")
    link.symlink_to(target)
    link.rename(path)


def _key(prefix: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _public(key: Any) -> str:
    return str(key.public_key.decode())


def _signed(signer: Any, subject: Any, nats: dict[str, Any], *, expires_at: int | None = None) -> str:
    claims = {"iat": int(time.time()), "iss": _public(signer), "sub": _public(subject), "name": "test", "nats": nats}
    if expires_at is not None:
        claims["exp"] = expires_at
    digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    body = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(claims)}"
    return f"{body}.{_b64url(signer.sign(body.encode()))}"


def _encoded(value: dict[str, Any]) -> str:
    return _b64url(json.dumps(value).encode())


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
