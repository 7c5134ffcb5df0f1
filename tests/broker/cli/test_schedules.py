"""`hivewire schedules` shows and cancels what waits for its time."""

import json
from datetime import UTC, datetime

from broker.cli.commands import CommandLine
from broker.cli.seeds import Seeds
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.topics import TopicId
from hivewire.nats.broker import Broker, Stored
from hivewire.nats.subjects import Subjects

LATE = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
LATER = datetime(2032, 1, 1, tzinfo=UTC)
LONG = "x" * 200


def seed(seeds: Seeds) -> None:
    seeds.schedule(LONG, TopicId("orders", "paris"), ScheduleRule.of(every=60), LATER, sender="shop/rome")
    seeds.schedule("a b", "shop/k/1", ScheduleRule.of(cron="@daily", time_zone="Asia/Kolkata"), LATE)


def test_the_schedules_are_listed_by_their_next_time(cli: CommandLine, seeds: Seeds) -> None:
    seed(seeds)
    head, first, second = cli.prints("schedules", "ls").splitlines()
    assert head.split() == ["NEXT", "RULE", "ID", "TARGET", "MESSAGE"]
    assert first.startswith("2031-05-0")
    assert first.endswith("cron @daily Asia/Kolkata   'a b'   shop/k/1   Greet")
    assert "every 60 s" in second and second.endswith("…")


def test_the_schedules_are_listed_as_json(cli: CommandLine, seeds: Seeds) -> None:
    seed(seeds)
    first, second = (json.loads(line) for line in cli.prints("schedules", "ls", "--json").splitlines())
    assert first == {
        "id": "a b",
        "next": "2031-05-06T07:08:09Z",
        "rule": {"cron": "@daily", "time_zone": "Asia/Kolkata"},
        "agent": "shop/k/1",
        "topic": None,
        "source": None,
        "type": "Greet",
        "sender": None,
    }
    assert (second["id"], second["rule"], second["sender"]) == (LONG, {"every": 60.0}, "shop/rome")
    assert (second["agent"], second["topic"], second["source"]) == (None, "orders", "paris")


def test_those_that_are_cancelled_are_gone(cli: CommandLine, seeds: Seeds) -> None:
    seed(seeds)
    assert cli.prints("schedules", "rm", "a b", LONG) == f"cancelled 'a b'\ncancelled {LONG}\n"
    assert cli.prints("schedules", "ls") == "There are no schedules.\n"
    assert cli.prints("schedules", "ls", "--json") == ""


def test_one_that_is_not_there_keeps_the_others_from_nothing(cli: CommandLine, seeds: Seeds) -> None:
    seed(seeds)
    ended = cli.run("schedules", "rm", "other", "a b")
    assert (ended.returncode, ended.stdout) == (1, "cancelled 'a b'\n")
    assert "there is no schedule other" in ended.stderr and "1 of 2" in ended.stderr


def test_what_can_not_be_read_is_told_and_can_be_cancelled(cli: CommandLine, seeds: Seeds) -> None:
    seed(seeds)

    async def write(broker: Broker, subjects: Subjects) -> Stored:
        return await broker.store(subjects.schedule("odd"), b"x")

    seeds.run(write)
    listed = cli.run("schedules", "ls", "--json")
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 2)
    assert "schedule.odd" in listed.stderr and "not a schedule" in listed.stderr
    assert cli.prints("schedules", "rm", "odd") == "cancelled odd\n"


def test_what_is_typed_wrong_is_told(cli: CommandLine, seeds: Seeds) -> None:
    assert "no namespace" in cli.fails("schedules", "ls", code=1)
    cli.fails("schedules", "rm", code=2)
