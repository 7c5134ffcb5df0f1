"""When a login is made anew."""

from typing import Any

import pytest

from hivewire.provisioning import Subjects, TypeShape, worker_permissions
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.login_sources import Shared
from hivewire_operator.logins import Kept, Needed, decide, due_at
from unit.operator.login_secrets import ACCOUNT, MINTING, OPERATOR, SIGNING, creds, minting

RIGHTS = worker_permissions(Subjects("shop"), deployment="cart", types={"cart": TypeShape()})
MORE = worker_permissions(Subjects("shop"), deployment="cart", types={"cart": TypeShape(), "till": TypeShape()})
SOURCE = minting(login_seconds="3600")


def login(**changes: Any) -> Login:
    wanted = {
        "signer": SIGNING,
        "account": ACCOUNT.public,
        "name": "cart",
        "permissions": RIGHTS,
        "now": 1_000,
        "lives_s": 3_600,
        "entropy": b"u" * 32,
    }
    return new_login(**{**wanted, **changes})


def decided(current: Login | None, **changes: Any) -> Kept | Needed:
    given = {"source": SOURCE, "permissions": RIGHTS, "issued": {login().user}, "now": 1_000.0}
    return decide(current, **{**given, **changes})


def test_it_stays_until_half_of_its_life_is_over() -> None:
    due = due_at(login(), SOURCE)
    assert due == 2_800
    assert decided(Login.read(login().file), now=due - 1) == Kept(login())
    assert decided(login(), now=due) == Needed("half over")


def test_a_life_that_was_made_shorter_holds_for_those_that_were_made_before() -> None:
    shorter = minting(login_seconds="60")
    assert due_at(login(), shorter) == 1_030
    assert decided(login(), source=shorter, now=1_030.0) == Needed("half over")


def test_a_life_that_was_made_longer_does_not_make_it_live_longer() -> None:
    assert due_at(login(), minting(login_seconds="7200")) == 2_800


def test_one_that_never_expires_is_not_left() -> None:
    assert decided(login(lives_s=None)) == Needed("half over")


@pytest.mark.parametrize("rights", [MORE, worker_permissions(Subjects("shop"), deployment="cart", types={})])
def test_other_rights_take_another_login(rights: Any) -> None:
    assert decided(login(), permissions=rights) == Needed("other rights")


def test_another_key_or_account_takes_another_login() -> None:
    assert decided(login(signer=ACCOUNT)) == Needed("other issuer")
    other = minting({**MINTING, "account": SIGNING.public})
    assert decided(login(), source=other) == Needed("other issuer")


def test_one_that_the_ledger_does_not_know_is_made_anew_so_that_it_could_be_revoked() -> None:
    assert decided(login(), issued=set()) == Needed("not known")


def test_without_one_there_has_to_be_one() -> None:
    assert decided(None) == Needed("missing")


def test_the_shared_one_is_copied_once_and_never_due() -> None:
    shared = Shared(name="main", login=Login.read(creds()))
    assert decided(None, source=shared) == Needed("missing")
    assert decided(login(), source=shared) == Needed("not the shared one")
    assert decided(Login.read(creds().strip()), source=shared) == Kept(Login.read(creds().strip()))
    assert due_at(shared.login, shared) is None


def test_a_file_with_the_seed_of_another_user_is_none() -> None:
    mixed = (
        login().file.split("-----BEGIN USER")[0] + "-----BEGIN USER" + creds(entropy=b"z" * 32).split("BEGIN USER")[1]
    )
    with pytest.raises(ValueError, match="not a NATS credentials file"):
        Login.read(mixed)
    assert OPERATOR.seed not in repr(login())
