"""What the components of a release may not do with the credentials that are in their own pods."""

import json

import pytest

from cluster.load import FROM, put_load_on_ledgers
from cluster.probes import Request, allowed_at_nats, answers_of_kubernetes
from cluster.release import NAME, Release, ask
from refusals import Refusals

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

MOUNTED = "/var/run/secrets/hivewire/nats.creds"
OF_OPERATOR = "/tmp/hivewire-*/*.creds"
GATEWAY, OPERATOR = f"{NAME}-gateway", f"{NAME}-operator"


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    one = {"minReplicas": 1, "maxReplicas": 1}
    release.deployment(FROM, {"name": "worker", "stateless": True}, scaling=one)
    release.deployment("ledgers", {"name": "ledger"}, scaling=one)
    for name in (FROM, "ledgers"):
        release.wait_until("agentdeployment", name, "Ready", "True")


@pytest.fixture(scope="module")
def leader(release: Release) -> str:
    """The pod of the operator that leads."""
    holder: str = release.kubectl.get("lease", OPERATOR)["spec"]["holderIdentity"]
    return f"pod/{holder.partition('_')[0]}"


@pytest.mark.parametrize("component", ["worker", "gateway", "operator"])
def test_nats_refuses_a_component_what_is_not_its_own(release: Release, leader: str, component: str) -> None:
    namespace = release.kubectl.namespace
    refusals = Refusals(namespace=namespace, deployment="ledgers", served="ledger", other="clerk", stateless="worker")
    within = {"worker": "ledgers", "gateway": GATEWAY, "operator": leader}[component]
    login = OF_OPERATOR if component == "operator" else MOUNTED
    deployment = {"worker": "ledgers"}.get(component, f"_{component}")
    own = f"_INBOX.{namespace}.{deployment}.probe"
    allowed = allowed_at_nats(
        release,
        within,
        credentials=login,
        publishes=[*refusals.publishes(component), f"_INBOX.{namespace}.nobody.probe"],
        subscriptions=[*refusals.subscriptions(component), (own, "")],
    )
    assert allowed == ([f"_INBOX.{namespace}.nobody.probe"], [(own, "")])


def test_agents_and_the_gateway_do_their_work_with_these_rights(release: Release) -> None:
    put_load_on_ledgers(release, "right", keys=2, each=3)
    with release.gateway() as gateway:
        assert ask(gateway, "ledger/right0", "Recall").json()["numbers"] == [0, 1, 2]


def test_kubernetes_lets_the_operator_do_its_work_and_no_more(release: Release, leader: str) -> None:
    own = f"/api/v1/namespaces/{release.kubectl.namespace}"
    may = [
        Request(method="GET", path=f"{own}/secrets/hivewire-login-default"),
        Request(method="GET", path=_hivewire(release, "agentdeployments")),
        Request(method="GET", path=_group(release, "apps/v1", "deployments/ledgers")),
    ]
    assert set(answers_of_kubernetes(release, leader, may).values()) == {200}
    refused = _refused_of_all(release) + _refused_of_the_operator(release)
    assert answers_of_kubernetes(release, leader, refused) == dict.fromkeys(refused, 403)


def test_pods_of_agents_and_gateway_have_no_token_and_one_would_be_of_no_use(release: Release) -> None:
    refused = [*_refused_of_all(release), Request(method="GET", path=_hivewire(release, "agentdeployments"))]
    for deployment in ("ledgers", GATEWAY):
        assert _is_there(release, deployment, "/var/run/secrets/hivewire")
        assert not _is_there(release, deployment, "/var/run/secrets/kubernetes.io")
        without = answers_of_kubernetes(release, deployment, refused, token="none")
        assert set(without.values()) <= {401, 403}, without
        token = release.kubectl("create", "token", deployment)
        assert answers_of_kubernetes(release, deployment, refused, token=token) == dict.fromkeys(refused, 403)


def test_no_container_can_write_to_its_root_or_has_a_capability(release: Release) -> None:
    pods = json.loads(release.kubectl("get", "pods", "-o", "json"))["items"]
    secured = {
        f"{pod['metadata']['name']}/{container['name']}": container["securityContext"]
        for pod in pods
        for container in pod["spec"]["containers"]
    }
    assert len(secured) >= 6
    for name, security in secured.items():
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name


def _refused_of_all(release: Release) -> list[Request]:
    """What neither the operator may do, nor anybody else."""
    own, namespace = f"/api/v1/namespaces/{release.kubectl.namespace}", release.kubectl.namespace
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    secret = _object("Secret", "stolen")
    binding = _object("RoleBinding", "mine", apiVersion="rbac.authorization.k8s.io/v1")
    return [
        Request(method="GET", path=f"{own}/secrets"),
        Request(method="GET", path=f"{own}/secrets?watch=1&timeoutSeconds=1"),
        Request(method="DELETE", path=f"{own}/secrets/hivewire-login-default?dryRun=All"),
        Request(method="GET", path="/api/v1/secrets"),
        Request(method="GET", path="/api/v1/namespaces/default/secrets/any"),
        Request(method="POST", path="/api/v1/namespaces/default/secrets?dryRun=All", body=secret),
        Request(method="PATCH", path="/api/v1/namespaces/kube-system/configmaps/any?dryRun=All", body="{}"),
        Request(method="GET", path="/api/v1/namespaces"),
        Request(method="GET", path="/api/v1/nodes"),
        Request(method="GET", path=f"{own}/pods"),
        Request(method="POST", path=f"{own}/pods?dryRun=All", body=_object("Pod", "mine")),
        Request(method="POST", path=f"{own}/pods/{NAME}-nats-0/exec?command=id&stdout=1"),
        Request(method="GET", path=f"{own}/pods/{NAME}-nats-0/log"),
        Request(method="POST", path=f"{own}/serviceaccounts/{OPERATOR}/token", body="{}"),
        Request(method="POST", path=f"{rbac}/namespaces/{namespace}/rolebindings?dryRun=All", body=binding),
        Request(method="PATCH", path=f"{rbac}/namespaces/{namespace}/roles/{OPERATOR}?dryRun=All", body="{}"),
        Request(method="GET", path=f"{rbac}/clusterroles"),
        Request(method="GET", path=f"{own}/pods", header=("Impersonate-User", "admin")),
    ]


def _refused_of_the_operator(release: Release) -> list[Request]:
    own = f"/api/v1/namespaces/{release.kubectl.namespace}"
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agentsystems.hivewire.dev"
    return [
        Request(method="GET", path=f"{own}/configmaps/{NAME}-nats"),
        Request(method="DELETE", path=_group(release, "apps/v1", "deployments/ledgers?dryRun=All")),
        Request(method="PATCH", path=_group(release, "apps/v1", f"statefulsets/{NAME}-nats?dryRun=All"), body="{}"),
        Request(method="PATCH", path=_hivewire(release, "agentdeployments/ledgers?dryRun=All"), body="{}"),
        Request(method="DELETE", path=_hivewire(release, "agentsystems/default?dryRun=All")),
        Request(method="GET", path=_group(release, "coordination.k8s.io/v1", "leases/other")),
        Request(method="GET", path="/apis/hivewire.dev/v1alpha1/agentdeployments"),
        Request(method="GET", path="/apis/hivewire.dev/v1alpha1/namespaces/default/agentsystems"),
        Request(method="PATCH", path=f"{definition}?dryRun=All", body="{}"),
    ]


def _hivewire(release: Release, what: str) -> str:
    return _group(release, "hivewire.dev/v1alpha1", what)


def _group(release: Release, group: str, what: str) -> str:
    return f"/apis/{group}/namespaces/{release.kubectl.namespace}/{what}"


def _object(kind: str, name: str, **more: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more})


def _is_there(release: Release, deployment: str, path: str) -> bool:
    return release.run(f"import os; print(os.path.exists({path!r}))", within=deployment).strip() == "True"
