"""How the events of a subscription with a delivery policy are handled."""

import asyncio

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import Counter, Scripted, until
from broker.stored import dead_letters
from hivewire import MessageContext, RetryPolicy, TopicId, stateless_worker
from hivewire.provisioning import DeliveryPolicy, TopicFilter, Upkeep

DROPPED = TopicFilter(kind="exact", value="s.drop")
KEPT = TopicFilter(kind="prefix", value="s.")
SLOW = TopicFilter(kind="exact", value="slow")


class Patient(Scripted):
    retry_policy = RetryPolicy(attempts=100, first_delay_s=60)


class PatientCounter(Counter):
    retry_policy = RetryPolicy(attempts=100, first_delay_s=60)


@stateless_worker
class PatientCrowd(Scripted):
    retry_policy = RetryPolicy(attempts=100, first_delay_s=60)


@pytest.mark.parametrize("cls", [Patient, PatientCounter, PatientCrowd])
async def test_the_most_specific_policy_says_how_often_in_which_time_and_whether_a_dead_letter_stays(
    nats_url: str, namespace: str, new_runtime: NewRuntime, client: Client, cls: type[Scripted]
) -> None:
    tries: list[str] = []

    async def fail(agent: Scripted, message: str, ctx: MessageContext) -> None:
        tries.append(message)
        if message == "slow":
            await asyncio.sleep(60)
        if message != "last":
            raise RuntimeError(message)

    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.add_subscription("agent", KEPT, DeliveryPolicy(attempts=3, first_delay_s=0))
        await upkeep.add_subscription("agent", DROPPED, DeliveryPolicy(attempts=2, first_delay_s=0, dead_letters=False))
        await upkeep.add_subscription("agent", SLOW, DeliveryPolicy(attempts=1, timeout_s=0.1))
        runtime = new_runtime(provision=False)
        await cls.register(runtime, "agent", lambda: cls(fail))
        await runtime.start()
        await runtime.publish_message("drop", TopicId("s.drop", "k"))
        await runtime.publish_message("keep", TopicId("s.keep", "k"))
        await runtime.publish_message("slow", TopicId("slow", "k"))
        letters = await dead_letters(client, namespace, at_least=2)
        await runtime.publish_message("last", TopicId("s.drop", "k"))
        await until(lambda: "last" in tries)

    assert {(each.subject.rpartition(".")[2], each.attempts) for each in letters} == {("keep", 3), ("slow", 1)}
    assert sorted(tries) == ["drop", "drop", "keep", "keep", "keep", "last", "slow"]
    assert len(await dead_letters(client, namespace)) == 2


async def test_a_policy_that_changes_holds_for_events_to_come(
    nats_url: str, namespace: str, new_runtime: NewRuntime, client: Client
) -> None:
    async def fail(agent: Scripted, message: str, ctx: MessageContext) -> None:
        raise RuntimeError(message)

    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.add_subscription("agent", KEPT, DeliveryPolicy(attempts=1))
        runtime = new_runtime(provision=False)
        await Patient.register(runtime, "agent", lambda: Patient(fail))
        await runtime.start()
        await runtime.publish_message("one", TopicId("s.one", "k"))
        await dead_letters(client, namespace, at_least=1)
        await upkeep.add_subscription("agent", KEPT, DeliveryPolicy(attempts=2, first_delay_s=0))

        def arrived() -> bool:
            record = runtime._registry.get("agent")
            return record is not None and any(policy.attempts == 2 for _, policy in record.deliveries)

        await until(arrived)
        await runtime.publish_message("two", TopicId("s.two", "k"))
        letters = await dead_letters(client, namespace, at_least=2)
    assert [each.attempts for each in sorted(letters, key=lambda each: each.sequence)] == [1, 2]
