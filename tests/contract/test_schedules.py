"""Messages that come at their time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.support import Inbox, MakeRuntime, Number, Runtime, Scripted, Text, echo, fail, ignore, serve, until
from hivewire import (
    AgentId,
    AgentRuntime,
    MessageContext,
    RoutedAgent,
    ScheduleNotFoundError,
    ScheduleRule,
    TopicId,
    event,
    message_handler,
    rpc,
)
from hivewire.model.schedules import MessageScheduler

AGENT = AgentId("agent", "k")
FAR = timedelta(days=1)


class TestFiring:
    async def test_an_agent_gets_a_message_after_a_time_as_one_that_was_sent_to_it(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", echo)

        handle = await runtime.schedule_message(Text("x"), AGENT, after=0.2)
        await asyncio.sleep(0.05)
        early = len(inbox)
        await until(lambda: len(inbox) == 1)

        assert early == 0
        received = inbox.only
        assert (received.agent, received.message) == (AGENT, Text("x"))
        assert (received.ctx.is_rpc, received.ctx.topic_id, received.ctx.sender) == (True, None, None)
        assert received.ctx.message_id.startswith(f"{handle.id}@")

    async def test_a_topic_gets_an_event(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")

        await runtime.schedule_message(Text("x"), TopicId("t", "k"), at=datetime.now(UTC) + timedelta(seconds=0.1))
        await until(lambda: len(inbox) == 1)

        assert (inbox.only.agent, inbox.only.message) == (AGENT, Text("x"))
        assert (inbox.only.ctx.is_rpc, inbox.only.ctx.topic_id) == (False, TopicId("t", "k"))

    async def test_a_time_that_has_passed_fires_at_once(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")

        await runtime.schedule_message(Text("x"), AGENT, at=datetime(2020, 1, 1, tzinfo=UTC))

        await until(lambda: len(inbox) == 1)

    async def test_it_repeats_with_an_id_of_its_own_each_time(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")

        handle = await runtime.schedule_message(Text("x"), AGENT, every=1.0)
        await until(lambda: len(inbox) == 2)
        cancelled = await handle.cancel()

        assert cancelled
        first, second = (datetime.fromisoformat(each.ctx.message_id.split("@")[1]) for each in inbox.received[:2])
        assert second - first == timedelta(seconds=1)
        assert first == handle.schedule.next_at

    async def test_rpc_and_message_handlers_take_it_and_event_handlers_do_not(self, runtime: Runtime) -> None:
        taken: list[str] = []

        class Routed(RoutedAgent):
            @rpc
            async def on_text(self, message: Text, ctx: MessageContext) -> Text:
                taken.append("rpc")
                return message

            @message_handler
            async def on_number(self, message: Number, ctx: MessageContext) -> None:
                taken.append("message_handler")

            @event
            async def on_event(self, message: int, ctx: MessageContext) -> None:
                taken.append("event")

        await Routed.register(runtime, "agent", lambda: Routed("routed"))
        for message in (1, Text("x"), Number(1)):
            await runtime.schedule_message(message, AGENT, after=0)
        await until(lambda: len(taken) >= 2)

        assert sorted(taken) == ["message_handler", "rpc"]

    async def test_an_agent_schedules_for_itself_in_its_own_name(self, runtime: Runtime) -> None:
        async def again_once(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            if message == Number(1):
                await agent.schedule_message(Number(2), agent.id, after=0, id="again")

        inbox = await serve(runtime, "agent", again_once)
        await runtime.send_message(Number(1), AGENT)
        await until(lambda: len(inbox) == 2)

        assert inbox.received[1].ctx.sender == AGENT

    async def test_a_handler_may_use_the_id_of_the_schedule_that_it_handles_again(self, runtime: Runtime) -> None:
        async def again(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            if len(agent.inbox) < 3:
                await agent.schedule_message(message, agent.id, after=0, id="again")

        inbox = await serve(runtime, "agent", again)
        await runtime.schedule_message(Text("x"), AGENT, after=0, id="again")

        await until(lambda: len(inbox) == 3)

    async def test_a_handler_that_fails_stops_no_later_firing(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", fail)

        handle = await runtime.schedule_message(Text("x"), AGENT, every=1)
        await until(lambda: len(inbox) == 2)
        await handle.cancel()


class TestLooking:
    async def test_it_is_listed_until_it_has_fired(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        later = await runtime.schedule_message(Text("x"), TopicId("t", "s"), every=FAR, sender=AGENT)
        await runtime.schedule_message(Number(1), AGENT, after=0.3, id="soon")

        soon, other = await runtime.list_schedules()
        assert (soon.id, soon.target, soon.message_type) == ("soon", AGENT, "Number")
        assert soon.rule == ScheduleRule(after=0.3)
        assert other == later.schedule
        assert (other.target, other.sender) == (TopicId("t", "s"), AGENT)
        assert other.rule == ScheduleRule(every=FAR.total_seconds())

        await until(lambda: len(inbox) == 1)
        async with asyncio.timeout(10):
            while [each.id for each in await runtime.list_schedules()] != [later.id]:
                await asyncio.sleep(0.05)
        with pytest.raises(ScheduleNotFoundError, match="soon"):
            await runtime.get_schedule("soon")

    async def test_it_is_found_by_its_id_and_cancelled_once(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        handle = await runtime.schedule_message(Text("x"), AGENT, after=0.5, id="a.b c/ä")

        found = await runtime.get_schedule("a.b c/ä")
        assert found.schedule == handle.schedule
        assert await found.cancel()
        assert not await handle.cancel()
        assert await runtime.list_schedules() == []
        with pytest.raises(LookupError):
            await runtime.get_schedule(handle.id)
        await asyncio.sleep(0.8)
        assert len(inbox) == 0

    async def test_cron_is_by_its_time_zone(self, runtime: Runtime) -> None:
        handle = await runtime.schedule_message(Text("x"), AGENT, cron="30 9 * * *", time_zone="Asia/Kolkata")

        found = (await runtime.get_schedule(handle.id)).schedule
        assert (found.next_at.hour, found.next_at.minute, found.next_at.utcoffset()) == (4, 0, timedelta())
        assert found.rule == ScheduleRule(cron="30 9 * * *", time_zone="Asia/Kolkata")


class TestIds:
    async def test_the_same_schedule_again_is_left_as_it_is(self, runtime: Runtime) -> None:
        first = await runtime.schedule_message(Text("x"), AGENT, every=FAR, id="daily")
        second = await runtime.schedule_message(Text("x"), AGENT, every=FAR, id="daily")

        assert second.schedule == first.schedule
        assert await runtime.list_schedules() == [first.schedule]

    @pytest.mark.parametrize(
        "other",
        [{"every": 2 * FAR}, {"message": Text("y")}, {"target": TopicId("t", "s")}, {"sender": AGENT}],
        ids=["rule", "message", "target", "sender"],
    )
    async def test_another_one_replaces_it(self, runtime: Runtime, other: dict[str, Any]) -> None:
        first: dict[str, Any] = {"message": Text("x"), "target": AGENT, "every": FAR, "id": "daily"}
        await runtime.schedule_message(**first)
        replacing = await runtime.schedule_message(**{**first, **other})

        assert await runtime.list_schedules() == [replacing.schedule]

    async def test_ids_that_are_left_out_differ(self, runtime: Runtime) -> None:
        made = [await runtime.schedule_message(Text("x"), AGENT, every=FAR) for _ in range(3)]

        assert len({handle.id for handle in made}) == 3


class TestRefusals:
    async def test_what_is_no_time_and_no_target_is_refused(self, runtime: Runtime) -> None:
        wrong: Any = "tomorrow"
        with pytest.raises(TypeError, match="'tomorrow' is not a datetime"):
            await runtime.schedule_message("x", AgentId("agent", "k"), at=wrong)
        with pytest.raises(TypeError, match="an AgentId or a TopicId, and not 'tomorrow'"):
            await runtime.schedule_message("x", wrong, after=60)

        assert await runtime.list_schedules() == []

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({}, "exactly one"),
            ({"after": 1, "every": 1}, "after and every"),
            ({"at": datetime(2030, 1, 1)}, "no time zone"),
            ({"after": -1}, "at least 0"),
            ({"after": float("nan")}, "number of seconds"),
            ({"every": 0.5}, "at least 1"),
            ({"every": timedelta(milliseconds=999)}, "at least 1"),
            ({"every": 1e300}, "after the year 9999"),
            ({"cron": "* * *"}, "five fields"),
            ({"cron": "0 0 30 2 *"}, "cron expression"),
            ({"cron": "@reboot"}, "@hourly"),
            ({"cron": "@daily", "time_zone": "Mars/Olympus"}, "IANA"),
            ({"every": 5, "time_zone": "Europe/Berlin"}, "cron only"),
            ({"after": 1, "id": ""}, "can't be empty"),
        ],
    )
    async def test_what_can_not_be_followed_is_refused(
        self, runtime: Runtime, arguments: dict[str, Any], text: str
    ) -> None:
        with pytest.raises(ValueError, match=text):
            await runtime.schedule_message(Text("x"), AGENT, **arguments)

        assert await runtime.list_schedules() == []


async def test_both_runtimes_keep_schedules(runtime: Runtime) -> None:
    assert isinstance(runtime, MessageScheduler)
    assert isinstance(runtime, AgentRuntime)


async def test_what_waits_for_its_time_is_no_work(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await runtime.start()
    await serve(runtime, "agent")
    await runtime.schedule_message(Text("x"), AGENT, after=3_600)

    async with asyncio.timeout(10):
        await runtime.stop_when_idle()


async def test_the_message_is_that_of_the_moment_of_scheduling(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(copies=True)
    await runtime.start()
    inbox: Inbox = await serve(runtime, "agent")
    message = Text("then")
    await runtime.schedule_message(message, AGENT, after=0.1)
    message.value = "now"

    await until(lambda: len(inbox) == 1)
    assert inbox.only.message == Text("then")
