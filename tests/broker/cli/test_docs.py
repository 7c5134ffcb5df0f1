"""The page about the command line does what it says."""

import re
from pathlib import Path

import pytest

from documents import ROOT, run_page
from hivewire.cli.app import run

PAGE = ROOT / "docs" / "cli.md"


async def test_the_examples_run_and_print_what_they_say(
    nats_url: str, tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A namespace of its own keeps the types of other tests out of `ps`.
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", namespace)
    await run_page(PAGE, tmp_path, nats_url)


def test_every_command_has_a_part() -> None:
    parts = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert parts == ["demo", "dev", "run", "send", "publish", "ps", "tail"]


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text()
    for command in ("demo", "dev", "run", "send", "publish", "ps", "tail"):
        assert run([command, "--help"]) == 0
        options = set(re.findall(r"(?<=[│ ])(--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
        assert options, command
        assert not [option for option in options if f"`{option}`" not in text and f"{option} " not in text], command
