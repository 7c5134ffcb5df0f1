"""Processes that make no stream, bucket or durable consumer themselves."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import Scripted, until
from hivewire import MessageContext, RuntimeStateError, TopicId, TypeSubscription, stateless_worker
from hivewire.nats.broker import Broker
from hivewire.nats.provisioner import provision, provision_stateless
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import PLAN_KEY, PLAN_VERSION


@pytest.fixture
async def broker(nats_url: str) -> Any:
    broker = Broker(nats_url, name="provisioner")
    await broker.open()
    yield broker
    await broker.close()


async def test_a_namespace_that_nobody_has_provisioned_is_an_error_that_says_whose_business_it_is(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    with pytest.raises(RuntimeStateError, match=r"has no stream .*_SCHEDULES: whoever provisions .* the operator"):
        await new_runtime(provision=False).connect()
    names = await client.request("$JS.API.STREAM.NAMES", b'{"subject":"%s.>"}' % namespace.encode())
    assert b'"streams":null' in names.data


@pytest.mark.parametrize(
    ("version", "works"), [(str(PLAN_VERSION - 1), False), (str(PLAN_VERSION), True), (str(PLAN_VERSION + 1), True)]
)
async def test_a_namespace_of_an_older_plan_is_refused_and_of_a_newer_one_taken(
    new_runtime: NewRuntime, broker: Broker, namespace: str, version: str, works: bool
) -> None:
    subjects = Subjects(namespace)
    await provision(broker, subjects)
    stream = f"KV_{subjects.leases_bucket}"
    config = (await broker.api(f"STREAM.INFO.{stream}"))["config"]
    await broker.api(f"STREAM.UPDATE.{stream}", {**config, "metadata": {PLAN_KEY: version}, "max_bytes": 1_000_000})
    connecting = new_runtime(provision=False).connect()
    if works:
        await connecting
    else:
        with pytest.raises(RuntimeStateError, match=f"by plan {version}, and this version needs {PLAN_VERSION}"):
            await connecting
    now = (await broker.api(f"STREAM.INFO.{stream}"))["config"]
    assert (now["max_bytes"], now["metadata"][PLAN_KEY]) == (1_000_000, version)


async def test_the_environment_says_that_somebody_else_provisions(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVEWIRE_PROVISION", "off")
    with pytest.raises(RuntimeStateError, match="HIVEWIRE_PROVISION is off"):
        await new_runtime().connect()


async def test_a_stateless_type_is_served_once_somebody_has_made_its_consumer(
    new_runtime: NewRuntime, broker: Broker, namespace: str
) -> None:
    @stateless_worker
    class Anybody(Scripted):
        pass

    seen: list[str] = []

    async def note(agent: Scripted, message: str, ctx: MessageContext) -> None:
        seen.append(message)

    subjects = Subjects(namespace)
    await provision(broker, subjects)
    worker = await new_runtime(provision=False).connect()
    registering = asyncio.create_task(Anybody.register(worker, "anybody", lambda: Anybody(note)))
    await until(lambda: worker._registry.get("anybody"))
    assert not registering.done()
    record = worker._registry.get("anybody")
    assert record is not None
    await provision_stateless(broker, subjects, record)
    await registering
    adding = asyncio.create_task(worker.add_subscription(TypeSubscription("t", "anybody")))
    await until(lambda: (known := worker._registry.get("anybody")) is not None and "exact:t" in known.declared)
    known = worker._registry.get("anybody")
    assert known is not None and not adding.done()
    await provision_stateless(broker, subjects, known)
    await adding
    await worker.start()
    await worker.publish_message("event", TopicId("t", "k"))
    await until(lambda: seen == ["event"])
