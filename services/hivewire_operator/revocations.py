"""Tells NATS that users are let in no more: servers cut their connections and refuse their logins.

Whom an account has revoked stands in its JWT, which is read, changed and put back over the system account. Nothing
guards against somebody else who does the same at the same moment; so it is read once more, and changed again if what
was written is not in it. Doing it twice does no harm.

A server takes a JWT that another operator's key has signed, and then lets nobody of the account in, for good (ran,
2.15.1). So it is asked first whom it trusts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import nats.errors
from nats.aio.client import Client, RawCredentials

from hivewire.exceptions import HivewireError
from hivewire.provisioning import trusted
from hivewire_operator.login_sources import RevocationKeys
from hivewire_operator.nats_accounts import revocations_of, with_revocations

__all__ = ["RevocationError", "revoke"]

TIMEOUT_S: Final = 15.0
_CONNECT_S: Final = 5
_REQUEST_S: Final = 5.0
_ATTEMPTS: Final = 3
_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"
_SERVER: Final = "$SYS.REQ.SERVER.PING.VARZ"


class RevocationError(Exception):
    """NATS could not be told, or did not accept it: to be tried again. The logins expire all the same."""


async def revoke(
    keys: RevocationKeys,
    account: str,
    *,
    users: Mapping[str, int],
    forget: Collection[str] = (),
    now: float,
) -> None:
    """Let users of an account in no more. It takes less than 15 seconds.

    Args:
        users: By their public keys: what was issued for them until that time (in seconds since 1970) is void. A time
            to come, such as that at which the login expires, leaves nothing to clocks that differ.
        forget: Users that need not be remembered as revoked any longer.

    Raises:
        RevocationError: it is not known to be done.
    """
    if not users and not forget:
        return
    try:
        async with asyncio.timeout(TIMEOUT_S), _system_client(keys) as client:
            if keys.operator.public not in await _trusted(client):
                raise ValueError("it does not trust the operator-signing-key, which is of another operator")
            for _ in range(_ATTEMPTS):
                jwt = await _look_up(client, account)
                known = revocations_of(jwt)
                if _has(known, users) and not any(user in known for user in forget):
                    return
                await _update(client, with_revocations(jwt, keys.operator, add=users, drop=forget, now=now))
            raise RevocationError("Somebody else changes the account at the same time, again and again")
    except TimeoutError:
        raise RevocationError(f"NATS at {keys.url} gave no answer") from None
    except (OSError, nats.errors.Error, HivewireError, ValueError) as error:
        raise RevocationError(f"NATS at {keys.url} could not be told whom to let in no more: {error}") from error


def _has(known: Mapping[str, int], users: Mapping[str, int]) -> bool:
    return all(known.get(user, 0) >= until for user, until in users.items())


@asynccontextmanager
async def _system_client(keys: RevocationKeys) -> AsyncIterator[Client]:
    client = Client()
    try:
        await client.connect(
            keys.url.split(","),
            user_credentials=RawCredentials(keys.system),
            name="hivewire operator",
            allow_reconnect=False,
            # Also holds for the first connection: each server gets a second chance.
            max_reconnect_attempts=1,
            reconnect_time_wait=1,
            connect_timeout=_CONNECT_S,
            error_cb=_ignore,
            tls=trusted(),
        )
        yield client
    finally:
        # A connection that was refused is open still.
        await client.close()


async def _ignore(error: Exception) -> None:
    """What goes wrong is raised where it is waited for."""


async def _trusted(client: Client) -> set[str]:
    """Return the keys that may sign accounts."""
    answer = json.loads((await client.request(_SERVER, timeout=_REQUEST_S)).data)
    operators: list[dict[str, Any]] = (answer.get("data") or {}).get("trusted_operators_claim") or []
    keys = {str(each["sub"]) for each in operators}
    return keys.union(*(each["nats"].get("signing_keys") or () for each in operators))


async def _look_up(client: Client, account: str) -> str:
    answer = await client.request(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", timeout=_REQUEST_S)
    if not answer.data:
        raise ValueError(f"it does not know the account {account}")
    return answer.data.decode()


async def _update(client: Client, jwt: str) -> None:
    answer = json.loads((await client.request(_UPDATE, jwt.encode(), timeout=_REQUEST_S)).data)
    if (answer.get("data") or {}).get("code") != 200:
        told = (answer.get("error") or {}).get("description", answer)
        raise ValueError(f"it does not take the account's new JWT ({told})")
