"""The page about the command line does what it says."""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.cli.seeds import Seeds, letter
from documents import ROOT, run_page
from hivewire.cli.app import run
from hivewire.model.schedule_rules import ScheduleRule

PAGE = ROOT / "docs" / "cli.md"
COMMANDS = [
    "demo",
    "dev",
    "run",
    "gateway",
    "gateway token",
    "operator",
    "operator bootstrap",
    "send",
    "publish",
    "ps",
    "top",
    "tail",
    "trace",
    "state get",
    "state ls",
    "state rm",
    "dead ls",
]
COMMANDS += ["dead show", "dead replay", "dead rm", "schedules ls", "schedules rm"]


@dataclass
class Greet:
    name: str


async def test_the_examples_run_and_print_what_they_say(
    nats_url: str, tmp_path: Path, namespace: str, seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A namespace of its own keeps the types of other tests out of `ps`.
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", namespace)
    await asyncio.to_thread(_seed, seeds)
    await run_page(PAGE, tmp_path, nats_url)


def test_every_command_has_a_part() -> None:
    parts = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert parts == [
        "demo",
        "dev",
        "run",
        "gateway",
        "operator",
        "send",
        "publish",
        "ps",
        "top",
        "tail",
        "trace",
        "state",
        "dead",
        "schedules",
    ]


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text()
    for command in COMMANDS:
        assert run([*command.split(), "--help"]) == 0
        options = set(re.findall(r"(?<=[│ ])(--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
        assert options, command
        assert not [option for option in options if f"`{option}`" not in text and f"{option} " not in text], command


def _seed(seeds: Seeds) -> None:
    """Leave behind what the page looks at: no agent of it keeps a state or gives up a message."""
    seeds.state("counter/ada", {"count": 3, "last": Greet("Ada")}, last=21)
    seeds.dead(letter("greeter/ada", 17), letter("greeter/bob", 18))
    at = datetime(2030, 3, 1, 9, tzinfo=UTC)
    seeds.schedule("report", "greeter/ada", ScheduleRule.of(cron="0 9 * * *", time_zone="Europe/Berlin"), at)
