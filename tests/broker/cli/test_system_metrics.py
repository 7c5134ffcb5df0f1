"""What processes export of the whole system: one of them does, and another one when it is gone."""

import asyncio
import re
import urllib.request

import pytest

from broker.cli.commands import CommandLine, Started
from broker.observing import Observe, seen
from broker.scripted import until

# A killed process's session has to expire twice.
pytestmark = pytest.mark.slow


def exported(served: Started) -> float | None:
    port = re.search(r"/metrics are served on port (\d+)", served.output)
    assert port is not None, served.output
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    value = re.search(r'^hivewire_shards_without_owner\{.*agent_type="greeter".*\} (\S+)$', text, re.MULTILINE)
    return None if value is None else float(value[1])


async def test_one_of_all_processes_exports_what_is_seen_and_another_one_when_it_is_killed(
    cli: CommandLine, observe: Observe
) -> None:
    pods = await asyncio.gather(*(asyncio.to_thread(cli.serve, "setup", "--health-port", "0") for _ in range(2)))
    await until(lambda: exported(pods[0]) == 0 or exported(pods[1]) == 0, timeout_s=20)
    watching, other = pods if exported(pods[0]) is not None else reversed(pods)
    assert exported(other) is None
    watching.kill()
    await until(lambda: exported(other) is not None, timeout_s=20)
    await seen(observe, lambda found: found.shards_without_owner == 0)
    other.kill()
    await seen(observe, lambda found: found.shards_without_owner == 16)
    await asyncio.to_thread(cli.serve)
    await seen(observe, lambda found: found.shards_without_owner == 0)
