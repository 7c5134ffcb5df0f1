"""The schedules of the local runtime as a state machine, beside a model that looks at every second."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hivewire.local.schedules import LocalSchedules
from hivewire.local.work import Work
from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule
from hivewire.testing import FakeClock

START = datetime(2030, 1, 1, tzinfo=UTC)
AGENT = AgentId("agent", "k")


class Schedules(RuleBasedStateMachine):
    """Ids are few, so that schedules replace each other; times are whole seconds, so that many are due at once."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(START)
        self.fired: list[tuple[datetime, str, str]] = []
        self.expected: list[tuple[datetime, str, str]] = []
        self.model: dict[str, tuple[ScheduleRule, str, datetime]] = {}
        self.schedules = LocalSchedules(self.clock, deliver=self.deliver, settled=self.settled)

    def deliver(self, schedule: Schedule, message: Any) -> Work | None:
        self.fired.append((self.clock.now(), schedule.id, message))
        return None

    async def settled(self) -> None:
        pass

    @rule(
        target=ids,
        id=st.sampled_from("abcd"),
        message=st.sampled_from("xy"),
        seconds=st.integers(1, 20),
        kind=st.integers(0, 2),
    )
    def add(self, id: str, message: str, seconds: int, kind: int) -> str:
        now = self.clock.now()
        made = (
            ScheduleRule.of(after=seconds),
            ScheduleRule.of(every=seconds),
            ScheduleRule.of(at=START + timedelta(seconds=seconds)),
        )[kind]
        schedule = Schedule(id=id, target=AGENT, message_type="str", rule=made, next_at=made.first(now))
        there = self.model.get(id)
        if there is None or there[:2] != (made, message):
            self.model[id] = made, message, made.first(now)
        assert self.schedules.add(schedule, message).next_at == self.model[id][2]
        return id

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        was_there = self.model.pop(id, None) is not None
        assert asyncio.run(self.schedules.cancel(id)) == was_there

    @rule()
    def resume(self) -> None:
        self.schedules.resume()

    @rule(seconds=st.integers(0, 30))
    def advance(self, seconds: int) -> None:
        now, until = self.clock.now(), self.clock.now() + timedelta(seconds=seconds)
        while now <= until:
            for id, (made, message, due) in list(self.model.items()):
                if due > now:
                    continue
                self.expected.append((now, id, message))
                del self.model[id]
                if made.every is not None:
                    self.model[id] = made, message, due + timedelta(seconds=made.every)
            now += timedelta(seconds=1)
        asyncio.run(self.clock.advance(seconds))

    @invariant()
    def each_fired_once_at_its_time(self) -> None:
        assert sorted(self.fired) == sorted(self.expected)
        assert [each[0] for each in self.fired] == sorted(each[0] for each in self.fired)

    @invariant()
    def what_waits_is_known(self) -> None:
        waiting = {schedule.id: (schedule.rule, schedule.next_at) for schedule in self.schedules.all()}
        assert waiting == {id: (made, due) for id, (made, _, due) in self.model.items()}


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
