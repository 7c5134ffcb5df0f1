"""Three NATS servers, the system's object and logins: what goes on without them, and what comes back."""

import base64
import json
import secrets
import time

import pytest

from cluster.kubectl import Kubectl
from cluster.load import FROM, load_on_ledgers, put_load_on_ledgers, tell
from cluster.release import NAME, Release, ask
from hivewire.provisioning import Permissions
from hivewire_operator.credentials import new_login
from hivewire_operator.nats_keys import KeyPair

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]

RELEASE_OPTIONS = ("--set=nats.nodes=3",)
LEDGER = {"name": "ledger"}
WORKER = {"name": "worker", "stateless": True}
TWO = {"mode": "manual", "minReplicas": 0, "maxReplicas": 2}
NATS_PODS = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=nats"
ALL = Permissions(publish=(">",), publish_denied=(), subscribe=(">",), inbox_prefix="_INBOX")

AS_ADMINISTRATOR = """
import asyncio, os, nats
from hivewire.provisioning import Subjects

async def main():
    with open("/tmp/administrator", "w") as file:
        file.write({login})
    client = await nats.connect(os.environ["BROKER_URL"], user_credentials="/tmp/administrator")
    jetstream, subjects = client.jetstream(), Subjects(os.environ["HIVEWIRE_NAMESPACE"])
    stream, consumer = subjects.events_stream, subjects.consumer_of("worker")
{does}
    await client.close()

asyncio.run(main())
"""
DELETE = """
    await jetstream.delete_consumer(stream, consumer)
    await jetstream.delete_stream(subjects.dead_stream)
"""
DELETE_EVENTS = """
    await jetstream.delete_stream(stream)
"""
SEE = """
    async with asyncio.timeout(60):
        while True:
            try:
                await jetstream.consumer_info(stream, consumer)
                await jetstream.stream_info(subjects.dead_stream)
                break
            except nats.js.errors.NotFoundError:
                await asyncio.sleep(0.5)
    print("back")
"""


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    release.deployment(FROM, WORKER, scaling={"minReplicas": 1, "maxReplicas": 1})
    release.deployment("ledgers", LEDGER, scaling=TWO)
    release.kubectl("scale", "agentdeployment/ledgers", "--replicas=2")
    release.wait_for("agentdeployment", "ledgers", lambda found: found["status"].get("readyReplicas") == 2)
    release.wait_until("agentdeployment", FROM, "Ready", "True")


def numbers(release: Release, ledger: str) -> list[int]:
    """Ask a ledger through the gateway."""
    with release.gateway() as gateway:
        answer = ask(gateway, f"ledger/{ledger}", "Recall")
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["numbers"]
    return found


def wait_until_told(release: Release, ledger: str, number: int) -> list[int]:
    deadline = time.monotonic() + 60
    while number not in (found := numbers(release, ledger)):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_a_subscription_holds_from_its_making_to_its_deletion(release: Release) -> None:
    release.kubectl.apply(
        {
            "apiVersion": "hivewire.dev/v1alpha1",
            "kind": "AgentSubscription",
            "metadata": {"name": "extra"},
            "spec": {"agentType": "ledger", "topicType": "extra"},
        }
    )
    release.wait_until("agentsubscription", "extra", "Ready", "True")
    tell(release, "subscribed", ("extra", 1), ("task", 2))
    assert wait_until_told(release, "subscribed", 2) == [1, 2]

    release.kubectl("delete", "agentsubscription", "extra", "--timeout=30s")
    deadline = time.monotonic() + 60
    number = 10
    while True:
        tell(release, "subscribed", ("extra", number), ("task", number + 1))
        if number not in wait_until_told(release, "subscribed", number + 1):
            return
        assert time.monotonic() < deadline, "the subscription is still there"
        number += 10


def test_a_subscription_from_the_beginning_brings_what_was_stored_before_it(release: Release) -> None:
    tell(release, "late", ("history", 1), ("history", 2))
    release.kubectl.apply(
        {
            "apiVersion": "hivewire.dev/v1alpha1",
            "kind": "AgentSubscription",
            "metadata": {"name": "history"},
            "spec": {"agentType": "ledger", "topicType": "history", "start": "Beginning"},
        }
    )
    release.wait_until("agentsubscription", "history", "Ready", "True")
    tell(release, "late", ("history", 3))
    assert wait_until_told(release, "late", 3) == [1, 2, 3]


def test_streams_and_a_consumer_that_somebody_deleted_come_back(release: Release) -> None:
    login = repr(_administrator(release.kubectl))
    release.run(AS_ADMINISTRATOR.format(login=login, does=DELETE), within=FROM)
    assert "back" in release.run(AS_ADMINISTRATOR.format(login=login, does=SEE), within=FROM)
    release.run(AS_ADMINISTRATOR.format(login=login, does=DELETE_EVENTS), within=FROM)
    assert "back" in release.run(AS_ADMINISTRATOR.format(login=login, does=SEE), within=FROM)
    put_load_on_ledgers(release, "anew", keys=5, each=5)


def test_agents_go_on_without_their_system_and_it_takes_them_up_again(release: Release) -> None:
    put_load_on_ledgers(release, "retained", keys=1, each=3)
    before = _names(release, "hivewire.dev/deployment=ledgers")
    spec = release.kubectl.get("agentsystem", "default")["spec"]
    assert spec["deletionPolicy"] == "Retain"

    release.kubectl("delete", "agentsystem", "default", "--timeout=30s")
    put_load_on_ledgers(release, "unruled", keys=2, each=5)

    release.kubectl.apply(
        {
            "apiVersion": "hivewire.dev/v1alpha1",
            "kind": "AgentSystem",
            "metadata": {"name": "default"},
            "spec": spec,
        }
    )
    release.wait_until("agentsystem", "default", "Ready", "True")
    release.wait_until("agentdeployment", "ledgers", "Ready", "True")
    assert _names(release, "hivewire.dev/deployment=ledgers") == before
    # The gateway's login went with the system, and a pod's mounted Secret follows within 90 s.
    with release.gateway() as gateway:
        deadline = time.monotonic() + 150
        while (answer := ask(gateway, "ledger/retained0", "Recall")).status_code == 503:
            assert time.monotonic() < deadline, answer.text
            time.sleep(1)
    assert answer.json()["numbers"] == [0, 1, 2]


def test_nothing_is_lost_when_one_nats_server_and_then_all_are_deleted_under_load(release: Release) -> None:
    with load_on_ledgers(release, "restarted", keys=20, each=1000, pause_s=0.2):
        release.kubectl("delete", "pod", f"{NAME}-nats-0", "--timeout=50s")
        release.kubectl("rollout", "status", f"statefulset/{NAME}-nats", "--timeout=50s")
        release.kubectl("delete", "pod", "-l", NATS_PODS, "--timeout=50s")
        release.kubectl("rollout", "status", f"statefulset/{NAME}-nats", "--timeout=50s")
    release.wait_until("agentsystem", "default", "Ready", "True")


def test_logins_are_replaced_under_load_before_they_expire(release: Release) -> None:
    pods = _names(release, "hivewire.dev/deployment=ledgers")
    before = release.kubectl.get("secret", "hivewire-ledgers-nats")["data"]
    with load_on_ledgers(release, "renewed", keys=10, each=1000, pause_s=0.5):
        release.kubectl("annotate", "secret", "hivewire-login-default", "hivewire.dev/login-seconds=120")
        try:
            release.wait_for("secret", "hivewire-ledgers-nats", lambda found: found["data"] != before)
            deadline = time.monotonic() + 60
            while not all(_has_new_login(release, pod) for pod in pods):
                assert time.monotonic() < deadline, "pods keep to their old logins"
                # What is mounted follows within 90 s, and sooner when a pod changes.
                release.kubectl("annotate", "pods", "--all", f"looked-at={time.monotonic()}", "--overwrite")
                time.sleep(1)
        finally:
            release.kubectl("annotate", "secret", "hivewire-login-default", "hivewire.dev/login-seconds-")
    assert _names(release, "hivewire.dev/deployment=ledgers") == pods


def _has_new_login(release: Release, pod: str) -> bool:
    return "with new credentials" in release.kubectl("logs", pod)


def _names(release: Release, selector: str) -> set[str]:
    found = json.loads(release.kubectl("get", "pods", "-l", selector, "-o", "json"))
    return {pod["metadata"]["name"] for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]}


def _administrator(kubectl: Kubectl) -> str:
    """Make a login that may do everything in the account of the agents."""
    data = kubectl.get("secret", "hivewire-login-default")["data"]
    account, seed = (base64.b64decode(data[key]).decode().strip() for key in ("account", "signing-key"))
    login = new_login(
        KeyPair(seed),
        name="administrator",
        permissions=ALL,
        now=time.time(),
        lives_s=600,
        entropy=secrets.token_bytes(32),
        account=account,
    )
    return login.file
