"""`hivewire dead` shows, replays and removes the messages that were given up."""

import json
import time
from pathlib import Path

import pytest

from broker.cli.commands import CommandLine, eventually
from broker.cli.seeds import Seeds, letter
from hivewire.model.ids import AgentId
from hivewire.nats.broker import Broker
from hivewire.nats.dead_letter_store import DeadLetterStore
from hivewire.nats.dead_letters import STORY_HEADER
from hivewire.nats.header_text import quoted
from hivewire.nats.subjects import Subjects

LONG = "ä" * 100
DAY_S = 86_400


def listed(cli: CommandLine, *filters: str) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in cli.prints("dead", "ls", "--json", *filters).splitlines()]
    return [(row["agent"], row["sequence"]) for row in rows]


@pytest.fixture
def four(seeds: Seeds) -> None:
    seeds.dead(
        letter("greeter/ada", 3, time=time.time() - 2 * DAY_S),
        letter("greeter/bob", 4, error="shop.errors.NoStock"),
        letter("waiter/ada", 3),
        letter(f"greeter/{LONG}", 9, time=time.time() - DAY_S / 2),
    )


@pytest.mark.slow  # many commands, one after the other
def test_what_is_listed_can_be_filtered(cli: CommandLine, four: None) -> None:
    everything = [("greeter/ada", 3), ("greeter/bob", 4), ("waiter/ada", 3), (f"greeter/{LONG}", 9)]
    assert listed(cli) == everything
    assert listed(cli, "--type", "greeter") == [everything[0], everything[1], everything[3]]
    assert listed(cli, "--key", "ada") == [everything[0], everything[2]]
    assert listed(cli, "--key", LONG) == [everything[3]]
    assert listed(cli, "--since", "1h") == [everything[1], everything[2]]
    assert listed(cli, "--since", "1d", "--type", "greeter") == [everything[1], everything[3]]
    assert listed(cli, "--error", "NoStock") == listed(cli, "--error", "shop.errors.NoStock") == [everything[1]]
    assert cli.prints("dead", "ls", "--error", "Stock") == "No dead letter matches.\n"


def test_a_line_tells_when_how_often_which_and_why(cli: CommandLine, seeds: Seeds) -> None:
    seeds.dead(letter("greeter/a b", 12, time=time.time(), message="two\nlines\x1b[2J"))
    header, line = cli.prints("dead", "ls").splitlines()
    assert header.split() == ["WHEN", "ATTEMPTS", "TYPE/KEY", "SEQUENCE", "ERROR"]
    assert line.split(maxsplit=3)[2:] == ["5", "'greeter/a b' 12   ValueError: two lines\\x1b[2J"]


def test_one_is_shown_with_everything(cli: CommandLine, seeds: Seeds) -> None:
    one = letter("greeter/ada", 12)
    seeds.dead(letter("greeter/ada", 12, headers={**one.headers, "Hw-Lineage": "3,7"}))
    page = cli.prints("dead", "show", "greeter/ada", "12")
    for text in (
        "greeter/ada 12\n",
        "ValueError: nobody to greet\n",
        "by pod-a, session s1\n",
        "people/ada\n",
        "message-12\n",
        "host/h\n",
        "3, 7\n",
        "\n  ce-type: people\n",
        '\n  {\n    "name": "Ada"\n  }\n',
        '\n  Traceback (most recent call last):\n    File "a.py", line 1, in met\n',
    ):
        assert text in page, page
    data = json.loads(cli.prints("dead", "show", "greeter/ada", "12", "--json"))
    assert (data["payload"], data["lineage"], data["attempts"]) == ({"name": "Ada"}, [3, 7], 5)
    assert data["headers"]["ce-id"] == data["id"] == "message-12"


def test_a_replayed_message_is_handled_by_its_agent_alone(cli: CommandLine, seeds: Seeds, tmp_path: Path) -> None:
    cli.serve()
    seeds.dead(letter("greeter/ada", 12, payload=b'{"name":"replayed"}'))
    assert cli.prints("dead", "replay", "greeter/ada", "12").startswith("replayed greeter/ada 12, now event ")
    eventually((tmp_path / "seen-replayed").exists, "the agent does not get it")
    assert cli.prints("dead", "ls") == "There are no dead letters.\n"
    assert "there is no dead letter greeter/ada 12" in cli.fails("dead", "replay", "greeter/ada", "12", code=1)


def test_a_replay_keeps_the_messages_id_and_tells_where_it_comes_from(cli: CommandLine, seeds: Seeds) -> None:
    cli.serve()
    one = letter(f"greeter/{LONG}", 12)
    seeds.dead(letter(f"greeter/{LONG}", 12, headers={**one.headers, "Hw-Lineage": "3", "Extra": "1"}))
    cli.prints("dead", "replay", "--key", LONG)
    (message,) = seeds.inboxes()
    assert (message.headers["ce-id"], message.headers["Hw-Lineage"], message.headers["Extra"]) == (
        "message-12",
        "3,12",
        "1",
    )
    assert (message.headers["Hw-Key"], message.payload) == (quoted(LONG), one.payload)
    assert STORY_HEADER not in message.headers and message.headers["Nats-Msg-Id"] != one.headers["Nats-Msg-Id"]


def test_a_replay_of_a_type_that_nobody_serves_leaves_the_letter(cli: CommandLine, seeds: Seeds) -> None:
    cli.serve()
    seeds.dead(letter("gone/ada", 3), letter("greeter/bob", 4), letter("gone/bob", 5))
    assert "no process has registered the type of gone/ada" in cli.fails("dead", "replay", "gone/ada", "3", code=1)
    done = cli.run("dead", "replay", "--all")
    assert done.returncode == 1 and done.stdout.startswith("replayed greeter/bob 4"), done
    assert done.stderr.splitlines()[-1] == "hivewire: 2 dead letters are left as they were"
    assert listed(cli) == [("gone/ada", 3), ("gone/bob", 5)]


def test_some_are_removed_and_the_others_stay(cli: CommandLine, four: None) -> None:
    assert cli.prints("dead", "rm", "greeter/bob", "4") == "removed greeter/bob 4\n"
    assert "there is no dead letter greeter/bob 4" in cli.fails("dead", "rm", "greeter/bob", "4", code=1)
    assert cli.prints("dead", "rm", "--key", "ada", "--since", "1d") == "removed waiter/ada 3\n"
    assert cli.prints("dead", "rm", "--key", "nobody") == "No dead letter matches.\n"
    assert listed(cli) == [("greeter/ada", 3), (f"greeter/{LONG}", 9)]
    assert len(cli.prints("dead", "rm", "--all").splitlines()) == 2
    assert listed(cli) == []


def test_what_is_no_dead_letter_is_told_and_the_others_are_shown(cli: CommandLine, seeds: Seeds) -> None:
    newer = quoted(json.dumps({"format": 99, "agent": "greeter/new"}))
    seeds.raw_dead("greeter/raw", 1, {"Other": "x"})
    seeds.raw_dead("greeter/new", 2, {STORY_HEADER: newer})
    seeds.dead(letter("greeter/ada", 3))
    shown = cli.run("dead", "ls")
    assert shown.returncode == 0 and "greeter/ada 3" in shown.stdout
    assert [line.split(" can't be read: ")[1][:30] for line in shown.stderr.splitlines()] == [
        "it is not a dead letter: KeyEr",
        "a dead letter has format 99, a",
    ]
    for command in ("show", "replay"):
        assert "not a dead letter" in cli.fails("dead", command, "greeter/raw", "1", code=1)
    for command in ("show", "replay", "rm"):
        assert "format 99" in cli.fails("dead", command, "greeter/new", "2", code=1)
    removed = cli.run("dead", "rm", "--all")
    assert removed.returncode == 1 and removed.stdout == "removed greeter/ada 3\n"
    # What nobody can read goes only when it is named.
    assert "removed" in cli.prints("dead", "rm", "greeter/raw", "1")


def test_a_replay_that_is_repeated_before_the_entry_went_stores_nothing_twice(cli: CommandLine, seeds: Seeds) -> None:
    cli.serve()
    seeds.dead(letter("greeter/ada", 12))

    async def twice(broker: Broker, subjects: Subjects) -> tuple[int, int]:
        stored = await DeadLetterStore(broker, subjects).get(AgentId("greeter", "ada"), 12)
        assert stored is not None
        # The second one is of an operator whose first command was killed, or of another operator.
        first, second = DeadLetterStore(broker, subjects), DeadLetterStore(broker, subjects)
        return await first.replay(stored), await second.replay(stored)

    first, second = seeds.run(twice)
    assert first == second and len(seeds.inboxes()) == 1


def test_a_letter_stays_when_its_message_can_not_be_stored(cli: CommandLine, seeds: Seeds) -> None:
    cli.serve()
    seeds.dead(letter("greeter/ada", 12))

    async def fill(broker: Broker, subjects: Subjects) -> None:
        info = await broker.api(f"STREAM.INFO.{subjects.events_stream}")
        config = {**info["config"], "max_msgs": info["state"]["messages"]}
        await broker.api(f"STREAM.UPDATE.{subjects.events_stream}", config)

    seeds.run(fill)
    assert "maximum messages exceeded" in cli.fails("dead", "replay", "--all", code=1)
    assert listed(cli) == [("greeter/ada", 12)]
