import asyncio
import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.agents.catalog import AgentCatalog, UnknownInstanceError
from hivewire.exceptions import AgentNotFoundError
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.contexts import AgentInstantiationContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.runtime import AgentRuntime

WORKER = AgentType("worker")
ID = AgentId("worker", "k")


class Worker(BaseAgent):
    pass


class Special(Worker):
    pass


@pytest.fixture
def runtime() -> Any:
    return Mock(spec=AgentRuntime)


@pytest.fixture
def catalog(runtime: Any) -> AgentCatalog:
    return AgentCatalog(runtime)


class GatedFactory:
    """An async factory that waits until it is let go, and counts its calls."""

    def __init__(self, make: Callable[[], Any] = Worker) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self._make = make

    async def __call__(self) -> Any:
        self.calls += 1
        await self.gate.wait()
        return self._make()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class TestTypes:
    def test_a_type_is_added_once(self, catalog: AgentCatalog) -> None:
        assert catalog.add_factory(WORKER, Worker) is WORKER
        with pytest.raises(ValueError, match="Agent with type worker already exists"):
            catalog.add_factory(WORKER, Worker)

    def test_an_invalid_type_is_refused(self, catalog: AgentCatalog) -> None:
        with pytest.raises(ValueError, match="Invalid agent type 'a b'"):
            catalog.add_factory(AgentType("a b"), Worker)
        assert catalog.types() == []

    def test_a_removed_type_is_gone(self, catalog: AgentCatalog) -> None:
        catalog.add_factory(WORKER, Worker)
        catalog.remove_type("worker")
        catalog.remove_type("worker")

        assert not catalog.has_type("worker")
        catalog.add_factory(WORKER, Worker)

    async def test_the_class_of_a_type_is_the_expected_one_or_that_of_the_first_agent(
        self, catalog: AgentCatalog
    ) -> None:
        catalog.add_factory(WORKER, Special, Worker)
        catalog.add_factory(AgentType("open"), Special)

        assert catalog.agent_class("worker") is Worker
        assert catalog.agent_class("open") is None
        assert catalog.agent_class("unknown") is None
        await catalog.activate(AgentId("open", "k"))
        assert catalog.agent_class("open") is Special


class TestActivation:
    async def test_an_agent_is_built_once_and_knows_its_id(self, catalog: AgentCatalog, runtime: Any) -> None:
        catalog.add_factory(WORKER, Worker)
        assert catalog.live(ID) is None

        agent = await catalog.activate(ID)

        assert await catalog.activate(AgentId("worker", "k")) is agent
        assert catalog.live(ID) is agent
        assert (agent.id, agent.runtime) == (ID, runtime)  # type: ignore[attr-defined]
        assert catalog.live_agents() == [agent]
        assert catalog.instances("worker") == [ID]
        assert catalog.instances("other") == []

    async def test_the_factory_runs_in_the_instantiation_context(self, catalog: AgentCatalog, runtime: Any) -> None:
        seen = []

        async def factory() -> Worker:
            await asyncio.sleep(0)
            seen.append((AgentInstantiationContext.current_agent_id(), AgentInstantiationContext.current_runtime()))
            return Worker()

        catalog.add_factory(WORKER, factory)
        await catalog.activate(ID)

        assert seen == [(ID, runtime)]
        assert not AgentInstantiationContext.is_in_factory_call()

    async def test_an_agent_made_outside_of_the_context_is_bound(self, catalog: AgentCatalog, runtime: Any) -> None:
        made = Worker("made before")
        catalog.add_factory(WORKER, lambda: made)
        await catalog.activate(ID)

        assert (made.id, made.runtime) == (ID, runtime)

    async def test_one_object_may_serve_under_several_ids(self, catalog: AgentCatalog) -> None:
        made = Worker("made before")
        catalog.add_factory(WORKER, lambda: made)

        assert await catalog.activate(ID) is await catalog.activate(AgentId("worker", "other"))
        assert made.id == ID

    async def test_an_agent_that_is_no_base_agent_is_bound_by_its_own_method(self, catalog: AgentCatalog) -> None:
        class Foreign:
            bound: Any = None

            async def bind_id_and_runtime(self, id: AgentId, runtime: AgentRuntime) -> None:
                await asyncio.sleep(0)
                self.bound = id

        catalog.add_factory(WORKER, Foreign)

        assert (await catalog.activate(ID)).bound == ID  # type: ignore[attr-defined]

    async def test_those_who_need_an_agent_share_one_construction(self, catalog: AgentCatalog) -> None:
        factory = GatedFactory()
        catalog.add_factory(WORKER, factory)
        tasks = [asyncio.create_task(catalog.activate(ID)) for _ in range(5)]
        await until(lambda: factory.calls == 1)
        factory.gate.set()

        assert len({id(agent) for agent in await asyncio.gather(*tasks)}) == 1
        assert factory.calls == 1

    async def test_those_who_wait_go_on_in_the_order_in_which_they_came(self, catalog: AgentCatalog) -> None:
        factory = GatedFactory()
        catalog.add_factory(WORKER, factory)
        order: list[int] = []

        async def need(number: int) -> None:
            await catalog.activate(ID)
            order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(need(number))
            await until(lambda: factory.calls == 1)
            factory.gate.set()
            for number in range(3, 20):
                group.create_task(need(number))
                await asyncio.sleep(0)

        assert order == list(range(20))

    async def test_one_who_gives_up_takes_nothing_from_the_others(self, catalog: AgentCatalog) -> None:
        factory = GatedFactory()
        catalog.add_factory(WORKER, factory)
        first = asyncio.create_task(catalog.activate(ID))
        second = asyncio.create_task(catalog.activate(ID))
        await until(lambda: factory.calls == 1)
        first.cancel()
        await asyncio.wait([first])
        factory.gate.set()

        assert isinstance(await second, Worker)
        assert first.cancelled()

    async def test_an_agent_of_another_class_is_refused(self, catalog: AgentCatalog) -> None:
        catalog.add_factory(WORKER, Worker, Special)
        with pytest.raises(ValueError, match="expected Special, got Worker"):
            await catalog.activate(ID)

        catalog.add_factory(AgentType("special"), Special, Worker)
        assert isinstance(await catalog.activate(AgentId("special", "k")), Special)

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_a_failed_construction_is_reported_and_not_kept(
        self, catalog: AgentCatalog, caplog: pytest.LogCaptureFixture, is_async: bool
    ) -> None:
        outcomes: list[Any] = [KeyError("boom"), Worker]

        def make() -> Worker:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            agent: Worker = outcome()
            return agent

        async def make_later() -> Worker:
            await asyncio.sleep(0)
            return make()

        catalog.add_factory(WORKER, make_later if is_async else make)
        with caplog.at_level(logging.INFO), pytest.raises(KeyError, match="boom"):
            await catalog.activate(ID)

        assert any(record.getMessage() == "Error constructing agent worker/k" for record in caplog.records)
        (event,) = [record.msg for record in caplog.records if record.name == EVENT_LOGGER_NAME]
        assert event.kwargs["type"] == "AgentConstructionException"
        assert event.kwargs["agent_id"] == "worker/k"
        assert isinstance(await catalog.activate(ID), Worker)

    async def test_a_failed_construction_fails_all_who_wait_for_it(self, catalog: AgentCatalog) -> None:
        error = ValueError("boom")

        def fail() -> None:
            raise error

        factory = GatedFactory(fail)
        catalog.add_factory(WORKER, factory)
        tasks = [asyncio.create_task(catalog.activate(ID)) for _ in range(3)]
        await until(lambda: factory.calls == 1)
        factory.gate.set()

        assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3

    async def test_an_unknown_type_is_not_found(self, catalog: AgentCatalog) -> None:
        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found: no agent type 'worker'"):
            await catalog.activate(ID)

    async def test_a_discarded_agent_is_built_anew(self, catalog: AgentCatalog) -> None:
        catalog.add_factory(WORKER, Worker)
        agent = await catalog.activate(ID)

        assert catalog.discard(ID) is agent
        assert catalog.discard(ID) is None
        assert await catalog.activate(ID) is not agent


class TestInstances:
    def test_an_instance_is_there_at_once(self, catalog: AgentCatalog) -> None:
        agent = Worker()
        catalog.add_instance(agent, ID)

        assert catalog.live(ID) is agent
        assert catalog.has_type("worker")
        assert catalog.agent_class("worker") is Worker

    def test_an_id_is_taken_once(self, catalog: AgentCatalog) -> None:
        catalog.add_instance(Worker(), ID)
        with pytest.raises(ValueError, match="Agent with id worker/k already exists"):
            catalog.add_instance(Worker(), ID)

    def test_instances_and_factories_of_one_type_exclude_each_other(self, catalog: AgentCatalog) -> None:
        catalog.add_factory(WORKER, Worker)
        with pytest.raises(ValueError, match="cannot be registered to the same type"):
            catalog.add_instance(Worker(), ID)

        catalog.add_instance(Worker(), AgentId("single", "k"))
        with pytest.raises(ValueError, match="already exists"):
            catalog.add_factory(AgentType("single"), Worker)

    def test_instances_of_a_type_share_one_class(self, catalog: AgentCatalog) -> None:
        catalog.add_instance(Worker(), ID)
        catalog.add_instance(Worker(), AgentId("worker", "other"))
        with pytest.raises(ValueError, match="must be the same object type"):
            catalog.add_instance(Special(), AgentId("worker", "third"))

    async def test_an_id_without_instance_is_not_found(self, catalog: AgentCatalog) -> None:
        catalog.add_instance(Worker(), ID)
        with pytest.raises(UnknownInstanceError, match="none of them has the key 'other'") as caught:
            await catalog.activate(AgentId("worker", "other"))
        assert isinstance(caught.value, AgentNotFoundError)
        assert isinstance(caught.value, RuntimeError)
