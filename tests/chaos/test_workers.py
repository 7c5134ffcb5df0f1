"""Workers that are killed, paused, moved and poisoned under load, on one node."""

import random
from dataclasses import replace

import pytest

from chaos.agents import CLOCK_VARIABLE, EXIT_CODE, HOOK_VARIABLE
from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import Behaviour, LoadPlan
from chaos.waiting import until
from hivewire.nats.lease import SESSION_TTL_S

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

LONG = LoadPlan(pace_per_s=900)

CRASH_GAP_S = 24.0
MOVE_GAP_S = 5.0


async def test_workers_that_are_killed_at_random_twenty_times(one_node: Cluster, new_scenario: NewScenario) -> None:
    dice = random.Random(4)
    async with new_scenario(one_node, replace(LONG, pace_per_s=450), workers=3) as run:
        for number in range(1, 21):
            await run.load.reaches(number / 22)
            await run.fleet.replace_random(dice)
        # A shard may be orphaned again before it has recovered.
        await run.passes(gap_s=2 * CRASH_GAP_S)


async def test_a_worker_that_was_paused_past_its_lease_overwrites_nothing(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    async with new_scenario(one_node, replace(LONG, pace_per_s=650), workers=3) as run:
        for share, zombie in zip((0.1, 0.5), run.fleet.running, strict=False):
            await run.load.reaches(share)
            zombie.pause()
            await run.session_ends(await run.sessions())
            await run.load.reaches(share + 0.3)
            zombie.resume()
        await run.passes(gap_s=CRASH_GAP_S)


async def test_a_turn_that_was_paused_just_before_its_commit_does_not_commit_past_its_lease(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    async with new_scenario(one_node, replace(LONG, pace_per_s=650), workers=2) as run:
        zombie = run.fleet.launch(environment={HOOK_VARIABLE: "before:state:500:SIGSTOP"})
        await zombie.ready()
        for _ in range(2):
            await until(lambda: zombie.is_paused, "the worker has paused itself")
            await run.session_ends(await run.sessions())
            # What it was about to write is by then stale.
            await run.load.reaches(min(1.0, run.load.share_done + 0.2))
            zombie.resume()
        await run.sent()
        zombie.kill()
        await run.passes(gap_s=CRASH_GAP_S)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_workers_that_die_between_handling_and_acknowledging(
    moment: str, one_node: Cluster, new_scenario: NewScenario
) -> None:
    environment = {HOOK_VARIABLE: f"{moment}:state:2000:SIGKILL"}
    async with new_scenario(one_node, LONG, workers=3, environment=environment) as run, run.fleet.supervised() as died:
        await run.sent()
        assert len(died) >= 3, "too few have died for this to say anything"
        await run.passes(gap_s=2 * CRASH_GAP_S)


async def test_scaling_from_one_to_six_to_two(one_node: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(one_node, replace(LONG, pace_per_s=650), workers=1) as run:
        await run.load.reaches(0.15)
        await run.fleet.scale(6)
        await run.load.reaches(0.6)
        await run.fleet.scale(2)
        await run.passes(gap_s=MOVE_GAP_S, crash_free=True)


async def test_rolling_restarts(one_node: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(one_node, LONG, workers=3) as run:
        for share in (0.1, 0.5):
            await run.load.reaches(share)
            for worker in run.fleet.running:
                await run.fleet.start()
                await worker.stop()
        await run.passes(gap_s=MOVE_GAP_S, crash_free=True)


async def test_messages_that_always_fail_are_dead_letters_and_hold_up_no_other_key(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    poison = {number: Behaviour(fails=True) for number in (2_000, 4_000, 6_000)}
    async with new_scenario(one_node, replace(LONG, events=poison), workers=2) as run:
        await run.sent()
        report = await run.passes(gap_s=MOVE_GAP_S)
    assert report.dead_letters == len(poison)


async def test_a_message_that_kills_its_process_is_alone_among_the_dead_letters(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    slow = {number: Behaviour(sleep_s=0.5) for number in range(4_500, 5_500)}
    plan = replace(LONG, pace_per_s=2_000, events={**slow, 5_000: Behaviour(exits=True)})
    async with new_scenario(one_node, plan, workers=2) as run, run.fleet.supervised() as died:
        report = await run.passes(gap_s=3 * CRASH_GAP_S)
    assert report.dead_letters == 1
    assert {worker.exit_code for worker in died} == {EXIT_CODE}


async def test_handlers_that_outlast_every_lease_while_their_processes_die_and_move(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    slow_s = SESSION_TTL_S + 4.0
    slow = {number: Behaviour(sleep_s=slow_s) for number in range(1_000, 16_000, 1_500)}
    async with new_scenario(one_node, replace(LONG, events=slow), workers=3) as run:
        for share in (0.2, 0.5):
            await run.load.reaches(share)
            await run.fleet.replace(run.fleet.running[0])
            await run.load.reaches(share + 0.15)
            await run.fleet.start()
            await run.fleet.running[0].stop()
        # What was killed in the middle begins anew, once the session of its process has ended.
        await run.passes(gap_s=CRASH_GAP_S + 2 * slow_s)


@pytest.mark.parametrize("jump_s", [10.0, -10.0], ids=["forwards", "backwards"])
async def test_a_worker_whose_clock_jumps_overwrites_nothing(
    jump_s: float, one_node: Cluster, new_scenario: NewScenario
) -> None:
    assert abs(jump_s) > SESSION_TTL_S
    async with new_scenario(one_node, LONG, workers=2) as run:
        jumpy = run.fleet.launch(environment={CLOCK_VARIABLE: str(jump_s)})
        await jumpy.ready()

        async def all_live() -> bool:
            return len(await run.sessions()) == 3

        for share in (0.2, 0.6):
            await run.load.reaches(share)
            await until(all_live, "each worker has a session, be it a new one")
            sessions = await run.sessions()
            jumpy.jump_clock()
            if jump_s < 0:
                # It takes its session for valid, and does not renew it, for so long that the others take over.
                await run.session_ends(sessions)
        await run.passes(gap_s=CRASH_GAP_S)
