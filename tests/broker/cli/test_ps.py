"""`hivewire ps` shows what other processes do."""

import json
import signal
from pathlib import Path
from typing import Any

from broker.cli.commands import CommandLine, eventually
from hivewire.nats.tokens import slot


def overview(cli: CommandLine) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(cli.prints("ps", "--json"))
    return data


def test_types_pods_and_shards_are_shown(cli: CommandLine) -> None:
    cli.serve("setup", "--instance-id", "pod-a", "--deployment", "greeters")
    cli.serve("helpers", "--instance-id", "pod-b")
    data = overview(cli)
    assert data["types"] == [
        {"type": "greeter", "kind": "sharded", "shards": 16, "subscriptions": ["people", "greeter:*"], "lag": 0},
        {"type": "helper", "kind": "stateless", "shards": None, "subscriptions": ["chores", "helper:*"], "lag": 0},
    ]
    pods = {pod["instance"]: pod for pod in data["pods"]}
    assert pods["pod-a"]["deployment"] == "greeters"
    assert (pods["pod-a"]["state"], pods["pod-a"]["types"], pods["pod-a"]["shards"]) == ("serving", ["greeter"], 16)
    assert (pods["pod-b"]["deployment"], pods["pod-b"]["shards"]) == ("default", 0)
    assert len(data["shards"]) == 16
    assert {(shard["instance"], shard["lag"]) for shard in data["shards"]} == {("pod-a", 0)}

    lines = cli.prints("ps").splitlines()
    assert any(line.split() == ["greeter", "sharded", "16", "1", "people", "0"] for line in lines), lines
    assert all(shard["position"]["floor"] > 0 for shard in data["shards"])
    row = next(cells for cells in map(str.split, lines) if cells[:3] == ["greeter", "0-15", "pod-a"])
    assert int(row[3]) > 0 and row[4:] == ["0"], lines


def test_two_replicas_share_the_shards(cli: CommandLine) -> None:
    cli.serve("setup", "--instance-id", "pod-a")
    cli.serve("setup", "--instance-id", "pod-b")
    eventually(lambda: {pod["shards"] for pod in overview(cli)["pods"]} == {8}, "the shards are not shared")


def test_the_lag_of_shards_without_an_owner_counts_what_waits_for_them(cli: CommandLine) -> None:
    served = cli.serve()
    served.signal(signal.SIGTERM)
    assert served.ends() == 0
    for number in range(3):
        cli.publish(f"people/{number}", '{"name": "x"}', "--type", "Greet")
    cli.publish("others/0", '"not for them"')
    data = overview(cli)
    assert data["pods"] == []
    assert data["types"][0]["lag"] == 3
    assert sum(shard["lag"] for shard in data["shards"]) == 3
    assert {shard["owner"] for shard in data["shards"]} == {None}
    assert "nobody" in cli.prints("ps")


def test_what_is_finished_above_the_floor_does_not_count_as_lag(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    shard = slot("slow") % 16
    neighbours = [key for key in map(str, range(100)) if slot(key) % 16 == shard][:3]
    cli.publish("people/slow", '{"name": "slow"}', "--type", "Greet")
    for key in neighbours:
        cli.publish(f"others/{key}", '"not for them"')
        cli.publish(f"people/{key}", f'{{"name": "{key}"}}', "--type", "Greet")
    eventually((tmp_path / f"seen-{neighbours[-1]}").exists, "the others of the shard do not go on")
    # Three of the four are finished, and the floor is still below them; the record is written now and then.
    eventually(lambda: overview(cli)["types"][0]["lag"] == 1, "the lag is not that of the one that runs")
    (tmp_path / "go").touch()
    eventually(lambda: overview(cli)["types"][0]["lag"] == 0, "the lag stays")


def test_the_lag_of_a_stateless_type_is_that_of_its_consumer(cli: CommandLine) -> None:
    served = cli.serve("helpers")
    served.signal(signal.SIGTERM)
    assert served.ends() == 0
    cli.publish("chores/1", '{"a": 1}')
    assert overview(cli)["types"][0]["lag"] == 1


def test_a_namespace_that_nobody_made_is_one_line(cli: CommandLine) -> None:
    assert "no namespace 'mistyped'" in cli.fails("ps", "--namespace", "mistyped", code=1)
