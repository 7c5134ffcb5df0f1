"""Logins as the operator makes them, without a server."""

import base64
import json
from typing import Any

import pytest

from hivewire.provisioning import Subjects, TypeShape, worker_permissions
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.nats_accounts import account_jwt, operator_jwt, revocations_of, with_revocations
from hivewire_operator.nats_keys import KeyPair, is_account, new_key_pair

ACCOUNT = new_key_pair("account", b"a" * 32)
SIGNING = new_key_pair("account", b"s" * 32)
OPERATOR = new_key_pair("operator", b"o" * 32)
PERMISSIONS = worker_permissions(Subjects("shop"), deployment="cart", types={"cart": TypeShape()})


def claims_of(jwt: str) -> dict[str, Any]:
    header, payload, _ = jwt.split(".")
    claims: dict[str, Any] = json.loads(_decoded(payload))
    assert json.loads(_decoded(header)) == {"typ": "JWT", "alg": "ed25519-nkey"}
    return claims


def login(**changes: Any) -> Login:
    return new_login(
        **{
            "signer": SIGNING,
            "account": ACCOUNT.public,
            "name": "cart",
            "permissions": PERMISSIONS,
            "now": 1_000.5,
            "lives_s": 3_600,
            "entropy": b"u" * 32,
            **changes,
        }
    )


def test_a_login_is_the_same_for_the_same_clock_and_randomness() -> None:
    assert login() == login()
    assert login(entropy=b"v" * 32).user != login().user


def test_a_user_has_the_rights_of_its_permissions_and_a_life() -> None:
    claims = claims_of(login().file.split("\n")[1])
    assert (claims["iat"], claims["exp"], claims["iss"], claims["name"]) == (1_000, 4_600, SIGNING.public, "cart")
    assert claims["nats"]["issuer_account"] == ACCOUNT.public
    assert claims["nats"]["pub"]["allow"] == list(PERMISSIONS.publish)
    assert claims["nats"]["sub"]["allow"] == list(PERMISSIONS.subscribe)
    assert "resp" not in claims["nats"]


def test_a_user_of_the_account_itself_names_no_other_issuer() -> None:
    claims = claims_of(login(signer=ACCOUNT).file.split("\n")[1])
    assert claims["iss"] == ACCOUNT.public
    assert "issuer_account" not in claims["nats"]


def test_a_file_that_is_read_again_says_when_it_is_to_be_renewed() -> None:
    made = login()
    read = Login.read(made.file)
    assert read == made
    assert read.renew_at() == 2_800
    assert made.file not in repr(made)


@pytest.mark.parametrize("file", ["", "x", "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n"])
def test_what_is_no_credentials_file_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match="not a NATS credentials file"):
        Login.read(file)


def test_an_account_names_its_signing_keys_and_whom_it_has_revoked() -> None:
    jwt = account_jwt(
        OPERATOR, ACCOUNT.public, name="shop", now=7, signing_keys=[SIGNING.public], revoked={"UABC": 1_000.9}
    )
    nats = claims_of(jwt)["nats"]
    assert nats["signing_keys"] == [SIGNING.public]
    assert nats["revocations"] == {"UABC": 1_000}
    assert nats["limits"]["streams"] == -1
    system = claims_of(account_jwt(OPERATOR, ACCOUNT.public, name="system", now=7, has_jetstream=False))["nats"]
    assert system["limits"]["streams"] == 0


def test_an_operator_signs_itself() -> None:
    claims = claims_of(operator_jwt(OPERATOR, name="hivewire", system_account=ACCOUNT.public, now=7))
    assert claims["iss"] == claims["sub"] == OPERATOR.public


def test_revoking_changes_nothing_else_of_an_account() -> None:
    claims = {
        **claims_of(account_jwt(OPERATOR, ACCOUNT.public, name="shop", now=7, revoked={"U1": 5, "U2": 6, "*": 1})),
        "exp": 99,
        "aud": "somebody",
    }
    claims["nats"]["limits"]["conn"] = 3
    claims["nats"]["imports"] = [{"subject": "x"}]
    before = f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"
    other = new_key_pair("operator", b"p" * 32)
    after = claims_of(with_revocations(before, other, add={"U3": 9, "U1": 4}, drop=["U2", "U9"], now=8.5))
    assert after["nats"].pop("revocations") == {"U1": 5, "U3": 9, "*": 1}
    assert (after.pop("iss"), after.pop("iat")) == (other.public, 8)
    assert after.pop("jti") != claims.pop("jti")
    claims["nats"].pop("revocations")
    assert after == {name: value for name, value in claims.items() if name not in ("iss", "iat")}


def test_a_change_of_an_account_is_newer_than_what_it_changes_whatever_the_clock_says() -> None:
    before = account_jwt(OPERATOR, ACCOUNT.public, name="shop", now=100)
    assert revocations_of(before) == {}
    assert claims_of(with_revocations(before, OPERATOR, add={"U": 1}, now=50))["iat"] == 101


@pytest.mark.parametrize(
    "jwt", ["", "x", "a.b.c", "e30.e30.x", operator_jwt(OPERATOR, name="o", system_account="A", now=7)]
)
def test_what_is_no_account_is_not_changed(jwt: str) -> None:
    with pytest.raises(ValueError, match="not the JWT of a NATS account"):
        with_revocations(jwt, OPERATOR, add={}, now=1)


def test_a_public_key_of_an_account_is_known_from_others() -> None:
    assert is_account(ACCOUNT.public)
    wrong = [OPERATOR.public, ACCOUNT.seed, ACCOUNT.public[:-1], ACCOUNT.public.lower(), "", "ä", "A" * 55 + "B"]
    assert not any(is_account(each) for each in wrong)


@pytest.mark.parametrize("seed", ["", "SUABC", "hello", ACCOUNT.seed[:-1] + "A", ACCOUNT.seed + "A"])
def test_what_is_no_seed_is_refused_without_being_told(seed: str) -> None:
    with pytest.raises(ValueError, match="not the seed of a NATS key"):
        print(KeyPair(seed).public)
    assert not seed or seed not in repr(KeyPair(seed))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
