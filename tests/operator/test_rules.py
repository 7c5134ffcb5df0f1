"""Every rule of the custom resources refuses what it is there for, and nothing that is near to it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hivewire_operator.cluster import ApiError, Cluster, Object

CRDS = Path(__file__).parents[2] / "k8s" / "crds"

MINIMAL: dict[str, Object] = {
    "AgentDeployment": {"module": "shop:setup", "agentTypes": [{"name": "cart"}]},
    "AgentSubscription": {"agentType": "cart", "topicType": "orders"},
    "AgentSystem": {"nats": {"url": "nats://nats:4222"}, "gateway": {"agentTypes": [{"name": "cart"}]}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule, where it holds, and whether it is about changes."""

    kind: str
    path: str
    message: str
    is_of_changes: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def rules_in(kind: str, schema: Object, path: str) -> Iterator[Rule]:
    for each in schema.get("x-kubernetes-validations", []):
        yield Rule(kind=kind, path=path, message=each["message"], is_of_changes="oldSelf" in each["rule"])
    for name, part in schema.get("properties", {}).items():
        yield from rules_in(kind, part, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from rules_in(kind, schema[inner], f"{path}[]")


def all_rules() -> Iterator[Rule]:
    for file in sorted(CRDS.iterdir()):
        definition = yaml.safe_load(file.read_text())["spec"]
        kind = definition["names"]["kind"]
        for version in definition["versions"]:
            yield from rules_in(kind, version["schema"]["openAPIV3Schema"], kind)


RULES = list(all_rules())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a rule refuses and accepts: what is put into the least spec that there can be, or how that is changed if the
    rule is about changes. None removes a field. `named` is no field, but the object's name.
    """

    refused: tuple[Object, ...]
    accepted: tuple[Object, ...]


def env(**variable: Any) -> Object:
    return {"pod": {"env": [{"name": "COLOUR"} | variable]}}


def from_secret(name: str) -> Object:
    return env(valueFrom={"secretKeyRef": {"name": name, "key": "k"}})


def mounted(path: str, secret: str = "mine") -> Object:
    return {"pod": {"secrets": [{"secretName": secret, "mountPath": path}]}}


def types(**shape: Any) -> Object:
    return {"agentTypes": [{"name": "cart"} | shape]}


SECRET_KEY, CONFIG_KEY = {"name": "mine", "key": "k"}, {"name": "settings", "key": "k"}
RESERVED = (
    "BROKER_URL",
    "HIVEWIRE_DEPLOYMENT",
    "HIVEWIRE_HEALTH_HOST",
    "HIVEWIRE_HEALTH_PORT",
    "HIVEWIRE_NAMESPACE",
    "INSTANCE_ID",
    "NATS_CREDS",
)

CASES: dict[tuple[str, str], Case] = {
    (
        "AgentDeployment",
        "this name is the gateway's or the administrator's: their login would be that of the pods",
    ): Case(refused=({"named": "gateway"}, {"named": "admin"}), accepted=({"named": "gateways"},)),
    (
        "AgentDeployment.spec",
        "maxReplicas is above the shards of every agent type: the pods beyond would have no work",
    ): Case(
        refused=(types(shards=4) | {"scaling": {"maxReplicas": 5}}, {"scaling": {"maxReplicas": 17}}),
        accepted=(
            types(shards=4) | {"scaling": {"maxReplicas": 4}},
            types(stateless=True) | {"scaling": {"maxReplicas": 900}},
            {"agentTypes": [{"name": "cart", "shards": 1}, {"name": "order"}], "scaling": {"maxReplicas": 16}},
        ),
    ),
    ("AgentDeployment.spec.agentTypes[]", "stateless can't be changed: use another agent type"): Case(
        refused=(types(stateless=True),),
        accepted=(types(stateless=False), {"agentTypes": [{"name": "order", "stateless": True}]}),
    ),
    ("AgentDeployment.spec.agentTypes[]", "shards can't be changed: use another agent type"): Case(
        refused=(types(shards=32), types(shards=8)),
        accepted=(types(shards=16), {"agentTypes": [{"name": "cart"}, {"name": "order", "shards": 32}]}),
    ),
    ("AgentDeployment.spec.pod.env[]", "give either value or valueFrom"): Case(
        refused=(env(value="red", valueFrom={"secretKeyRef": SECRET_KEY}),),
        accepted=(env(), env(value="red"), env(valueFrom={"secretKeyRef": SECRET_KEY})),
    ),
    ("AgentDeployment.spec.pod.env[]", "the operator sets this variable itself"): Case(
        refused=tuple(env(name=name, value="x") for name in RESERVED),
        accepted=(env(name="HIVEWIRE_COLOUR", value="red"),),
    ),
    ("AgentDeployment.spec.pod.env[].valueFrom", "give either secretKeyRef or configMapKeyRef"): Case(
        refused=(env(valueFrom={}), env(valueFrom={"secretKeyRef": SECRET_KEY, "configMapKeyRef": CONFIG_KEY})),
        accepted=(env(valueFrom={"configMapKeyRef": CONFIG_KEY}),),
    ),
    (
        "AgentDeployment.spec.pod.env[].valueFrom.secretKeyRef",
        "Secrets named hivewire-* belong to the operator",
    ): Case(refused=(from_secret("hivewire-cart-nats"),), accepted=(from_secret("hivewire"),)),
    ("AgentDeployment.spec.pod.secrets[]", "Secrets named hivewire-* belong to the operator"): Case(
        refused=(mounted("/keys", "hivewire-cart-nats"),), accepted=(mounted("/keys", "my-hivewire-keys"),)
    ),
    (
        "AgentDeployment.spec.pod.secrets[]",
        "mountPath is an absolute path: a / before each name, and no name is . or ..",
    ): Case(
        refused=tuple(
            map(mounted, ("keys", "/keys/../var/run", "/keys/.", "/..", "//keys", "/keys//a", "/keys/", "/k y"))
        ),
        accepted=tuple(map(mounted, ("/keys/.hidden", "/etc/keys.d/..data", "/k", "/My_keys/a-b"))),
    ),
    (
        "AgentDeployment.spec.pod.secrets[]",
        "/run, /tmp and the same in /var are the pod's own: mount it elsewhere",
    ): Case(
        refused=tuple(
            map(
                mounted,
                ("/var/run/secrets/hivewire", "/var/run", "/run/secrets/hivewire", "/run", "/tmp", "/tmp/x", "/var"),
            )
        ),
        accepted=tuple(map(mounted, ("/var/runs", "/tmpl", "/var/lib/run", "/running"))),
    ),
    ("AgentDeployment.spec.pod.imagePullSecrets[]", "Secrets named hivewire-* belong to the operator"): Case(
        refused=({"pod": {"imagePullSecrets": [{"name": "hivewire-cart-nats"}]}},),
        accepted=({"pod": {"imagePullSecrets": [{"name": "registry"}]}},),
    ),
    ("AgentDeployment.spec.scaling", "minReplicas is at most maxReplicas"): Case(
        refused=({"scaling": {"minReplicas": 2}}, {"scaling": {"minReplicas": 4, "maxReplicas": 3}}),
        accepted=({"scaling": {"minReplicas": 3, "maxReplicas": 3}},),
    ),
    ("AgentSubscription.spec", "give either topicType or topicPrefix"): Case(
        refused=({"topicType": None}, {"topicPrefix": "order"}),
        accepted=({"topicType": None, "topicPrefix": "order"},),
    ),
    ("AgentSubscription.spec", "the topic can't be changed: make another AgentSubscription"): Case(
        refused=({"topicType": "refunds"}, {"topicType": None, "topicPrefix": "orders"}),
        accepted=({"topicType": "orders"},),
    ),
    ("AgentSubscription.spec.agentType", "agentType can't be changed: make another AgentSubscription"): Case(
        refused=({"agentType": "order"},), accepted=({"agentType": "cart"},)
    ),
    ("AgentSubscription.spec.delivery", "firstDelaySeconds can't be longer than maxDelaySeconds"): Case(
        refused=({"delivery": {"firstDelaySeconds": 2, "maxDelaySeconds": 1}},),
        accepted=(
            {"delivery": {"firstDelaySeconds": 1, "maxDelaySeconds": 1}},
            {"delivery": {"firstDelaySeconds": 2}},
            {"delivery": {"maxDelaySeconds": 0}},
        ),
    ),
    ("AgentSubscription.spec.start", "start can't be changed afterwards"): Case(
        refused=({"start": "Beginning"},), accepted=({"start": "Now"},)
    ),
    ("AgentSystem.spec.gateway.agentTypes[]", "stateless can't be changed: use another agent type"): Case(
        refused=({"gateway": types(stateless=True)},),
        accepted=({"gateway": types(stateless=False)}, {"gateway": {"agentTypes": [{"name": "o", "stateless": True}]}}),
    ),
    ("AgentSystem.spec.gateway.agentTypes[]", "shards can't be changed: use another agent type"): Case(
        refused=({"gateway": types(shards=32)},), accepted=({"gateway": types(shards=16)},)
    ),
    ("AgentSystem", "a namespace has one AgentSystem, and it is named default"): Case(
        refused=({"named": "other"},), accepted=({"named": "default"},)
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=str)
async def test_a_rule_refuses_what_it_is_there_for_and_nothing_near_to_it(
    cluster: Cluster, namespace: str, rule: Rule
) -> None:
    case = CASES[rule.path, rule.message]
    others = {each.message for each in RULES} - {rule.message}
    for change in case.refused:
        with pytest.raises(ApiError) as refusal:
            await submit(cluster, namespace, rule, change)
        assert refusal.value.status == 422
        assert rule.message in str(refusal.value)
        assert not [other for other in others if other in str(refusal.value)]
    for change in case.accepted:
        await submit(cluster, namespace, rule, change)


def test_there_is_no_case_without_a_rule() -> None:
    assert set(CASES) == {(rule.path, rule.message) for rule in RULES}


async def submit(cluster: Cluster, namespace: str, rule: Rule, change: Object) -> None:
    """Make an object anew, or make one and change it."""
    spec = {name: value for name, value in change.items() if name != "named"}
    made = MINIMAL[rule.kind] | ({} if rule.is_of_changes else spec)
    name = change.get("named") or f"o{secrets.token_hex(4)}"
    if rule.kind == "AgentSystem" and "named" not in change:
        name = "default"
        await cluster.delete(rule.kind, namespace, name)
    await cluster.create(
        rule.kind,
        {
            "apiVersion": "hivewire.dev/v1alpha1",
            "kind": rule.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {field: value for field, value in made.items() if value is not None},
        },
    )
    if rule.is_of_changes:
        await cluster.merge(rule.kind, namespace, name, {"spec": spec})
