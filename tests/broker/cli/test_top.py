"""`hivewire top` shows what other processes do."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.cli.commands import TIMEOUT_S, CommandLine
from broker.cli.seeds import Seeds
from hivewire.cli.app import run
from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket
from hivewire.nats.session import SessionRecord
from hivewire.nats.subjects import Subjects


@pytest.fixture
def top(cli: CommandLine, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command once in this process, which is quicker than another one, and returns what it prints."""
    where = ["--broker", cli.environment["BROKER_URL"], "--namespace", cli.environment["HIVEWIRE_NAMESPACE"]]

    def run_once(*arguments: str, publish_to: str = "") -> str:
        with ThreadPoolExecutor() as threads:
            running = threads.submit(run, ["top", "--once", *arguments, *where])
            while publish_to and not running.done():
                cli.publish(publish_to, '{"name": "x"}', "--type", "Greet")
        assert running.result() == 0
        return capsys.readouterr().out

    return run_once


def silent_pod(seeds: Seeds) -> None:
    """Write the session of a process that does not know the question."""

    async def write(broker: Broker, subjects: Subjects) -> None:
        session = SessionRecord(session="s", deployment="old", instance="pod\x1b[31m", state="serving", types=())
        await Bucket(broker, subjects.leases_bucket).put(subjects.lease_key("old", "s"), session.to_json(), revision=0)

    seeds.run(write)


def test_types_and_pods_are_shown_with_what_they_do(cli: CommandLine, seeds: Seeds, top: Callable[..., str]) -> None:
    with ThreadPoolExecutor() as threads:
        pod_a = threads.submit(cli.serve, "setup", "--instance-id", "pod-a", "--deployment", "greeters")
        threads.submit(cli.serve, "helpers", "--instance-id", "pod-b").result()
        pod_a.result()
    silent_pod(seeds)
    data = json.loads(top("--json", "--interval", "0.5", publish_to="people/a"))
    types = {each["type"]: each for each in data["types"]}
    greeter = types["greeter"]
    assert (greeter["kind"], greeter["pods"], greeter["shards"], greeter["shards_owned"]) == ("sharded", 1, 16, 16)
    assert 0 < greeter["p50_s"] <= greeter["p99_s"] < 60
    assert greeter["events_s"] > 0 and greeter["inflight"] >= 0
    assert (greeter["calls_s"], greeter["errors_s"], greeter["retries_s"]) == (0, 0, 0)
    assert (types["helper"]["shards"], types["helper"]["lag"], types["helper"]["p99_s"]) == (None, 0, None)
    pods = {each["instance"]: each for each in data["pods"]}
    assert (pods["pod-a"]["deployment"], pods["pod-a"]["shards"], pods["pod-a"]["answers"]) == ("greeters", 16, True)
    assert pods["pod-a"]["messages_s"] == greeter["events_s"]
    assert (pods["pod-b"]["state"], pods["pod-b"]["answers"]) == ("serving", True)
    assert (pods["pod-b"]["turns_running"], pods["pod-b"]["turns_free"]) == (0, 1_000)
    assert pods["pod\x1b[31m"]["answers"] is False
    (events,) = (each for each in data["streams"] if each["name"] == "events")
    assert events["messages"] > 2 and events["size_bytes"] > 0

    text = top("--interval", "0.1")
    assert "\x1b" not in text and "pod\\x1b[31m" in text
    assert any(line.split()[:4] == ["greeter", "sharded", "1", "16/16"] for line in text.splitlines()), text
    assert any(line.split()[:2] == ["pod-a", "greeters"] for line in text.splitlines()), text


async def test_it_prints_or_draws_until_it_is_ended_also_without_a_process(
    cli: CommandLine, top: Callable[..., str]
) -> None:
    served = await asyncio.to_thread(cli.serve)
    served.signal(signal.SIGTERM)
    assert await asyncio.to_thread(served.ends) == 0
    await asyncio.to_thread(cli.publish, "people/1", '{"name": "x"}', "--type", "Greet")
    data = json.loads(await asyncio.to_thread(top, "--json", "--interval", "0.1"))
    (greeter,) = data["types"]
    assert (greeter["lag"], greeter["shards_owned"], greeter["pods"], greeter["events_s"]) == (1, 0, 0, None)
    assert greeter["oldest_event_s"] >= 0
    assert data["pods"] == []

    piped = cli.start("top", "--interval", "0.1")
    drawn = await _drawn_until_q(cli)
    # The screen that was there before comes back.
    assert drawn.index(b"\x1b[?1049h") < drawn.index(b"greeter") < drawn.index(b"\x1b[?1049l")
    assert "\x1b" not in await asyncio.to_thread(piped.shows, "greeter", times=2)
    piped.signal(signal.SIGINT)
    assert await asyncio.to_thread(piped.ends) == 0


async def _drawn_until_q(cli: CommandLine) -> bytes:
    ours, theirs = pty.openpty()
    environment = {**cli.environment, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "hivewire", "top", "--interval", "0.1"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cli.directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while drawn.count(b"greeter") < 3:
                drawn += await asyncio.to_thread(os.read, ours, 65_536)
            os.write(ours, b"q")
            while process.returncode is None:
                try:
                    drawn += await asyncio.to_thread(os.read, ours, 65_536)
                except OSError:
                    await process.wait()
        assert process.returncode == 0
    finally:
        os.close(ours)
    return drawn


def test_a_namespace_that_nobody_made_is_one_line(nats_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--once", "--broker", nats_url, "--namespace", "mistyped"]) == 1
    assert "no namespace 'mistyped'" in capsys.readouterr().err
