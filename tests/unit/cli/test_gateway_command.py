"""`hivewire gateway` as it is typed: its configuration, and tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hivewire.cli.app import run
from hivewire_gateway.security.static_tokens import StaticTokens

BROKER = ("--broker", "nats://127.0.0.1:1")


@pytest.fixture(autouse=True)
def keep_log_level() -> Iterator[None]:
    """Give the loggers of the process back as the command found them."""
    logger = logging.getLogger("hivewire")
    level = logger.level
    yield
    logger.setLevel(level)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert run(["gateway", *arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hivewire: ") and shown.err.count("\n") == 1, shown.err
    return shown.err


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["gateway", "token", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_gateway_for_nobody_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert "let nobody in" in fails(capsys, "--host", "0.0.0.0", *BROKER)
    assert "let nobody in" in fails(capsys, "--no-anonymous", *BROKER)


def test_what_is_wrong_in_the_file_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.toml"
    assert "No such file" in fails(capsys, "--config", str(file), *BROKER)
    file.write_text("prot = 1\n[security]\ntoken = 2\n")
    said = fails(capsys, "--config", str(file), *BROKER)
    assert "no key prot: did you mean port?" in said
    assert "no key security.token: did you mean tokens?" in said
    monkeypatch.setenv("HIVEWIRE_GATEWAY_CONFIG", str(file))
    assert "no key prot" in fails(capsys, *BROKER)


def test_what_is_typed_wins_over_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('host = "127.0.0.1"\n')
    assert "0.0.0.0" in fails(capsys, "--config", str(file), "--host", "0.0.0.0", *BROKER)


def test_a_token_is_known_by_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    token, line = made(capsys, "shop")
    assert StaticTokens.parse(line).principal_name(token) == "shop"
    assert StaticTokens.parse(line).principal_name(token + "x") is None
    assert token not in line
    assert made(capsys, "shop")[0] != token


def test_tokens_are_added_to_a_file_that_nobody_else_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    (first,) = made(capsys, "shop", "--add-to", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().rstrip("\n"))
    (second,) = made(capsys, "shop", "--add-to", str(file))
    (other,) = made(capsys, "till", "--add-to", str(file))
    tokens = StaticTokens.parse(file.read_text())
    assert [tokens.principal_name(token) for token in (first, second, other)] == ["shop", "shop", "till"]


def test_a_token_that_can_not_be_stored_is_not_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "can't write" in fails(capsys, "token", "shop", "--add-to", str(tmp_path), code=1)


@pytest.mark.parametrize("name", ["a b", "a#b", "", "a\nb", "x" * 300])
def test_a_name_must_fit_into_a_log(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "the name must" in fails(capsys, "token", name)


@pytest.mark.parametrize(
    "text", ["shop", "shop sesame", "shop sha256:12", "sha256:" + "0" * 64, "a b sha256:" + "0" * 64]
)
def test_a_line_that_is_none_is_named_by_its_number_alone(text: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not a name") as caught:
        StaticTokens.parse(f"# first\n{text}\n")
    assert "sesame" not in str(caught.value)


def test_two_principals_have_no_token_in_common() -> None:
    line = f"sha256:{'0' * 64}"
    with pytest.raises(ValueError, match="line 2 has a token that another principal has too"):
        StaticTokens.parse(f"a {line}\nb {line}")
    assert len(StaticTokens.parse(f"a {line}\na {line}")) == 1
