"""Programs that run in a pod of a deployment, with its login: they put load on the ledgers and see what came of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.release import Release

FROM = "workers"
"""The deployment in whose pods the programs run."""

_LOAD = """
import asyncio, os
from hivewire import AgentId, NatsAgentRuntime, TopicId
from cluster_agents import Recall, Task

PREFIX, KEYS, EACH = "{prefix}", range({keys}), {each}
published, seen = dict.fromkeys(KEYS, 0), dict()

async def main():
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await runtime.start()

    async def publish(key):
        for number in range(EACH):
            if os.path.exists("/tmp/{prefix}.enough"):
                break
            while True:
                try:
                    topic, identifier = TopicId("task", PREFIX + str(key)), f"{{PREFIX}}-{{key}}-{{number}}"
                    await runtime.publish_message(Task(number, {takes_s}), topic, message_id=identifier)
                    if not any(published.values()):
                        print("{began}", flush=True)
                    published[key] = number + 1
                    break
                except Exception as error:
                    print("published again:", repr(error), flush=True)
                    await asyncio.sleep(0.5)
            await asyncio.sleep({pause_s})

    async def until_complete(key):
        while True:
            try:
                ledger = AgentId("ledger", PREFIX + str(key))
                seen[key] = (await runtime.send_message(Recall(), ledger, timeout=20)).numbers
                if len(seen[key]) >= published[key]:
                    assert seen[key] == list(range(published[key])), (key, seen[key])
                    return
            except AssertionError:
                raise
            except BaseException as error:
                # What a pod that stops had not begun to answer ends as cancelled.
                if asyncio.current_task().cancelling():
                    raise
                print("asked again:", key, repr(error)[:200], flush=True)
            await asyncio.sleep(0.5)

    await asyncio.gather(*map(publish, KEYS))
    print("published", sum(published.values()), flush=True)
    try:
        async with asyncio.timeout({within_s}):
            await asyncio.gather(*map(until_complete, KEYS))
    except TimeoutError:
        print("incomplete:", [(key, published[key], seen.get(key, ())[-2:]) for key in KEYS], flush=True)
        raise
    await runtime.stop()
    print("all there, once each and in order")

asyncio.run(main())
"""
_TELL = """
import asyncio, os
from hivewire import NatsAgentRuntime, TopicId
from cluster_agents import Task

async def main():
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await runtime.start()
    for topic, number in {tasks}:
        await runtime.publish_message(Task(number), TopicId(topic, "{ledger}"))
    await runtime.stop()

asyncio.run(main())
"""
_BEGAN, _ENDED = "began", "ended with"
_APART = """
import subprocess, sys

shell = '"$0" -c "$1" > "$2.said" 2>&1; echo "{ended} $?" >> "$2.said"'
command = ["sh", "-c", shell, sys.executable, {program!r}, "/tmp/{prefix}"]
nothing = subprocess.DEVNULL
subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
"""


def tell(release: Release, ledger: str, *tasks: tuple[str, int]) -> None:
    """Publish numbers for one ledger, each on a topic of its own."""
    release.run(_TELL.format(tasks=list(tasks), ledger=ledger), within=FROM)


def put_load_on_ledgers(release: Release, prefix: str, *, within_s: int = 120, **what: float) -> str:
    """Publish numbers for ledgers, and see that each got all of its own once and in their order.

    Publishing is tried again under the same identifier where NATS is away, so what fails there is not doubled here. The
    program has nothing to do with the API server once it runs.

    Args:
        prefix: What the ledgers' keys begin with.
        within_s: How long the ledgers may take after the last event.
        what: `keys` and `each`: how many ledgers, and how many numbers for each; `takes_s`: how long one takes;
            `pause_s`: how long each publisher waits after an event.

    Returns:
        What the program said: how many it published, and what it had to do again.
    """
    _start(release, prefix, within_s=within_s, **what)
    return _wait_for_end(release, prefix, timeout_s=within_s + 240)


@contextmanager
def load_on_ledgers(release: Release, prefix: str, *, within_s: int = 120, **what: float) -> Iterator[None]:
    """Do something while there is load, as of `put_load_on_ledgers`, which has to come through unharmed. It ends with
    what is done, and before that if `each` is reached."""
    _start(release, prefix, within_s=within_s, **what)
    _wait_until(release, prefix, _BEGAN, timeout_s=30)
    try:
        yield
    finally:
        release.run(f"open('/tmp/{prefix}.enough', 'w')", within=FROM)
    print(_wait_for_end(release, prefix, timeout_s=within_s + 240))


def _start(release: Release, prefix: str, **what: float) -> None:
    program = _LOAD.format(prefix=prefix, began=_BEGAN, **{"takes_s": 0.0, "pause_s": 0.0, **what})
    release.run(_APART.format(prefix=prefix, program=program, ended=_ENDED), within=FROM)


def _wait_for_end(release: Release, prefix: str, *, timeout_s: int) -> str:
    said = _wait_until(release, prefix, _ENDED, timeout_s=timeout_s)
    assert "once each and in order" in said, said[-4000:]
    return said


def _wait_until(release: Release, prefix: str, text: str, *, timeout_s: int) -> str:
    """Wait until the program has said something, or has ended. Returns all that it said."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            said = release.run(f"print(open('/tmp/{prefix}.said').read())", within=FROM)
        except AssertionError as error:  # the API server may be away
            said = str(error)
        else:
            if text in said or _ENDED in said:
                return said
        assert time.monotonic() < deadline, said[-2000:]
        time.sleep(0.5)
