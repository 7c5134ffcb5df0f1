"""Secrets with logins, as the API server gives them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hivewire_operator.bootstrap import SYSTEM_PERMISSIONS
from hivewire_operator.credentials import new_login
from hivewire_operator.login_sources import Minting, login_source
from hivewire_operator.nats_keys import new_key_pair

ACCOUNT = new_key_pair("account", b"a" * 32)
SIGNING = new_key_pair("account", b"s" * 32)
OPERATOR = new_key_pair("operator", b"o" * 32)


def secret(data: Mapping[str, str], **annotations: str) -> dict[str, Any]:
    """Return a Secret. Annotations are given without their prefix, and with _ for -."""
    return {
        "metadata": {
            "name": "any",
            "annotations": {f"hivewire.dev/{name.replace('_', '-')}": value for name, value in annotations.items()},
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def creds(**changes: Any) -> str:
    """Return a credentials file."""
    wanted = {"name": "x", "permissions": SYSTEM_PERMISSIONS, "now": 1_000, "lives_s": None, "entropy": b"u" * 32}
    return new_login(ACCOUNT, **{**wanted, **changes}).file


MINTING = {"account": ACCOUNT.public, "signing-key": SIGNING.seed}
REVOKING = {
    **MINTING,
    "operator-signing-key": OPERATOR.seed,
    "system.creds": creds(),
    "url": "nats://a:4222,tls://b:4222",
}


def minting(data: Mapping[str, str] = MINTING, **annotations: str) -> Minting:
    source = login_source(secret(data, **{"namespaces": "*", **annotations}), name="main", namespace="shop")
    assert isinstance(source, Minting), source
    return source
