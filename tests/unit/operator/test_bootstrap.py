"""The keys of a NATS of Hivewire's own, and what its servers are configured with."""

import secrets

import pytest

from hivewire_operator.bootstrap import BootstrapError, new_keys, server_files
from hivewire_operator.credentials import Login
from hivewire_operator.login_sources import Refused, login_source
from hivewire_operator.nats_keys import is_account
from unit.operator.login_secrets import MINTING, REVOKING, creds, minting, secret


def keys(*, account: str | None = None) -> dict[str, str]:
    made = new_keys(account=account, now=1_000, entropy=lambda: secrets.token_bytes(32))
    return {**made, "url": "nats://n:4222"}


def test_new_keys_make_logins_that_can_be_revoked() -> None:
    source = minting(keys())
    assert source.revoking is not None
    assert is_account(source.account)
    assert source.account != source.signer.public
    system = Login.read(source.revoking.system)
    assert system.expires_at is None
    assert system.account not in (source.account, source.signer.public)


def test_what_the_servers_get_follows_from_the_keys_and_has_none_of_them() -> None:
    made = keys()
    files = server_files(minting(made), login="main")
    assert files == server_files(minting(made), login="main")
    assert set(files) == {"operator.jwt", "resolver.conf"}
    lines = [line.split(":")[0] for line in files["resolver.conf"].splitlines()]
    assert lines == ["# agents", "operator", "system_account", "resolver_preload"]
    seeds = [made["signing-key"], made["operator-signing-key"], Login.read(made["system.creds"]).file]
    assert not any(seed in text for seed in seeds for text in files.values())


def test_keys_that_were_lost_are_made_anew_for_the_account_that_has_the_streams() -> None:
    first, second = keys(), keys(account=minting(keys()).account)
    assert second["account"] != first["account"]
    assert keys(account=first["account"])["account"] == first["account"]


def test_a_login_without_an_operators_key_is_left_alone() -> None:
    for data in (MINTING, {"nats.creds": creds()}):
        source = login_source(secret(data), name="main", namespace=None)
        with pytest.raises(BootstrapError, match="hivewire-login-main was not made here"):
            server_files(source, login="main")


def test_a_login_that_is_malformed_is_left_alone() -> None:
    source = login_source(secret({**REVOKING, "account": "x"}), name="main", namespace=None)
    assert isinstance(source, Refused)
    with pytest.raises(BootstrapError, match="account is not the public key"):
        server_files(source, login="main")
