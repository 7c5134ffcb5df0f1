"""When a process watches the whole system."""

import asyncio
from typing import cast

import pytest

from broker.scripted import until
from hivewire.nats import system_watch
from hivewire.nats.observation import Observation, TypeObservation
from hivewire.nats.observer import Observer
from hivewire.nats.session import SessionRecord
from hivewire.nats.system_watch import SystemWatch, reading_of
from hivewire.telemetry.system_metrics import SystemMetrics, SystemReading


class _Observer:
    def __init__(self) -> None:
        self.looks = 0
        self.fault: Exception | None = None

    async def observe(self, *, timeout: float) -> Observation:
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        return Observation(types=(), sessions=(), shards_owned={}, dead_letters={})


class _Metrics(SystemMetrics):
    def __init__(self) -> None:
        self.shown = False
        self.errors = 0

    def show(self, reading: SystemReading) -> None:
        self.shown = True

    def count_error(self) -> None:
        self.errors += 1

    def withdraw(self) -> None:
        self.shown = False


async def test_it_watches_while_it_is_elected_and_while_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_watch, "_LOOK_S", 0.001)
    monkeypatch.setattr(system_watch, "EVERY_S", 0.002)
    observer, metrics = _Observer(), _Metrics()
    state = {"elected": False, "session": True}
    watch = SystemWatch(cast(Observer, observer), metrics)
    watching = asyncio.create_task(watch.run(lambda: state["elected"], has_session=lambda: state["session"]))
    await asyncio.sleep(0.01)
    assert observer.looks == 0
    state["elected"] = True
    await until(lambda: metrics.shown)
    state.update(elected=False, session=False)
    observer.fault = TimeoutError()
    await until(lambda: metrics.errors > 2)
    assert metrics.shown
    observer.fault = RuntimeError("a fault")
    seen = metrics.errors
    await until(lambda: metrics.errors > seen + 2)
    state["session"] = True
    await until(lambda: not metrics.shown)
    state["elected"], observer.fault = True, None
    await until(lambda: metrics.shown)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not metrics.shown


def test_every_type_has_all_values_and_every_deployment_all_states() -> None:
    def session(name: str, deployment: str) -> SessionRecord:
        return SessionRecord(session=name, deployment=deployment, instance=name, state="serving")

    sharded = TypeObservation(
        name="a", kind="sharded", shards=4, shards_owned=1, lag_messages=2, oldest_event_s=1.5, dead_letters=0
    )
    stateless = TypeObservation(
        name="b", kind="stateless", shards=None, shards_owned=0, lag_messages=0, oldest_event_s=None, dead_letters=7
    )
    observation = Observation(
        types=(sharded, stateless),
        sessions=(session("1", "x"), session("2", "x"), session("3", "y")),
        shards_owned={"1": 1},
        dead_letters={"b": 7, "gone": 1},
    )
    assert reading_of(observation) == SystemReading(
        lag_messages={"a": 2, "b": 0},
        oldest_event_s={"a": 1.5, "b": 0.0},
        shards_without_owner={"a": 3},
        dead_letters={"a": 0, "b": 7, "gone": 1},
        sessions={("x", "serving"): 2, ("x", "draining"): 0, ("y", "serving"): 1, ("y", "draining"): 0},
    )
