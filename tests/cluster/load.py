"""Programs that run in a pod of a deployment, with its login: they put load on the ledgers and see what came of it."""

from cluster.release import Release

FROM = "workers"
"""The deployment in whose pods the programs run."""

_LOAD = """
import asyncio, os
from hivewire import AgentId, NatsAgentRuntime, TopicId
from cluster_agents import Recall, Task

PREFIX, KEYS, EACH = "{prefix}", range({keys}), {each}
seen = dict()

async def main():
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await runtime.start()

    async def publish(key):
        for number in range(EACH):
            while True:
                try:
                    topic, identifier = TopicId("task", PREFIX + str(key)), f"{{PREFIX}}-{{key}}-{{number}}"
                    await runtime.publish_message(Task(number, {takes_s}), topic, message_id=identifier)
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
                if len(seen[key]) >= EACH:
                    assert seen[key] == list(range(EACH)), (key, seen[key])
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
    print("published", flush=True)
    try:
        async with asyncio.timeout({within_s}):
            await asyncio.gather(*map(until_complete, KEYS))
    except TimeoutError:
        print("incomplete:", [(key, len(seen.get(key, ())), seen.get(key, ())[-2:]) for key in KEYS], flush=True)
        raise
    await runtime.stop()
    print("all there, once each and in order")

asyncio.run(main())
"""


def put_load_on_ledgers(
    release: Release,
    prefix: str,
    *,
    keys: int,
    each: int,
    takes_s: float = 0.0,
    pause_s: float = 0.0,
    within_s: int = 120,
) -> None:
    """Publish numbers for ledgers, and see that each got all of its own once and in their order.

    Publishing is tried again under the same identifier where NATS is away, so what fails there is not doubled here.

    Args:
        prefix: What the ledgers' keys begin with.
        pause_s: How long each publisher waits after an event.
        within_s: How long the ledgers may take after the last event.
    """
    program = _LOAD.format(prefix=prefix, keys=keys, each=each, takes_s=takes_s, pause_s=pause_s, within_s=within_s)
    said = release.run(program, within=FROM, timeout_s=within_s + 240)
    assert "once each and in order" in said
