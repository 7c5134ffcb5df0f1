"""Where logins at NATS come from: a Secret in the operator's namespace, which says itself who may use it.

A namespace's users name a login and never a Secret, and so can't have the operator sign with keys of others.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hivewire_operator.cluster import Object
from hivewire_operator.credentials import Login
from hivewire_operator.nats_keys import KeyPair, is_account
from hivewire_operator.resources.fields import GROUP

__all__ = ["LoginSource", "Minting", "Refused", "RevocationKeys", "Shared", "login_secret", "login_source", "texts_of"]

NAMESPACES_ANNOTATION: Final = f"{GROUP}/namespaces"
LIFE_ANNOTATION: Final = f"{GROUP}/login-seconds"
LIFE_S: Final = 24 * 3600

ACCOUNT: Final = "account"
SIGNING_KEY: Final = "signing-key"
OPERATOR_SIGNING_KEY: Final = "operator-signing-key"
SYSTEM_CREDENTIALS: Final = "system.creds"
SYSTEM_URL: Final = "url"
SHARED_CREDENTIALS: Final = "nats.creds"

_SHORTEST_S: Final = 2
_LONGEST_S: Final = 366 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationKeys:
    """What it takes to tell NATS that a user is let in no more.

    The addresses are not those of an AgentSystem: whoever is there could log in to the system account with what it is
    sent.

    Attributes:
        url: Addresses of servers, separated by commas.
        operator: The key of the NATS operator, or one of its signing keys.
        system: Credentials file of a user of the system account.
    """

    url: str
    operator: KeyPair
    system: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """Each deployment gets users of its own. `revoking` is None: they can't be revoked, and expire by themselves."""

    name: str
    account: str
    signer: KeyPair
    life_s: int
    revoking: RevocationKeys | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One credentials file for all."""

    name: str
    login: Login


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """There is no login: `reason` is a word for programs, `message` a sentence for people."""

    reason: str
    message: str


LoginSource = Minting | Shared | Refused


def login_secret(name: str) -> str:
    """Name the Secret with a login, in the operator's namespace."""
    return f"hivewire-login-{name}"


def login_source(secret: Object | None, *, name: str, namespace: str | None) -> LoginSource:
    """Read a login's Secret.

    Args:
        secret: None: there is none.
        namespace: Who wants to use it; None: the operator itself does, to revoke.
    """
    if secret is None:
        return Refused(
            reason="LoginMissing",
            message=f"There is no login {name}: the operator's namespace has no Secret {login_secret(name)}.",
        )
    annotations: Mapping[str, str] = secret["metadata"].get("annotations") or {}
    allowed = [each.strip() for each in annotations.get(NAMESPACES_ANNOTATION, "").split(",")]
    if namespace is not None and "*" not in allowed and namespace not in allowed:
        return Refused(
            reason="LoginNotAllowed",
            message=f"The login {name} is not for the namespace {namespace}: the annotation {NAMESPACES_ANNOTATION} of"
            f" the Secret {login_secret(name)} does not list it.",
        )
    try:
        return _read(name, texts_of(secret), annotations.get(LIFE_ANNOTATION, str(LIFE_S)))
    except ValueError as error:
        return Refused(reason="LoginMalformed", message=f"The Secret {login_secret(name)} can't be used: {error}.")


def texts_of(secret: Object) -> dict[str, str]:
    """Return the data of a Secret as text, without space around it.

    Raises:
        ValueError: some of it is no text.
    """
    data: Mapping[str, str] = secret.get("data") or {}
    found = {}
    for key, value in data.items():
        try:
            found[key] = base64.b64decode(value).decode().strip()
        except ValueError:
            raise ValueError(f"{key} is not text") from None
    return found


def _read(name: str, data: Mapping[str, str], life: str) -> Minting | Shared:
    if SHARED_CREDENTIALS in data:
        if SIGNING_KEY in data:
            raise ValueError(f"it has both {SHARED_CREDENTIALS} and {SIGNING_KEY}, which exclude each other")
        return Shared(name=name, login=_login(data, SHARED_CREDENTIALS))
    missing = [key for key in (ACCOUNT, SIGNING_KEY) if key not in data]
    if missing:
        raise ValueError(f"it lacks {' and '.join(missing)}, or else {SHARED_CREDENTIALS}")
    if not is_account(data[ACCOUNT]):
        raise ValueError(f"{ACCOUNT} is not the public key of a NATS account, which begins with A")
    return Minting(
        name=name,
        account=data[ACCOUNT],
        signer=_key(data, SIGNING_KEY, "A"),
        life_s=_life_s(life),
        revoking=_revocation_keys(data),
    )


def _revocation_keys(data: Mapping[str, str]) -> RevocationKeys | None:
    needed = (OPERATOR_SIGNING_KEY, SYSTEM_CREDENTIALS, SYSTEM_URL)
    missing = [key for key in needed if key not in data]
    if len(missing) == len(needed):
        return None
    if missing:
        raise ValueError(f"to revoke logins takes {', '.join(needed)}, and it lacks {' and '.join(missing)}")
    if not all(each.startswith(("nats://", "tls://")) for each in data[SYSTEM_URL].split(",")):
        raise ValueError(f"{SYSTEM_URL} is not a list of addresses such as nats://host:4222, separated by commas")
    operator = _key(data, OPERATOR_SIGNING_KEY, "O")
    return RevocationKeys(url=data[SYSTEM_URL], operator=operator, system=_login(data, SYSTEM_CREDENTIALS).file)


def _key(data: Mapping[str, str], name: str, prefix: str) -> KeyPair:
    pair = KeyPair(data[name])
    try:
        is_right = pair.public.startswith(prefix)
    except ValueError:
        is_right = False
    if not is_right:
        # Nothing of a seed is ever told.
        raise ValueError(f"{name} is not a seed that begins with S{prefix}")
    return pair


def _login(data: Mapping[str, str], name: str) -> Login:
    try:
        return Login.read(data[name] + "\n")
    except ValueError:
        raise ValueError(f"{name} is not a NATS credentials file") from None


def _life_s(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not _SHORTEST_S <= int(text) <= _LONGEST_S:
        raise ValueError(
            f"its annotation {LIFE_ANNOTATION} is not a whole number of seconds from {_SHORTEST_S} to {_LONGEST_S}"
        )
    return int(text)
