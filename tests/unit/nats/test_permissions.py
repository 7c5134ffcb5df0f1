"""What each component is allowed, as text; that it is enough, and no more, is seen on a server."""

from pathlib import Path

import pytest

from hivewire.nats.permissions import (
    GATEWAY,
    Permissions,
    admin_permissions,
    gateway_permissions,
    operator_permissions,
    worker_permissions,
)
from hivewire.nats.registry import TypeShape
from hivewire.nats.subjects import Subjects

NS = Subjects("default")
GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "connections.md"
SHARDED, STATELESS = TypeShape(kind="sharded", shards=16), TypeShape(kind="stateless", shards=1)
WORKER = worker_permissions(NS, deployment="shop.eu", types={"my.type": SHARDED, "crunch": STATELESS})


@pytest.mark.parametrize(
    "permissions",
    [
        WORKER,
        gateway_permissions(NS),
        gateway_permissions(NS, types={"a": SHARDED}),
        operator_permissions(NS),
        admin_permissions(NS),
    ],
)
def test_nobody_is_allowed_a_whole_tree_but_of_names_of_its_own(permissions: Permissions) -> None:
    for right in (*permissions.publish, *permissions.subscribe):
        assert len(right.split(".")) > 2 or right == "_INBOX.>", right
        assert not right.startswith(("$SYS", "*", ">", "$JS.API.>", "$KV.*", "$KV.>")), right
    assert f"{permissions.inbox_prefix}.>" in permissions.subscribe


def test_names_are_written_as_tokens() -> None:
    assert "$KV.default_state.my=2Etype.*" in WORKER.publish
    assert "$KV.default_leases.shop=2Eeu.*" in WORKER.publish
    assert "default.rpc.my=2Etype.> my=2Etype" in WORKER.subscribe
    assert WORKER.inbox_prefix == "_INBOX.default.shop=2Eeu"


def test_a_stateless_type_keeps_nothing_and_acknowledges() -> None:
    of_type = {right for right in WORKER.publish if ".crunch" in right}
    assert of_type == {
        "$KV.default_registry.crunch.*",
        "default.marker.crunch",
        "default.dead.crunch.*.*",
        "$JS.ACK.DEFAULT_EVENTS.crunch.>",
        "$JS.ACK.*.*.DEFAULT_EVENTS.crunch.>",
    }


def test_consumers_of_stateless_types_are_made_by_nobody_else_and_read_by_their_own_deployments() -> None:
    worker = worker_permissions(NS, deployment="shop", types={"crunch": STATELESS}, stateless=["munch", "crunch"])
    assert set(worker.publish_denied) == {
        "$JS.API.CONSUMER.CREATE.DEFAULT_EVENTS.crunch",
        "$JS.API.CONSUMER.CREATE.DEFAULT_EVENTS.munch",
        "$JS.API.CONSUMER.MSG.NEXT.DEFAULT_EVENTS.munch",
    }


def test_a_gateway_may_do_what_a_worker_of_its_types_may_and_delete_its_readers() -> None:
    types = {"my.type": SHARDED, "crunch": STATELESS}
    gateway = gateway_permissions(NS, types=types, worker_deployments=["shop.eu"])
    assert {*gateway.publish} - {*WORKER.publish} == {"$JS.API.CONSUMER.DELETE.DEFAULT_EVENTS.*"}
    assert {*gateway.subscribe} - {*WORKER.subscribe} == {"_INBOX.default._gateway.>"}
    without = gateway_permissions(NS)
    assert {*without.publish} < {*gateway.publish}
    assert without.subscribe == (f"_INBOX.default.{GATEWAY}.>", "default.pulse.*")


def test_two_types_of_one_deployment_share_all_other_rights() -> None:
    one, two = (worker_permissions(NS, deployment="shop", types=dict.fromkeys(names, SHARDED)) for names in ("a", "ab"))
    assert len(two.publish) - len(one.publish) == 6


def test_they_are_the_claims_of_a_user() -> None:
    assert WORKER.claims() == {
        "pub": {"allow": list(WORKER.publish), "deny": list(WORKER.publish_denied)},
        "sub": {"allow": list(WORKER.subscribe)},
    }
    assert "deny" not in gateway_permissions(NS).claims()["pub"]


@pytest.mark.parametrize(
    ("heading", "permissions"),
    [
        (
            "What a worker may do",
            worker_permissions(NS, deployment="shop", types={"cart": SHARDED, "mail": STATELESS}, stateless=["crunch"]),
        ),
        ("What a gateway may do", gateway_permissions(NS, stateless=["crunch", "mail"])),
        ("What an administrator may do", admin_permissions(NS, stateless=["crunch", "mail"])),
        ("What the operator may do", operator_permissions(NS)),
    ],
)
def test_the_guide_lists_them(heading: str, permissions: Permissions) -> None:
    section = GUIDE.read_text().split(f"### {heading}\n")[1].split("\n### ")[0]
    listed = [block.split("\n```")[0].split("\n") for block in section.split("```nats\n")[1:]]
    expected = [permissions.publish, permissions.publish_denied, permissions.subscribe]
    assert listed == [list(each) for each in expected if each]
