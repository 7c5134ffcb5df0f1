"""What the API server makes of the custom resources: defaults, pruning, subresources, and what `kubectl` shows."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from api_server import ApiServer
from cluster.kubectl import Kubectl
from hivewire_operator.cluster import ApiError, Cluster, Object
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.resources.agent_subscription import AgentSubscriptionSpec
from hivewire_operator.resources.agent_system import AgentSystemSpec

DEPLOYMENT = {"module": "shop:setup", "agentTypes": [{"name": "cart"}]}
SUBSCRIPTION = {"agentType": "cart", "topicType": "orders"}
SYSTEM = {"nats": {"url": "nats://nats:4222"}}


def resource(kind: str, namespace: str, name: str, spec: Object, **more: Any) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "hivewire.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, **more}


@pytest.fixture
def kubectl(api_server: ApiServer, namespace: str) -> Kubectl:
    return api_server.kubectl(namespace)


@pytest.mark.parametrize(
    ("kind", "model", "spec"),
    [
        ("AgentDeployment", AgentDeploymentSpec, DEPLOYMENT),
        ("AgentSubscription", AgentSubscriptionSpec, SUBSCRIPTION),
        ("AgentSystem", AgentSystemSpec, SYSTEM),
    ],
)
async def test_what_is_left_out_is_stored_as_the_model_has_it(
    cluster: Cluster, namespace: str, kind: str, model: type[BaseModel], spec: Object
) -> None:
    made = await cluster.create(kind, resource(kind, namespace, "default", spec))
    assert made["spec"] == model.model_validate(spec).model_dump(by_alias=True, exclude_none=True, mode="json")


async def test_parts_that_are_given_are_filled_up_with_defaults(cluster: Cluster, namespace: str) -> None:
    given = {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}]}
    given |= {"tolerations": [{"key": "gpu"}], "resources": {"limits": {"memory": "1Gi", "cpu": 2}}}
    scaling = {"maxReplicas": 3, "behavior": {"scaleDown": {"policies": []}}}
    spec = DEPLOYMENT | {"pod": given, "scaling": scaling}

    made = await cluster.create("AgentDeployment", resource("AgentDeployment", namespace, "cart", spec))

    expected = AgentDeploymentSpec.model_validate(spec).model_dump(by_alias=True, exclude_none=True, mode="json")
    assert made["spec"] == expected
    assert made["spec"]["pod"]["resources"]["limits"] == {"memory": "1Gi", "cpu": 2}


async def test_what_the_schema_does_not_know_is_dropped_but_in_affinity(
    cluster: Cluster, namespace: str, kubectl: Kubectl
) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}
    spec = DEPLOYMENT | {"colour": "red", "pod": {"affinity": affinity, "hostNetwork": True}}
    manifest = resource("AgentDeployment", namespace, "cart", spec)

    made = await cluster.create("AgentDeployment", manifest)

    assert "colour" not in made["spec"]
    assert "hostNetwork" not in made["spec"]["pod"]
    assert made["spec"]["pod"]["affinity"] == affinity
    # Whoever applies it by kubectl is told.
    with pytest.raises(AssertionError, match=r'unknown field "spec.colour"'):
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("AgentDeployment", {"module": "shop:setup"}, "spec.agentTypes: Required"),
        ("AgentDeployment", DEPLOYMENT | {"module": "shop setup"}, "spec.module"),
        ("AgentDeployment", DEPLOYMENT | {"agentTypes": [{"name": "cart", "shards": 3}]}, "shards: Unsupported value"),
        ("AgentDeployment", DEPLOYMENT | {"agentTypes": [{"name": "cart"}] * 2}, "Duplicate value"),
        ("AgentDeployment", DEPLOYMENT | {"replicas": -1}, "spec.replicas"),
        ("AgentSystem", {"nats": {"url": "nats://user:pass@nats:4222"}}, "spec.nats.url"),
        ("AgentSystem", {"nats": {"url": "http://nats"}}, "spec.nats.url"),
        ("AgentSystem", SYSTEM | {"streams": {"replicas": 2}}, "spec.streams.replicas"),
        ("AgentSubscription", SUBSCRIPTION | {"agentType": "a b"}, "spec.agentType"),
    ],
)
async def test_a_spec_that_makes_no_sense_is_refused_with_the_place_of_the_mistake(
    cluster: Cluster, namespace: str, kind: str, spec: Object, said: str
) -> None:
    with pytest.raises(ApiError, match=said) as refusal:
        await cluster.create(kind, resource(kind, namespace, "default", spec))
    assert refusal.value.status == 422


async def test_status_is_written_by_itself_and_changes_no_generation(cluster: Cluster, namespace: str) -> None:
    ignored = {"phase": "Ready"}
    made = await cluster.create(
        "AgentDeployment", resource("AgentDeployment", namespace, "cart", DEPLOYMENT, status=ignored)
    )
    assert "phase" not in made.get("status", {})

    patch = {"status": {"phase": "Ready"}, "spec": {"module": "other:setup"}}
    changed = await cluster.merge("AgentDeployment", namespace, "cart", patch, part="status")

    assert changed["status"]["phase"] == "Ready"
    assert changed["spec"]["module"] == "shop:setup"
    assert changed["metadata"]["generation"] == made["metadata"]["generation"]


async def test_the_scale_of_a_deployment_is_its_replicas(cluster: Cluster, namespace: str, kubectl: Kubectl) -> None:
    await cluster.create("AgentDeployment", resource("AgentDeployment", namespace, "cart", DEPLOYMENT))
    status = {"status": {"replicas": 1, "selector": "hivewire.dev/deployment=cart"}}
    await cluster.merge("AgentDeployment", namespace, "cart", status, part="status")

    kubectl("scale", "agentdeployment/cart", "--replicas=3")

    scale = json.loads(kubectl("get", "agentdeployment/cart", "--subresource=scale", "-o", "json"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "hivewire.dev/deployment=cart"}
    assert kubectl.get("agentdeployment", "cart")["spec"]["replicas"] == 3


async def test_kubectl_shows_what_matters(cluster: Cluster, namespace: str, kubectl: Kubectl) -> None:
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "NatsUnavailable",
        "message": "no answer",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    for kind, name, spec, status in [
        ("AgentSystem", "default", SYSTEM, {"conditions": [ready], "agentTypes": 2, "sessions": 5}),
        ("AgentDeployment", "cart", DEPLOYMENT, {"phase": "Scaling", "readyReplicas": 0, "lag": 7, "load": 9}),
        ("AgentSubscription", "orders", SUBSCRIPTION, {"conditions": [ready | {"status": "True"}]}),
    ]:
        await cluster.create(kind, resource(kind, namespace, name, spec))
        await cluster.merge(kind, namespace, name, {"status": status}, part="status")

    # Age is left out: it is the last column of all.
    assert table(kubectl, "agsys") == {"NAME": "default", "READY": "False", "TYPES": "2", "PROCESSES": "5"}
    assert table(kubectl, "agsys", "-o", "wide")["NATS"] == "nats://nats:4222"
    shown = {"NAME": "cart", "PHASE": "Scaling", "DESIRED": "1", "READY": "0", "LAG": "7"}
    assert table(kubectl, "agd") == shown
    assert table(kubectl, "agd", "-o", "wide").items() >= (shown | {"LOAD": "9"}).items()
    assert table(kubectl, "agsub") == {
        "NAME": "orders",
        "READY": "True",
        "TOPIC": "orders",
        "PREFIX": "",
        "AGENT-TYPE": "cart",
    }
    assert kubectl("get", "hivewire", "-o", "name").split() == [
        "agentdeployment.hivewire.dev/cart",
        "agentsubscription.hivewire.dev/orders",
        "agentsystem.hivewire.dev/default",
    ]


def table(kubectl: Kubectl, *arguments: str) -> dict[str, str]:
    """Return the one row that `kubectl get` shows, by its headings."""
    heading, row = kubectl("get", *arguments).splitlines()
    starts = [at for at, letter in enumerate(heading) if letter != " " and (at == 0 or heading[at - 1] == " ")]
    ends = [*starts[1:], None]
    cells = {heading[at:end].strip(): row[at:end].strip() for at, end in zip(starts, ends, strict=True)}
    assert cells.pop("AGE")
    return cells
