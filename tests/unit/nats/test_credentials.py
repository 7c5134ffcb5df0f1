from __future__ import annotations

import time
from pathlib import Path

import pytest

from broker.jwt_accounts import JwtAccounts
from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.credentials import CredentialsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nats.creds"


def test_a_file_is_read_anew_each_time(path: Path) -> None:
    accounts = JwtAccounts()
    file = CredentialsFile(str(path))
    path.write_text(accounts.credentials())
    first = file.read()
    assert file.read() == first
    path.write_text(accounts.credentials(lives_s=100).replace("\n", "\r\n"))
    assert file.read() != first
    assert first.expires_at is None
    assert file.read().expires_at == pytest.approx(time.time() + 100, abs=5)


def test_the_seed_is_in_no_text(path: Path) -> None:
    text = JwtAccounts().credentials()
    path.write_text(text)
    credentials = CredentialsFile(str(path)).read()
    assert credentials.seed in text
    assert credentials.seed not in repr(credentials)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"-----BEGIN NATS USER JWT-----\n\n------END"])
def test_what_is_no_credentials_file_is_one_error_that_says_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BrokerUnavailableError, match=r"is no NATS credentials file .*`nsc generate creds`"):
        CredentialsFile(str(path)).read()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError, match="Is a directory"):
        CredentialsFile(str(tmp_path)).read()


def test_a_damaged_jwt_or_seed_does_not_show_the_seed(path: Path) -> None:
    text = JwtAccounts().credentials()
    seed = text.split("SEED-----\n")[1].split("\n")[0]
    for bad in (text.replace(seed, seed[:20]), text.replace(text.split("\n")[1], "a.b.c")):
        path.write_text(bad)
        with pytest.raises(BrokerUnavailableError, match="JWT or seed is damaged") as caught:
            CredentialsFile(str(path)).read()
        assert seed[:20] not in str(caught.value)


def test_trouble_is_told_before_the_server_tells_it(path: Path) -> None:
    accounts = JwtAccounts()
    file = CredentialsFile(str(path))
    assert "can't be read" in file.trouble()
    path.write_text(accounts.credentials(lives_s=100))
    assert file.trouble() == ""
    path.write_text(accounts.credentials(lives_s=-100))
    assert "expired at" in file.trouble()
