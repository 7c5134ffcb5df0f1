"""Everything is killed, again and again, while messages flow: what was published is handled once each and in order.

Takes as long as HIVEWIRE_CHAOS_MINUTES says.
"""

import json
import os
import random
import time
from collections.abc import Callable

import pytest

from cluster.load import FROM, load_on_ledgers
from cluster.release import NAME, Release

MINUTES = float(os.environ.get("HIVEWIRE_CHAOS_MINUTES", "10"))
"""How long things break."""
pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(MINUTES * 60 + 600)]

RELEASE_OPTIONS = ("--set=nats.nodes=3",)
SCALED = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "targetLoad": 5,
    "pollSeconds": 1,
    "cooldownSeconds": 4,
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
}
LEDGERS, OPERATORS, NATS = (
    "hivewire.dev/deployment=ledgers",
    "app.kubernetes.io/component=operator",
    "app.kubernetes.io/component=nats",
)


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    release.deployment(FROM, {"name": "worker", "stateless": True}, scaling={"minReplicas": 1, "maxReplicas": 1})
    release.deployment("ledgers", {"name": "ledger"}, scaling=SCALED)
    for name in (FROM, "ledgers"):
        release.wait_until("agentdeployment", name, "Ready", "True")


def test_nothing_is_lost_or_doubled_while_agents_operators_and_nats_are_killed(release: Release) -> None:
    seed = int(os.environ.get("HIVEWIRE_CHAOS_SEED", time.time()))
    print(f"HIVEWIRE_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    harm: list[Callable[[], str]] = [
        lambda: _delete(release, chance, LEDGERS, "--grace-period=0", "--force"),
        lambda: _delete(release, chance, LEDGERS, "--wait=false"),
        lambda: _delete(release, chance, OPERATORS, "--grace-period=0", "--force"),
        lambda: _delete_server(release, chance),
        lambda: _roll(release, chance),
    ]
    ends = time.monotonic() + MINUTES * 60
    with load_on_ledgers(release, "chaos", keys=40, each=10**6, takes_s=0.05, pause_s=0.5, within_s=240):
        while time.monotonic() < ends:
            began = time.monotonic()
            done = chance.choice(harm)()
            print(f"{time.strftime('%H:%M:%S')} {done}, {time.monotonic() - began:.1f} s", flush=True)
            time.sleep(chance.uniform(1, 8))
    release.wait_until("agentsystem", "default", "Ready", "True")
    release.wait_until("agentdeployment", "ledgers", "Ready", "True")
    release.wait_for("agentdeployment", "ledgers", lambda found: found["spec"]["replicas"] == 1)


def _delete(release: Release, chance: random.Random, selector: str, *how: str) -> str:
    pods = json.loads(release.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    if not pods:
        return "there was none to delete"
    name = chance.choice(pods)["metadata"]["name"]
    release.kubectl("delete", "pod", name, *how, "--ignore-not-found")
    return f"deleted {name} {' '.join(how)}"


def _delete_server(release: Release, chance: random.Random) -> str:
    """Two of three are left, so wait until the third is back before anything else."""
    told = _delete(release, chance, NATS, "--timeout=60s")
    release.kubectl("rollout", "status", f"statefulset/{NAME}-nats", "--timeout=55s")
    return told


def _roll(release: Release, chance: random.Random) -> str:
    pod = {
        "imagePullPolicy": "Never",
        "terminationGracePeriodSeconds": 15,
        "env": [{"name": "AGENT_TYPES", "value": "ledger"}],
        "labels": {"version": str(chance.randrange(10**6))},
    }
    release.deployment("ledgers", {"name": "ledger"}, scaling=SCALED, pod=pod)
    return "replaced all pods"
