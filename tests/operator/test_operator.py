"""The operator at work: a real API server and a real NATS server. There are no nodes, so tests tell how pods are."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api_server import ApiServer
from broker.rights.conftest import OperatorMode
from hivewire import (
    AccessDeniedError,
    AgentId,
    HttpAgentRuntime,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    event,
    rpc,
)
from hivewire.provisioning import GATEWAY, Subjects
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.login_sources import Minting
from hivewire_operator.nats_keys import new_key_pair
from hivewire_operator.operator import Operator
from hivewire_operator.settings import OperatorSettings

DEADLINE_S = 30
CLOSED_PORT = "nats://127.0.0.1:9"


class Counter(RoutedAgent):
    """Keeps how often it was called."""

    def __init__(self) -> None:
        super().__init__("counts")
        self.count = 0

    @event
    async def on_event(self, message: str, ctx: MessageContext) -> None:
        self.count += 1

    @rpc
    async def on_call(self, message: int, ctx: MessageContext) -> int:
        self.count += message
        return self.count

    async def save_state(self) -> dict[str, Any]:
        return {"count": self.count}

    async def load_state(self, state: Any) -> None:
        self.count = state["count"]


class Field:
    """A Kubernetes namespace with an operator that sees to it."""

    def __init__(self, cluster: Cluster, namespace: str, nats_url: str, folder: Path) -> None:
        self.cluster, self.namespace, self.nats_url, self.folder = cluster, namespace, nats_url, folder
        self.subjects = Subjects(namespace)
        self.writes = 0

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[None]:
        """Let an operator work."""
        folder = self.folder / f"{self.writes}"
        folder.mkdir()
        self.writes += 1
        settings = OperatorSettings(
            own_namespace=self.namespace, identity="op", namespaces=(self.namespace,), image="agents:1"
        )
        working = asyncio.ensure_future(Operator(self.cluster, settings, folder).run())
        try:
            yield
            assert not working.done(), working.exception()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def system(self, **spec: Any) -> None:
        await self.apply("AgentSystem", "default", {"nats": {"url": self.nats_url}, "resyncSeconds": 5, **spec})

    async def keys(self, source: Minting) -> None:
        """Hand out the login `main`."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "namespace": self.namespace,
                "name": "hivewire-login-main",
                "annotations": {"hivewire.dev/namespaces": self.namespace},
            },
            "stringData": {"account": source.account, "signing-key": source.signer.seed},
        }
        await self.cluster.apply("Secret", manifest, manager="test")

    async def deployment(self, name: str = "shop", **spec: Any) -> None:
        """Make or change an AgentDeployment, by what is said of it alone."""
        await self.apply(
            "AgentDeployment",
            name,
            {
                "module": "shop:setup",
                "agentTypes": [{"name": "counter"}],
                "scaling": {"mode": "manual"},
                "rollout": {"progressDeadlineSeconds": 10},
                **spec,
            },
        )

    async def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "hivewire.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        await self.cluster.apply(kind, manifest, manager="a-user")

    async def get(self, kind: str, name: str) -> Object | None:
        return await self.cluster.get(kind, self.namespace, name)

    async def until(self, kind: str, name: str, holds: Callable[[Object], bool]) -> Object:
        """Return the object once it is as asked for."""
        found: Object | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    found = await self.get(kind, name)
                    if found is not None and holds(found):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{kind} {name} is not as expected: {found}") from None

    async def until_gone(self, kind: str, name: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.get(kind, name) is not None:
                await asyncio.sleep(0.05)

    async def condition(self, kind: str, name: str, condition: str, status: str, reason: str) -> str:
        """Wait for a condition, and return its message."""

        def said(found: Object) -> list[Object]:
            conditions = (found.get("status") or {}).get("conditions", ())
            return [each for each in conditions if each["type"] == condition]

        def holds(found: Object) -> bool:
            return any((each["status"], each["reason"]) == (status, reason) for each in said(found))

        return str(said(await self.until(kind, name, holds))[0]["message"])

    async def pods(self, name: str = "shop", *, ready: int, updated: int | None = None, failed: bool = False) -> None:
        """Tell how the pods of a Deployment are."""
        found = await self.until("Deployment", name, lambda found: True)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        progressing = {
            "type": "Progressing",
            "status": "False" if failed else "True",
            "reason": "ProgressDeadlineExceeded" if failed else "NewReplicaSetAvailable",
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": max(ready, updated or 0),
            "updatedReplicas": ready if updated is None else updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [progressing],
        }
        await self.cluster.merge("Deployment", self.namespace, name, {"status": status}, part="status")

    def runtime(self, **options: Any) -> NatsAgentRuntime:
        return NatsAgentRuntime(self.nats_url, namespace=self.namespace, provision=False, **options)

    async def serve(self, deployment: str = "shop") -> NatsAgentRuntime:
        """Return what stands for a pod."""
        runtime = await self.runtime(deployment=deployment).connect()
        await Counter.register(runtime, "counter", Counter)
        await runtime.start()
        return runtime


@pytest.fixture
async def field(
    api_server: ApiServer,
    cluster: Cluster,
    namespace: str,
    nats_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Field:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    return Field(cluster, namespace, nats_url, tmp_path)


def image_of(deployment: Object) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_deployment_gets_all_it_needs_and_says_how_it_is_and_then_nothing_is_written_any_more(
    field: Field,
) -> None:
    async with field.operator():
        await field.system()
        await field.deployment()
        await field.condition("AgentSystem", "default", "Ready", "True", "Ready")
        await field.condition("AgentDeployment", "shop", "Provisioned", "True", "Provisioned")
        await field.condition("AgentDeployment", "shop", "Ready", "False", "NoPodReady")
        await field.pods(ready=1)
        await field.condition("AgentDeployment", "shop", "Ready", "True", "PodsReady")
        deployment = await field.until("Deployment", "shop", lambda found: image_of(found) == "agents:1")
        assert deployment["metadata"]["ownerReferences"][0]["kind"] == "AgentDeployment"
        assert await field.get("ServiceAccount", "shop") is not None
        revisions = await field.cluster.find("ControllerRevision", field.namespace)
        assert len(revisions) == 1

        await field.condition("AgentDeployment", "shop", "Deployed", "True", "PodsReady")
        shop = await field.until("AgentDeployment", "shop", lambda found: found["status"].get("lag") == 0)
        await asyncio.sleep(6)  # longer than a resync takes to come
        after = await field.get("AgentDeployment", "shop"), await field.get("Deployment", "shop")
        assert [each["metadata"]["resourceVersion"] for each in after if each] == [
            shop["metadata"]["resourceVersion"],
            deployment["metadata"]["resourceVersion"],
        ]


async def test_what_somebody_changes_or_deletes_is_put_right(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment()
        await field.pods(ready=1)
        await field.condition("AgentDeployment", "shop", "Ready", "True", "PodsReady")
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "agents", "image": "evil:1"}]}}}}
        await field.cluster.merge("Deployment", field.namespace, "shop", patch)
        await field.cluster.delete("ServiceAccount", field.namespace, "shop")

        await field.until("Deployment", "shop", lambda found: image_of(found) == "agents:1")
        await field.until("ServiceAccount", "shop", lambda found: True)


async def test_pods_that_do_not_become_ready_are_taken_back_once_and_not_tried_again(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment(image="good:1")
        await field.pods(ready=1)
        await field.condition("AgentDeployment", "shop", "Ready", "True", "PodsReady")
        await field.until("AgentDeployment", "shop", lambda found: found["status"]["phase"] == "Running")
        await field.deployment(image="broken:1")
        await field.until("Deployment", "shop", lambda found: image_of(found) == "broken:1")
        await field.pods(ready=1, updated=1, failed=True)
        await field.cluster.merge(
            "Deployment", field.namespace, "shop", {"status": {"replicas": 2, "updatedReplicas": 1}}, part="status"
        )

        await field.condition("AgentDeployment", "shop", "RolledBack", "True", "NotReadyInTime")
        deployment = await field.until("Deployment", "shop", lambda found: image_of(found) == "good:1")
        await field.pods(ready=1)
        await field.until("AgentDeployment", "shop", lambda found: found["status"]["phase"] == "RolledBack")

    async with field.operator():  # another one, which only knows what is written
        await asyncio.sleep(2)
        now = await field.until("Deployment", "shop", lambda found: True)
        assert image_of(now) == "good:1"
        assert now["metadata"]["generation"] == deployment["metadata"]["generation"]
        await field.deployment(image="better:1")
        await field.until("Deployment", "shop", lambda found: image_of(found) == "better:1")
        await field.condition("AgentDeployment", "shop", "RolledBack", "False", "AsWanted")


async def test_workers_over_http_serve_what_the_system_allows_its_gateway(field: Field) -> None:
    mode = OperatorMode(field.folder)
    async with mode.server:
        await field.keys(mode.minting(life_s=3600))
        async with field.operator():
            types = [{"name": "counter", "shards": 4}]
            await field.system(nats={"url": mode.url, "login": "main"}, gateway={"agentTypes": types})
            await field.condition("AgentSystem", "default", "Provisioned", "True", "Provisioned")
            login = field.folder / "gateway.creds"
            secret = await field.until("Secret", "hivewire-gateway-nats", lambda found: True)
            login.write_bytes(base64.b64decode(secret["data"]["nats.creds"]))
            relay = RelayRuntime(
                mode.url, namespace=field.namespace, deployment=GATEWAY, credentials=str(login), provision=False
            )
            await relay.connect()
            async with GatewayServer(relay, Settings(port=0, metrics_port=0, drain_timeout_s=1.0)) as gateway:
                worker = HttpAgentRuntime(gateway.url)
                await Counter.register(worker, "counter", Counter)
                await worker.start()
                assert await worker.send_message(3, AgentId("counter", "one")) == 3
                with pytest.raises(AccessDeniedError, match="the AgentSystem has to name the agent types"):
                    await Counter.register(worker, "other", Counter)
                await worker.stop()


@pytest.mark.slow  # it takes half a minute
async def test_keys_that_nats_does_not_trust_are_told_while_old_logins_go_on(field: Field) -> None:
    mode = OperatorMode(field.folder)
    right = mode.minting(life_s=3600)
    wrong = replace(right, signer=new_key_pair("account", secrets.token_bytes(32)))
    async with mode.server:
        await field.keys(right)
        async with field.operator():
            await field.system(nats={"url": mode.url, "login": "main"})
            await field.condition("AgentSystem", "default", "Ready", "True", "Ready")
            for source, status, reason in ((wrong, "False", "LoginRefused"), (right, "True", "Minted")):
                await field.keys(source)
                await field.condition("AgentSystem", "default", "LoginReady", status, reason)
            await field.condition("AgentSystem", "default", "Ready", "True", "Ready")


async def test_the_number_of_pods_follows_whoever_writes_it_in_manual_mode(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment(scaling={"mode": "manual", "maxReplicas": 5})
        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 1)
        await field.cluster.merge("AgentDeployment", field.namespace, "shop", {"spec": {"replicas": 4}}, part="scale")

        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 4)
        await field.condition("AgentDeployment", "shop", "ScalingDelegated", "True", "Manual")
        assert await field.get("PodDisruptionBudget", "shop") is not None
    async with field.operator():
        await field.deployment(scaling={"mode": "manual", "maxReplicas": 1})
        await field.until_gone("PodDisruptionBudget", "shop")


FROM_BEGINNING = {"start": "Beginning"}
SCALED = {"minReplicas": 0, "maxReplicas": 8, "targetLoad": 10, "pollSeconds": 1, "cooldownSeconds": 2} | {
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}
}


async def test_pods_come_with_waiting_events_and_go_when_nothing_waits_and_nothing_runs(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment(scaling=SCALED)
        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 0)
        await field.pods(ready=0)
        publisher = await field.runtime(deployment="elsewhere").connect()
        await publisher.add_subscription(TypeSubscription("sold", "counter"))
        for number in range(35):
            await publisher.publish_message("one", TopicId("sold", str(number)))

        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 4)
        await field.until("AgentDeployment", "shop", lambda found: found["status"].get("lag") == 35)
        await field.pods(ready=4)
        pod = await field.serve()
        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 0)
        assert (await field.until("AgentDeployment", "shop", lambda found: True))["status"]["lag"] == 0
        await pod.stop()
        await publisher.stop()


async def test_a_call_to_a_type_without_pods_brings_one_and_is_answered(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment(scaling=SCALED)
        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 0)
        await field.pods(ready=0)
        caller = await field.runtime(deployment="elsewhere", delivery_timeout=0.5).connect()
        call = asyncio.ensure_future(caller.send_message(5, AgentId("counter", "one"), timeout=60))

        await field.until("Deployment", "shop", lambda found: found["spec"]["replicas"] == 1)
        pod = await field.serve()

        assert await call == 5
        await pod.stop()
        await caller.stop()


async def test_a_subscription_holds_as_long_as_its_object_is_there_also_without_an_operator(field: Field) -> None:
    async def subscriptions() -> set[str]:
        runtime = await field.runtime(deployment="elsewhere").connect()
        record = runtime._registry.get("counter")
        await runtime.stop()
        return {each.content_id for each in record.subscriptions.filters} if record else set()

    async with field.operator():
        await field.system()
        await field.deployment()
        await field.apply("AgentSubscription", "sold", {"agentType": "counter", "topicType": "sold"})
        await field.apply("AgentSubscription", "again", {"agentType": "counter", "topicType": "sold"})
        await field.apply("AgentSubscription", "all", {"agentType": "counter", "topicPrefix": "audit."})
        for name in ("sold", "again", "all"):
            await field.condition("AgentSubscription", name, "Ready", "True", "Subscribed")
        assert await subscriptions() == {"exact:sold", "prefix:audit."}
        await field.cluster.delete("AgentSubscription", field.namespace, "again")
        await field.cluster.delete("AgentSubscription", field.namespace, "all")
        async with asyncio.timeout(DEADLINE_S):
            while await subscriptions() != {"exact:sold"}:
                await asyncio.sleep(0.1)
    await field.cluster.delete("AgentSubscription", field.namespace, "sold")
    async with field.operator(), asyncio.timeout(DEADLINE_S):
        while await subscriptions():
            await asyncio.sleep(0.1)


async def test_a_subscription_from_the_beginning_brings_what_was_stored_before_it(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.apply("AgentSubscription", "sold", {"agentType": "counter", "topicType": "sold"} | FROM_BEGINNING)
        await field.condition("AgentSubscription", "sold", "Ready", "False", "TypeUnknown")
        publisher = await field.runtime(deployment="elsewhere").connect()
        for number in range(300):
            await publisher.publish_message("one", TopicId("sold", str(number)))
        await field.deployment(scaling=SCALED)
        await field.condition("AgentSubscription", "sold", "Ready", "True", "Subscribed")
        await publisher.publish_message("one", TopicId("sold", "last"))
        await publisher.stop()

        await field.until("AgentDeployment", "shop", lambda found: found["status"].get("lag") == 301)


async def test_of_two_subscriptions_to_the_same_the_first_by_name_says_how_events_are_delivered(field: Field) -> None:
    async def attempts() -> list[int | None]:
        runtime = await field.runtime(deployment="elsewhere").connect()
        record = runtime._registry.get("counter")
        await runtime.stop()
        assert record is not None
        return [policy.attempts for _, policy in record.deliveries]

    same = {"agentType": "counter", "topicType": "sold"}
    async with field.operator():
        await field.system(resyncSeconds=5)
        await field.deployment()
        await field.apply("AgentSubscription", "b", same | {"delivery": {"attempts": 2}})
        await field.condition("AgentSubscription", "b", "Ready", "True", "Subscribed")
        assert await attempts() == [2]
        await field.apply("AgentSubscription", "a", same | {"delivery": {"attempts": 3}})
        await field.condition("AgentSubscription", "a", "Ready", "True", "Subscribed")
        assert await attempts() == [3]
        await field.apply("AgentSubscription", "b", same | {"delivery": {"attempts": 4}})
        await field.until("AgentSubscription", "b", lambda found: "a says" in str(found.get("status")))
        assert await attempts() == [3]
        await field.cluster.delete("AgentSubscription", field.namespace, "a")
        async with asyncio.timeout(DEADLINE_S):
            while await attempts() != [4]:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_states_stay_or_go_with_their_deployment_as_its_policy_says(field: Field, policy: str) -> None:
    async def count() -> int:
        pod = await field.serve()
        answer: int = await pod.send_message(1, AgentId("counter", "one"))
        await pod.stop()
        return answer

    async with field.operator():
        await field.system()
        await field.deployment(deletionPolicy=policy)
        await field.condition("AgentDeployment", "shop", "Provisioned", "True", "Provisioned")
        assert await count() == 1
        await field.until(
            "ConfigMap", f"hivewire-ledger-{field.namespace}", lambda found: "shop" in found["data"]["ledger"]
        )
        await field.cluster.delete("AgentDeployment", field.namespace, "shop")
        await field.until(
            "ConfigMap", f"hivewire-ledger-{field.namespace}", lambda found: "shop" not in found["data"]["ledger"]
        )
        await field.deployment(deletionPolicy=policy)
        await field.condition("AgentDeployment", "shop", "Provisioned", "True", "Provisioned")
        assert await count() == (2 if policy == "Retain" else 1)


async def test_without_nats_nothing_is_torn_down_and_it_catches_up(field: Field) -> None:
    async with field.operator():
        await field.system(nats={"url": CLOSED_PORT})
        await field.deployment()
        message = await field.condition("AgentSystem", "default", "Connected", "False", "NatsUnavailable")
        assert "127.0.0.1:9" in message
        await field.condition("AgentDeployment", "shop", "Provisioned", "Unknown", "NatsUnavailable")
        await field.until("Deployment", "shop", lambda found: True)
        await field.condition("AgentDeployment", "shop", "LagUnavailable", "True", "NatsUnavailable")

        await field.system()

        await field.condition("AgentSystem", "default", "Connected", "True", "Connected")
        await field.condition("AgentDeployment", "shop", "Provisioned", "True", "Provisioned")


async def test_without_an_agent_system_the_deployment_says_so_and_its_pods_go_on(field: Field) -> None:
    async with field.operator():
        await field.deployment()
        message = await field.condition("AgentDeployment", "shop", "Ready", "False", "NoAgentSystem")
        assert "create one" in message
        await field.system()
        await field.pods(ready=1)
        await field.condition("AgentDeployment", "shop", "Ready", "True", "PodsReady")
        await field.cluster.delete("AgentSystem", field.namespace, "default")
        await field.condition("AgentDeployment", "shop", "Ready", "False", "NoAgentSystem")
        assert await field.get("Deployment", "shop") is not None
        await field.system()
        await field.condition("AgentDeployment", "shop", "Ready", "True", "PodsReady")


async def test_an_agent_type_that_is_registered_otherwise_is_refused_and_nothing_is_rolled_out(field: Field) -> None:
    async with field.operator():
        await field.system()
        await field.deployment("first", agentTypes=[{"name": "counter", "shards": 4}])
        await field.condition("AgentDeployment", "first", "Provisioned", "True", "Provisioned")
        await field.deployment("second", agentTypes=[{"name": "counter", "shards": 8}])

        message = await field.condition("AgentDeployment", "second", "Provisioned", "False", "OtherShape")

        assert "counter" in message
        assert await field.get("Deployment", "second") is None
