"""`hivewire state` shows and removes what is stored of agents."""

import json
from dataclasses import dataclass

from broker.cli.commands import CommandLine
from broker.cli.seeds import Seeds
from hivewire.nats.broker import Broker
from hivewire.nats.subjects import Subjects

LONG = "k" * 200
BROKEN = b'{"agent":"cart/bob","stream":"","last":1,"dead":null,"writer":"","state":{"$type":1}}'
NEWER = b'{"format":99,"agent":"cart/new","state":{}}'


@dataclass
class Line:
    item: str


def test_a_state_is_printed_as_json(cli: CommandLine, seeds: Seeds) -> None:
    seeds.state("cart/ada", {"lines": [Line("tea ✓")], "open": True, "$type": 1}, last=7)
    seeds.state(f"cart/{LONG}", None)
    shown = cli.prints("state", "get", "cart/ada")
    assert json.loads(shown) == {"lines": [{"item": "tea ✓"}], "open": True, "$type": 1}
    assert "tea ✓" in shown and shown.startswith("{\n  ")
    assert cli.prints("state", "get", f"cart/{LONG}") == "null\n"


def test_the_record_is_printed_as_it_is_stored(cli: CommandLine, seeds: Seeds) -> None:
    seeds.state("cart/ada", [Line("tea")], last=7)
    record = json.loads(cli.prints("state", "get", "cart/ada", "--record"))
    assert (record["agent"], record["last"], record["dead"], record["format"]) == ("cart/ada", 7, None, 1)
    assert record["state"] == [{"$type": ["Line", "application/json", '{"item":"tea"}']}]


def test_the_states_are_listed_by_type(cli: CommandLine, seeds: Seeds) -> None:
    assert "no namespace" in cli.fails("state", "ls", code=1)
    seeds.state("cart/ada", {"n": 1}, last=7)
    assert len(cli.prints("state", "ls", "shop.floor").splitlines()) == 1
    seeds.state(f"cart/{LONG}", {}, last=8)
    seeds.state("shop.floor/a b", {})
    rows = [json.loads(line) for line in cli.prints("state", "ls", "--json").splitlines()]
    assert [(row["agent"], row["last"]) for row in rows] == [
        (f"cart/{LONG}", 8),
        ("cart/ada", 7),
        ("shop.floor/a b", 0),
    ]
    assert all(row["bytes"] > 50 for row in rows)
    header, line = cli.prints("state", "ls", "shop.floor").splitlines()
    assert header.split() == ["BYTES", "LAST", "EVENT", "AGENT"]
    assert line.split() == [str(rows[2]["bytes"]), "0", "shop.floor/a", "b"]


def test_more_states_than_are_read_at_once_are_all_listed(cli: CommandLine, seeds: Seeds) -> None:
    async def write(broker: Broker, subjects: Subjects) -> None:
        for number in range(150):
            record = b'{"agent":"cart/%d","stream":"","last":1,"dead":null,"writer":"","state":{}}' % number
            await broker.store(f"$KV.{subjects.state_bucket}.cart.{number}", record)

    seeds.run(write)
    assert len(set(cli.prints("state", "ls", "cart", "--json").splitlines())) == 150


def test_a_removed_state_is_gone(cli: CommandLine, seeds: Seeds) -> None:
    seeds.state("cart/ada", {"n": 1}, last=7)
    seeds.state("cart/bob", {"n": 2})
    assert cli.prints("state", "rm", "cart/ada").startswith("removed the state of cart/ada: ")
    assert "there is no state of cart/ada" in cli.fails("state", "get", "cart/ada", code=1)
    assert "there is no state of cart/ada" in cli.fails("state", "rm", "cart/ada", code=1)
    assert "cart/ada" not in cli.prints("state", "ls")
    assert cli.prints("state", "get", "cart/bob") == '{\n  "n": 2\n}\n'


def test_a_record_of_a_newer_version_is_left_untouched(cli: CommandLine, seeds: Seeds) -> None:
    seeds.state_bytes("cart/new", NEWER)
    for command in ("get", "rm"):
        line = cli.fails("state", command, "cart/new", code=1)
        assert "format 99" in line and "upgrade" in line
    listed = cli.run("state", "ls", "--json")
    assert (listed.returncode, listed.stdout) == (0, "") and "format 99" in listed.stderr


def test_a_record_that_is_none_is_told_and_can_be_removed(cli: CommandLine, seeds: Seeds) -> None:
    seeds.state_bytes("cart/ada", b"[1]")
    seeds.state_bytes(
        "cart/bob", b'{"agent":"cart/bob","stream":"","last":1,"dead":null,"writer":"","state":{"$type":1}}'
    )
    for key in ("ada", "bob"):
        assert f"the state of cart/{key} can't be read" in cli.fails("state", "get", f"cart/{key}", code=1)
    assert "which could not be read" in cli.prints("state", "rm", "cart/ada")
    assert "cart/ada" not in cli.prints("state", "ls")
