"""Makes the keys of a NATS that belongs to Hivewire alone, before its servers start for the first time.

There are two Secrets: what the operator signs with, which it alone may read, and what the servers are configured with,
in which nothing is secret. The second follows from the first, to the byte, so it can be made again at any time. Keys
that are there are never replaced. Those of the account itself and of the system account are thrown away: the operator's
key stands above them.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hivewire.provisioning import Permissions
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.login_sources import (
    ACCOUNT,
    NAMESPACES_ANNOTATION,
    OPERATOR_SIGNING_KEY,
    SIGNING_KEY,
    SYSTEM_CREDENTIALS,
    SYSTEM_URL,
    Minting,
    Refused,
    RevocationKeys,
    login_secret,
    login_source,
    texts_of,
)
from hivewire_operator.names import FIELD_MANAGER
from hivewire_operator.nats_accounts import account_jwt, operator_jwt
from hivewire_operator.nats_keys import is_account, new_key_pair

__all__ = ["AUTH_SECRET", "BootstrapError", "bootstrap", "new_keys", "server_files"]

AUTH_SECRET: Final = "hivewire-nats-auth"
OPERATOR_FILE: Final = "operator.jwt"
RESOLVER_FILE: Final = "resolver.conf"

SYSTEM_PERMISSIONS: Final = Permissions(publish=(">",), publish_denied=(), subscribe=(">",), inbox_prefix="_INBOX")
_ACCOUNT_LINE: Final = re.compile(r"^# agents: (\w+)$", re.MULTILINE)


class BootstrapError(Exception):
    """What is there is not what was made here, and is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Which of the Secrets were made."""

    keys: bool
    files: bool


async def bootstrap(cluster: Cluster, *, namespace: str, login: str, allowed: str, url: str, now: float) -> Done:
    """Make what is missing of the two Secrets. May be repeated.

    Args:
        namespace: Where the operator runs.
        login: The name of the login.
        allowed: The namespaces that may use it, separated by commas; ``*``: all.
        url: Where the servers will be.

    Raises:
        BootstrapError: there is such a login, and it is not one from here.
        ApiUnavailableError, ApiError: as `Cluster`.
    """
    found = await cluster.get("Secret", namespace, login_secret(login))
    files = await cluster.get("Secret", namespace, AUTH_SECRET)
    annotations = {NAMESPACES_ANNOTATION: allowed}
    if found is None:
        account = None if files is None else _account_of(files)
        data = _encoded(new_keys(account=account, now=now, entropy=lambda: secrets.token_bytes(32)))
    else:
        data = dict(found.get("data") or {})
    if OPERATOR_SIGNING_KEY in data:
        data.update(_encoded({SYSTEM_URL: url}))
    keys = _secret(namespace, login_secret(login), data, annotations)
    wanted = server_files(login_source(keys, name=login, namespace=None), login=login)
    await cluster.apply("Secret", keys)
    is_current = files is not None and _operator_of(files) == wanted[OPERATOR_FILE].strip()
    if not is_current:
        await cluster.apply("Secret", _secret(namespace, AUTH_SECRET, _encoded(wanted), {}))
    return Done(keys=found is None, files=not is_current)


def new_keys(*, account: str | None, now: float, entropy: Callable[[], bytes]) -> dict[str, str]:
    """Make the keys that the operator signs with, as the data of their Secret.

    Args:
        account: The account's public key, if there was one: what it has stored stays its own. None: a new one.
        entropy: Returns 32 random bytes.
    """
    system = new_key_pair("account", entropy())
    user = new_login(system, name="hivewire", permissions=SYSTEM_PERMISSIONS, now=now, lives_s=None, entropy=entropy())
    return {
        ACCOUNT: account or new_key_pair("account", entropy()).public,
        SIGNING_KEY: new_key_pair("account", entropy()).seed,
        OPERATOR_SIGNING_KEY: new_key_pair("operator", entropy()).seed,
        SYSTEM_CREDENTIALS: user.file,
    }


def server_files(source: object, *, login: str) -> dict[str, str]:
    """Return the files of which a server is configured, by their names.

    The accounts are dated by when the keys were made: a server takes from its configuration only what is newer than
    what it has stored, and must not forget whom an account has revoked since.

    Raises:
        BootstrapError: keys are missing.
    """
    if isinstance(source, Refused):
        raise BootstrapError(source.message)
    if not isinstance(source, Minting) or source.revoking is None:
        raise BootstrapError(
            f"The Secret {login_secret(login)} was not made here: it has no operator key, and a NATS that belongs to "
            "Hivewire needs one. Use it with a NATS of your own, or remove it, and its keys are made anew."
        )
    keys: RevocationKeys = source.revoking
    system = Login.read(keys.system)
    operator, made_at = keys.operator, system.issued_at
    operators = operator_jwt(operator, name="hivewire", system_account=system.account, now=made_at)
    accounts = {
        system.account: account_jwt(operator, system.account, name="system", now=made_at, has_jetstream=False),
        source.account: account_jwt(
            operator, source.account, name="agents", now=made_at, signing_keys=[source.signer.public]
        ),
    }
    lines = [
        f"# agents: {source.account}",
        f"operator: {operators}",
        f"system_account: {system.account}",
        f"resolver_preload: {json.dumps(accounts)}",
    ]
    return {OPERATOR_FILE: operators + "\n", RESOLVER_FILE: "\n".join(lines) + "\n"}


def _operator_of(files: Object) -> str:
    try:
        return texts_of(files).get(OPERATOR_FILE, "")
    except ValueError:
        return ""


def _account_of(files: Object) -> str | None:
    """Return whose streams the servers keep, when the keys were lost."""
    try:
        found = _ACCOUNT_LINE.search(texts_of(files).get(RESOLVER_FILE, ""))
    except ValueError:
        return None
    return found[1] if found is not None and is_account(found[1]) else None


def _secret(namespace: str, name: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "hivewire", "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "annotations": dict(annotations),
        },
        "data": dict(data),
    }


def _encoded(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in texts.items()}
