"""The checker finds what each safety rule prevents: with the rule taken out of a copy of the library, a run fails."""

from collections.abc import Collection
from pathlib import Path

import pytest

from chaos import mutants
from chaos.agents import HOOK_VARIABLE, LATE_VARIABLE
from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import LoadPlan
from chaos.model import Kind, Violation
from chaos.mutants import Mutant
from chaos.scenario import Scenario
from chaos.waiting import until

PLAN = LoadPlan(messages=5_000, keys=100, pace_per_s=400)

SLOW_CLAIMS = {HOOK_VARIABLE: "slow:positions:0.1"}
LATE_S = 5.0
GAP_S = 5.0


@pytest.mark.parametrize("mutant", (*mutants.MUTANTS, *mutants.NEXT_RELEASE), ids=lambda mutant: mutant.name)
def test_each_rule_can_still_be_taken_out(mutant: Mutant, tmp_path: Path) -> None:
    mutants.make(tmp_path, mutant)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_without_fencing_a_turn_that_was_paused_before_its_commit_overwrites_newer_state(
    one_node: Cluster, new_scenario: NewScenario, tmp_path: Path
) -> None:
    environment = mutants.make(tmp_path, mutants.mutant("state is written without compare-and-set"))
    async with new_scenario(one_node, PLAN, environment=environment) as run:
        zombie = run.fleet.launch(environment={**environment, HOOK_VARIABLE: "before:state:200:SIGSTOP"})
        await zombie.ready()
        await until(lambda: zombie.is_paused, "the worker has paused itself")
        await run.session_ends(await run.sessions())
        await run.sent()
        zombie.resume()
        await _found(await run.verdict(), {Kind.LOST, Kind.DUPLICATED, Kind.WRONG_ANSWER})


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_without_deduplication_what_was_committed_before_a_crash_is_done_again(
    one_node: Cluster, new_scenario: NewScenario, tmp_path: Path
) -> None:
    environment = {
        **mutants.make(tmp_path, mutants.mutant("what was handled is handled again")),
        HOOK_VARIABLE: "after:state:1000:SIGKILL",
    }
    async with new_scenario(one_node, PLAN, environment=environment) as run, run.fleet.supervised() as died:
        await run.sent()
        assert died
        await _found(await run.verdict(), {Kind.DUPLICATED})


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_without_exclusive_claims_two_owners_of_a_shard_both_handle_its_events(
    one_node: Cluster, new_scenario: NewScenario, tmp_path: Path
) -> None:
    environment = mutants.make(tmp_path, mutants.mutant("shards are claimed without compare-and-set"))
    async with new_scenario(one_node, PLAN, workers=1, environment={**SLOW_CLAIMS, **environment}) as run:
        await _two_claim_what_a_third_gives_up(run)
        await _found(await run.verdict(crash_free=True), {Kind.HANDLED_TWICE})


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_with_them_two_that_both_think_a_shard_theirs_do_not_both_get_it(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    async with new_scenario(one_node, PLAN, workers=1, environment=SLOW_CLAIMS) as run:
        await _two_claim_what_a_third_gives_up(run)
        await run.passes(gap_s=GAP_S, crash_free=True)


async def _two_claim_what_a_third_gives_up(run: Scenario) -> None:
    (first,) = run.fleet.running
    late = run.fleet.launch(environment={LATE_VARIABLE: str(LATE_S)})
    await late.ready()
    sessions = await run.sessions()
    newcomer = run.fleet.launch()

    async def joined() -> bool:
        return not sessions >= await run.sessions()

    await until(joined, "the third worker has a session")
    # The second one does not know of the third yet, and takes all that the first one had for its own.
    await first.stop()
    await newcomer.ready()


async def _found(violations: Collection[Violation], expected: Collection[Kind]) -> None:
    kinds = {violation.kind for violation in violations}
    assert kinds & set(expected), f"the checker saw nothing of it, only {kinds or 'a good run'}"
