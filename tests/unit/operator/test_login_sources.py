"""What the Secret of a login says, and who may use it."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from hivewire_operator.login_sources import Minting, Refused, Shared, login_source
from unit.operator.login_secrets import ACCOUNT, MINTING, OPERATOR, REVOKING, SIGNING, creds, minting, secret


def refused(found: Any, *, namespace: str | None = "shop") -> Refused:
    source = login_source(found, name="main", namespace=namespace)
    assert isinstance(source, Refused), source
    return source


def test_keys_make_logins_for_a_day_that_expire_by_themselves() -> None:
    assert minting() == Minting(name="main", account=ACCOUNT.public, signer=SIGNING, life_s=86_400, revoking=None)


def test_with_an_operators_key_logins_can_be_revoked() -> None:
    revoking = minting(REVOKING).revoking
    assert revoking is not None
    assert (revoking.operator, revoking.system) == (OPERATOR, REVOKING["system.creds"])
    assert revoking.url == "nats://a:4222,tls://b:4222"
    assert OPERATOR.seed not in repr(minting(REVOKING))
    assert "SEED" not in repr(minting(REVOKING))


def test_a_life_may_be_set() -> None:
    assert minting(login_seconds="60").life_s == 60


def test_space_around_what_was_pasted_does_not_count() -> None:
    assert minting({name: f"\n {value}\n" for name, value in MINTING.items()}) == minting()


def test_one_file_may_be_for_all() -> None:
    source = login_source(secret({"nats.creds": creds()}, namespaces="shop"), name="main", namespace="shop")
    assert isinstance(source, Shared)
    assert source.login.file == creds()


@pytest.mark.parametrize("allowed", ["*", "shop", "bank, shop", " shop ,bank"])
def test_who_is_listed_may_use_it(allowed: str) -> None:
    assert minting(namespaces=allowed)


@pytest.mark.parametrize("allowed", ["", "bank", "shops", "sho", "shop bank", "sh*"])
def test_nobody_else_may_use_it_but_the_operator_itself_to_revoke(allowed: str) -> None:
    found = secret(MINTING, namespaces=allowed)
    told = refused(found)
    assert told.reason == "LoginNotAllowed"
    assert "hivewire-login-main" in told.message and "namespace shop" in told.message
    assert isinstance(login_source(found, name="main", namespace=None), Minting)


def test_without_an_annotation_nobody_may_use_it() -> None:
    found = secret(MINTING)
    found["metadata"].pop("annotations")
    assert refused(found).reason == "LoginNotAllowed"


def test_a_login_that_is_not_there_is_named() -> None:
    told = refused(None)
    assert told.reason == "LoginMissing"
    assert "hivewire-login-main" in told.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "lacks account and signing-key, or else nats.creds"),
        ({"account": ACCOUNT.public}, "lacks signing-key"),
        ({**MINTING, "account": ACCOUNT.seed}, "account is not the public key"),
        ({**MINTING, "account": ACCOUNT.public[:-1] + "A"}, "account is not the public key"),
        ({**MINTING, "account": OPERATOR.public}, "account is not the public key"),
        ({**MINTING, "account": "ä"}, "account is not the public key"),
        ({**MINTING, "signing-key": SIGNING.public}, "signing-key is not a seed that begins with SA"),
        ({**MINTING, "signing-key": OPERATOR.seed}, "signing-key is not a seed that begins with SA"),
        ({**MINTING, "signing-key": SIGNING.seed.replace("O", "Q", 1)}, "signing-key is not a seed"),
        ({**MINTING, "operator-signing-key": OPERATOR.seed}, "lacks system.creds and url"),
        ({**MINTING, "system.creds": creds()}, "lacks operator-signing-key and url"),
        ({**REVOKING, "operator-signing-key": SIGNING.seed}, "operator-signing-key is not a seed that begins with SO"),
        ({**REVOKING, "url": "nats://a,http://b"}, "url is not a list of addresses"),
        ({**REVOKING, "url": ""}, "url is not a list of addresses"),
        ({**REVOKING, "system.creds": "x"}, "system.creds is not a NATS credentials file"),
        ({"nats.creds": "x"}, "nats.creds is not a NATS credentials file"),
        ({**MINTING, "nats.creds": creds()}, "has both nats.creds and signing-key"),
    ],
)
def test_what_is_malformed_is_told_without_a_secret(data: Mapping[str, str], said: str) -> None:
    told = refused(secret(data, namespaces="*"))
    assert told.reason == "LoginMalformed"
    assert said in told.message
    assert not any(seed in told.message for seed in (ACCOUNT.seed, SIGNING.seed, OPERATOR.seed))


@pytest.mark.parametrize("life", ["", "1", "0", "-5", "a day", "1.5", "1e3", "99999999999", "²"])
def test_a_life_that_makes_no_sense_is_told(life: str) -> None:
    assert "hivewire.dev/login-seconds" in refused(secret(MINTING, namespaces="*", login_seconds=life)).message


def test_data_that_is_not_text_is_told() -> None:
    found = secret(MINTING, namespaces="*")
    found["data"]["account"] = base64.b64encode(b"\xff\xfe").decode()
    assert "account is not text" in refused(found).message
