"""Logins of a few seconds that are renewed while messages flow, and one that is revoked."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from broker.jwt_accounts import replace
from broker.rights.conftest import SHARDED, Components, OperatorMode
from broker.scripted import agent_at, serve, until
from hivewire import AgentId, TopicId
from hivewire.nats.broker import Broker
from hivewire.provisioning import Subjects, Upkeep, worker_permissions
from hivewire_operator.own_logins import OwnLogins

LIFE_S = 4.0
KEYS = 8


async def test_no_message_is_lost_or_doubled_while_the_logins_of_a_deployment_are_renewed(
    operator_mode: OperatorMode, components: Components, subjects: Subjects, tmp_path: Path
) -> None:
    shop = worker_permissions(subjects, deployment="shop", types={"agent": SHARDED})
    bank = worker_permissions(subjects, deployment="bank", types={})
    files = {tmp_path / "shop.creds": shop, tmp_path / "bank.creds": bank}
    logins = {path: operator_mode.login(rights, lives_s=LIFE_S) for path, rights in files.items()}
    for path, login in logins.items():
        replace(path, login.file)
    async with components.upkeep():
        worker = components.worker("shop", {}, credentials=str(tmp_path / "shop.creds"))
        await serve(worker, "agent")
        await worker.start()
        caller = await components.worker("bank", {}, credentials=str(tmp_path / "bank.creds")).connect()
        numbers = iter(range(1_000_000))
        sent: list[int] = []
        renewing = True

        async def call_on() -> None:
            while renewing:
                number = next(numbers)
                assert await caller.send_message(number, AgentId("agent", f"k{number % KEYS}")) == number
                sent.append(number)

        async def publish_on() -> None:
            while renewing:
                number = next(numbers)
                await caller.publish_message(number, TopicId("t", f"k{number % KEYS}"))
                sent.append(number)

        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(call_on())
                group.create_task(publish_on())
            while time.monotonic() - begun < 1.5 * LIFE_S:
                for path, rights in files.items():
                    renew_at = logins[path].renew_at()
                    if renew_at is not None and time.time() >= renew_at:
                        logins[path] = operator_mode.login(rights, lives_s=LIFE_S)
                        replace(path, logins[path].file)
                await asyncio.sleep(0.05)
            renewing = False
        agents = [await agent_at(worker, "agent", f"k{key}") for key in range(KEYS)]
        await until(lambda: sum(len(agent.seen) for agent in agents) >= len(sent))
        assert sorted(number for agent in agents for number in agent.seen) == sorted(sent)
        assert worker._broker.reconnects == caller._broker.reconnects == 0
        await worker.stop()
        await caller.stop()


async def test_a_user_that_is_revoked_is_cut_and_let_in_no_more(
    operator_mode: OperatorMode, subjects: Subjects, tmp_path: Path
) -> None:
    rights = {name: worker_permissions(subjects, deployment=name, types={}) for name in ("shop", "bank")}
    logins = {name: operator_mode.login(permissions) for name, permissions in rights.items()}
    async with AsyncExitStack() as stack:
        brokers: dict[str, Broker] = {}
        for name, login in logins.items():
            path = tmp_path / f"{name}.creds"
            replace(path, login.file)
            broker = Broker(operator_mode.url, name=name, credentials=str(path), inbox=rights[name].inbox_prefix)
            brokers[name] = broker
            await broker.open()
            stack.push_async_callback(broker.close)
        await operator_mode.revoke(logins["shop"].user)
        await until(lambda: not brokers["shop"].connected.is_set())
        await until(lambda: "Authorization Violation" in brokers["shop"].trouble)
        assert brokers["bank"].connected.is_set()
        # A new user of the same deployment is let in.
        replace(tmp_path / "shop.creds", operator_mode.login(rights["shop"]).file)
        await until(brokers["shop"].connected.is_set)


async def test_what_the_operator_keeps_goes_on_while_its_own_login_is_renewed(
    operator_mode: OperatorMode, subjects: Subjects, tmp_path: Path
) -> None:
    source = operator_mode.minting(life_s=2)
    logins = OwnLogins(tmp_path)
    path, due = logins.ensure(subjects.namespace, source, now=time.time())
    async with Upkeep(operator_mode.url, namespace=subjects.namespace, credentials=str(path)) as upkeep:
        for number in range(3):
            assert due is not None
            await asyncio.sleep(due - time.time())
            _, due = logins.ensure(subjects.namespace, source, now=time.time())
            await upkeep.register_type(f"t{number}", SHARDED)
            await upkeep.ensure()
        assert upkeep.failure is None
        assert upkeep._broker.reconnects == 0
