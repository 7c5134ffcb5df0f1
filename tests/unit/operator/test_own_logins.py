"""The files that the operator itself logs in with."""

import stat
from pathlib import Path

from hivewire.provisioning import Subjects, operator_permissions
from hivewire_operator.credentials import Login
from hivewire_operator.login_sources import Shared
from hivewire_operator.own_logins import OwnLogins
from unit.operator.login_secrets import creds, minting

SOURCE = minting(login_seconds="3600")


def test_a_file_is_for_this_user_alone_and_has_the_operators_rights(tmp_path: Path) -> None:
    path, due = OwnLogins(tmp_path).ensure("shop", SOURCE, now=1_000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    login = Login.read(path.read_text())
    assert login.rights == operator_permissions(Subjects("shop")).claims()
    assert (login.expires_at, due) == (4_600, 2_800)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_at_half_of_its_life_and_not_before(tmp_path: Path) -> None:
    logins = OwnLogins(tmp_path)
    path, _ = logins.ensure("shop", SOURCE, now=1_000)
    first = path.read_text()
    assert logins.ensure("shop", SOURCE, now=2_799) == (path, 2_800)
    assert path.read_text() == first
    assert logins.ensure("shop", SOURCE, now=2_800) == (path, 4_600)
    assert path.read_text() != first


def test_each_namespace_has_its_own(tmp_path: Path) -> None:
    logins = OwnLogins(tmp_path)
    shop, bank = (Login.read(logins.ensure(name, SOURCE, now=1)[0].read_text()) for name in ("shop", "bank"))
    assert shop.user != bank.user and shop.rights != bank.rights


def test_a_file_that_is_gone_is_made_again_and_one_that_is_not_needed_goes(tmp_path: Path) -> None:
    logins = OwnLogins(tmp_path)
    path, _ = logins.ensure("shop", SOURCE, now=1)
    path.unlink()
    assert logins.ensure("shop", SOURCE, now=2)[0].exists()
    logins.forget("shop")
    logins.forget("never there")
    assert list(tmp_path.iterdir()) == []


def test_a_shared_login_is_used_as_it_is(tmp_path: Path) -> None:
    shared = Shared(name="main", login=Login.read(creds()))
    path, due = OwnLogins(tmp_path).ensure("shop", shared, now=1)
    assert (path.read_text(), due) == (creds(), None)
