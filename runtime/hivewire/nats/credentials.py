"""The login that a NATS credentials file holds: a user's JWT, and the seed that proves it.

The file is read anew at every connect, because whoever issues credentials replaces it before they expire. JWT and seed
are always of one reading: a file that is replaced between two would give a pair that the server refuses.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it comes without types

from hivewire.exceptions import BrokerUnavailableError

_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+([\w-]+\.[\w-]+\.[\w-]+)\s+-")
_SEED = re.compile(r"-BEGIN USER NKEY SEED-+\s+(SU[A-Z2-7]+)\s+-")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's login. `expires_at` is a Unix time; None: never."""

    jwt: str
    seed: str = field(repr=False)
    expires_at: float | None

    def sign(self, nonce: str) -> bytes:
        """Prove to the server that sent `nonce` that the seed is at hand."""
        pair = nkeys.from_seed(bytearray(self.seed.encode()))
        signature: bytes = pair.sign(nonce.encode())
        return base64.b64encode(signature)


class CredentialsFile:
    """A credentials file, as `nsc generate creds` writes it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> Credentials:
        """Return what the file holds now.

        Raises:
            BrokerUnavailableError: there is no such file, or it is no credentials file.
        """
        try:
            text = Path(self.path).read_text()
        except OSError as error:
            raise BrokerUnavailableError(
                f"The NATS credentials file {self.path} can't be read ({error.strerror}): check the path, which comes "
                "from the option `credentials`, --creds or NATS_CREDS"
            ) from error
        except ValueError as error:
            raise self._malformed("it is not text") from error
        jwt, seed = _JWT.search(text), _SEED.search(text)
        if jwt is None or seed is None:
            raise self._malformed("there is no user JWT" if jwt is None else "there is no seed of a user")
        try:
            credentials = Credentials(jwt[1], seed[1], _expiry(jwt[1]))
            credentials.sign("")
        except (ValueError, TypeError, AttributeError, nkeys.NkeysError) as error:
            raise self._malformed(f"JWT or seed is damaged: {error!r}") from error
        return credentials

    def trouble(self) -> str:
        """Say why the file can't be a login now; empty when nothing speaks against it."""
        try:
            expires_at = self.read().expires_at
        except BrokerUnavailableError as error:
            return str(error)
        if expires_at is None or expires_at > time.time():
            return ""
        return f"the login in {self.path} expired at {datetime.fromtimestamp(expires_at, UTC)}: replace the file"

    def _malformed(self, why: str) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"{self.path} is no NATS credentials file ({why}): it needs a user's JWT and seed, as `nsc generate creds` "
            "writes them"
        )


def _expiry(jwt: str) -> float | None:
    payload = jwt.split(".")[1]
    expires_at = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("exp")
    return None if expires_at is None else float(expires_at)
