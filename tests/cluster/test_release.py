"""The chart, the operator and the agents, as their users have them."""

import concurrent.futures
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from cluster.load import FROM, load_on_ledgers, put_load_on_ledgers, tell
from cluster.machine.cluster import is_ready, restart
from cluster.machine.layout import ROOT, Layout
from cluster.release import NAME, Release, ask

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LEDGER = {"name": "ledger"}
CLERK = {"name": "clerk"}
WORKER = {"name": "worker", "stateless": True}
SCALED = {
    "minReplicas": 0,
    "maxReplicas": 3,
    "targetLoad": 100,
    "pollSeconds": 1,
    "cooldownSeconds": 4,
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 4}},
}

STEPS = SCALED | {
    "minReplicas": 1,
    "behavior": {
        "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 6}]},
        "scaleDown": {"stabilizationWindowSeconds": 4},
    },
}


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    release.deployment(FROM, WORKER, scaling={"minReplicas": 1, "maxReplicas": 1})
    release.deployment("ledgers", LEDGER, scaling=SCALED)
    release.deployment("clerks", CLERK, scaling=SCALED | {"targetLoad": 10})
    for name in (FROM, "ledgers", "clerks"):
        release.wait_until("agentdeployment", name, "Ready", "True")


def test_the_test_of_the_chart_passes(release: Release) -> None:
    assert "Succeeded" in release.helm("test", NAME, "--timeout=90s")


def test_twenty_thousand_events_bring_pods_until_none_waits_and_none_is_lost(release: Release) -> None:
    release.wait_for("agentdeployment", "ledgers", lambda found: found["spec"]["replicas"] == 0)
    most = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(put_load_on_ledgers, release, "many", keys=100, each=200)
        while not publishing.done():
            most = max(most, release.kubectl.get("agentdeployment", "ledgers")["status"]["readyReplicas"])
            time.sleep(0.5)
        publishing.result()
    assert most == SCALED["maxReplicas"]
    idle = release.wait_for("agentdeployment", "ledgers", lambda found: found["spec"]["replicas"] == 0)
    assert idle["status"]["lag"] == 0


def test_a_message_to_a_type_without_pods_is_answered(release: Release) -> None:
    release.wait_for("agentdeployment", "clerks", lambda found: found["status"]["replicas"] == 0)
    with release.gateway() as gateway:
        began = time.monotonic()
        answer = ask(gateway, "clerk/one", "Question", text="hello")
        took_s = time.monotonic() - began
    assert (answer.status_code, answer.json()) == (200, "hello")
    print(f"answered after {took_s:.1f} s")


def test_fifty_callers_bring_pods_for_direct_messages_and_get_their_answers(release: Release) -> None:
    with release.gateway() as gateway, concurrent.futures.ThreadPoolExecutor(50) as pool:
        calls = [
            pool.submit(ask, gateway, f"clerk/{number}", "Question", text=str(number), takes_s=2.0)
            for number in range(400)
        ]
        release.wait_for("agentdeployment", "clerks", lambda found: found["status"]["readyReplicas"] == 3)
        answers = [call.result(120) for call in calls]
    assert [answer.json() for answer in answers if answer.status_code == 200] == [
        str(number) for number, answer in enumerate(answers) if answer.status_code == 200
    ]
    codes = [answer.status_code for answer in answers]
    assert set(codes) <= {200, 429}
    assert codes.count(429) <= 20
    release.wait_for("agentdeployment", "clerks", lambda found: found["spec"]["replicas"] == 0)


def test_pods_that_never_become_ready_are_taken_back_and_those_of_before_serve_on(release: Release) -> None:
    image = release.kubectl.get("agentdeployment", "clerks")["spec"]["image"]
    steady = SCALED | {"minReplicas": 1}
    release.deployment("clerks", CLERK, scaling=steady, rollout={"progressDeadlineSeconds": 10})
    release.wait_for("agentdeployment", "clerks", lambda found: found["status"].get("readyReplicas") == 1)
    release.wait_until("agentdeployment", "clerks", "Deployed", "True")
    broken = {"image": "localhost/nothing:1", "rollout": {"progressDeadlineSeconds": 10}}
    release.deployment("clerks", CLERK, scaling=steady, **broken)

    with release.gateway() as gateway:
        while not (found := release.kubectl.get("agentdeployment", "clerks"))["status"].get("rejectedTemplate"):
            assert ask(gateway, "clerk/two", "Question", text="still there").json() == "still there"
            time.sleep(0.5)
    release.wait_until("agentdeployment", "clerks", "RolledBack", "True")
    assert found["spec"]["image"] == "localhost/nothing:1"
    child = release.kubectl.get("deployment", "clerks")
    assert child["spec"]["template"]["spec"]["containers"][0]["image"] == image
    release.deployment("clerks", CLERK, scaling=SCALED | {"targetLoad": 10})


def test_nothing_is_lost_when_the_leading_operator_and_nats_and_agents_are_killed_as_pods_come(
    release: Release,
) -> None:
    with _pods_coming(release, "killed", each=90):
        killed = _leader(release)
        release.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
        release.kubectl("delete", "pod", "-l", "hivewire.dev/deployment=ledgers", "--grace-period=0", "--force")
        release.kubectl("delete", "pod", f"{NAME}-nats-0")
        release.wait_for("agentdeployment", "ledgers", lambda found: found["status"].get("readyReplicas") == 3)
    assert _leader(release) != killed


def test_the_api_server_restarts_as_pods_come_and_what_is_asked_for_then_is_done(release: Release) -> None:
    layout = Layout(ROOT)
    if release.kubectl.kubeconfig != layout.kubeconfig or not is_ready(layout):
        pytest.skip("the cluster is not one of `make cluster-up`")
    with _pods_coming(release, "unserved", each=60):
        before = _names(release)
        restart(layout, "kube-apiserver")
        release.kubectl.wait_until_served()
        back = datetime.now(UTC)
        release.wait_for("agentdeployment", "ledgers", lambda found: found["status"].get("readyReplicas") == 3)
        assert before <= _names(release)
    renewed = release.kubectl.get("lease", f"{NAME}-operator")["spec"]["renewTime"]
    assert _leader(release) in before
    assert datetime.fromisoformat(renewed) > back
    release.deployment("ledgers", LEDGER, scaling=SCALED)
    release.wait_for("agentdeployment", "ledgers", lambda found: found["spec"]["replicas"] == 0)


def test_a_login_is_of_no_use_after_its_deployment_is_deleted(release: Release) -> None:
    release.deployment("guests", CLERK, scaling={"minReplicas": 0, "maxReplicas": 1})
    release.wait_until("agentdeployment", "guests", "Ready", "True")
    secret = release.kubectl.get("secret", "hivewire-guests-nats")["data"]["nats.creds"]
    attempt = f"""
import asyncio, base64, os, nats
open("/tmp/guest", "wb").write(base64.b64decode({json.dumps(secret)}))
async def main():
    try:
        client = await nats.connect(os.environ["BROKER_URL"], user_credentials="/tmp/guest", allow_reconnect=False,
                                    connect_timeout=5, max_reconnect_attempts=1)
        await client.close()
        print("let in")
    except Exception as error:
        print("refused", error)
asyncio.run(main())
"""
    assert release.run(attempt, within=FROM).startswith("let in")
    release.kubectl("delete", "agentdeployment", "guests")
    deadline = time.monotonic() + 60
    while not (said := release.run(attempt, within=FROM)).startswith("refused"):
        assert time.monotonic() < deadline, said
        time.sleep(1)


def test_after_an_uninstall_without_an_operator_nothing_hangs_and_a_new_release_finds_the_data(
    release: Release,
) -> None:
    put_load_on_ledgers(release, "kept", keys=3, each=5)
    release.wait_for("agentdeployment", "ledgers", lambda found: found["spec"]["replicas"] == 0)
    release.kubectl("scale", f"deployment/{NAME}-operator", "--replicas=0")
    release.kubectl("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator", "--timeout=40s")
    tell(release, "kept1", ("task", 5))
    release.kubectl("delete", "agentdeployment", "ledgers", "--timeout=30s")
    release.uninstall()

    release.install()
    release.deployment("ledgers", LEDGER, scaling=SCALED)
    release.wait_until("agentdeployment", "ledgers", "Ready", "True")
    with release.gateway() as gateway:
        deadline = time.monotonic() + 60
        while (answer := ask(gateway, "ledger/kept1", "Recall").json()["numbers"]) != [0, 1, 2, 3, 4, 5]:
            assert time.monotonic() < deadline, answer
            time.sleep(0.5)


def test_after_an_uninstall_with_an_operator_all_that_stays_can_be_deleted(release: Release) -> None:
    release.uninstall()
    for kind in ("agentdeployment", "agentsystem"):
        assert release.kubectl("get", kind, "-o", "name"), kind
        release.kubectl("delete", kind, "--all", "--timeout=30s")


@contextmanager
def _pods_coming(release: Release, prefix: str, *, each: int) -> Iterator[None]:
    """Do something while one pod has the work of three, and see that nothing is lost."""
    release.deployment("ledgers", LEDGER, scaling=STEPS)
    release.wait_for("agentdeployment", "ledgers", lambda found: found["status"].get("readyReplicas") == 1)
    with load_on_ledgers(release, prefix, keys=20, each=each, takes_s=0.4):
        assert release.kubectl.get("agentdeployment", "ledgers")["spec"]["replicas"] < SCALED["maxReplicas"]
        yield


def _leader(release: Release) -> str:
    holder: str = release.kubectl.get("lease", f"{NAME}-operator")["spec"]["holderIdentity"]
    return holder.partition("_")[0]


def _names(release: Release) -> set[str]:
    return set(release.kubectl("get", "pods", "-o", "name").replace("pod/", "").split())
