"""Every right is used by something that agents do: one that is not is one too many."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from nats.aio.client import Client

from broker.rights import test_workers
from broker.rights.conftest import Components
from hivewire.nats.broker import Broker
from hivewire.nats.connection import Connection
from hivewire.provisioning import Permissions, Subjects, Upkeep

pytestmark = pytest.mark.slow

NOT_HERE = {
    # Laid out in the protocol for a type that nobody serves, and not used yet.
    "{ns}.wake.*",
    # Where a stream has several replicas its leader is asked.
    "$JS.API.STREAM.MSG.GET.{NS}_EVENTS",
}

EITHER_FORM = re.compile(r"\$JS\.ACK\.\*\.\*\.")
"""Which form an acknowledgement has is the server's to say, and the other one may not occur."""


class Used:
    """The subjects that each deployment published and subscribed to."""

    def __init__(self) -> None:
        self.publishes: defaultdict[str, set[str]] = defaultdict(set)
        self.subscriptions: defaultdict[str, set[str]] = defaultdict(set)

    def unused(self, permissions: Permissions, deployments: Iterable[str]) -> set[str]:
        published = {subject for each in deployments for subject in self.publishes[each]}
        subscribed = {subject for each in deployments for subject in self.subscriptions[each]}
        unused = {each for each in permissions.publish if not any(covers(each, used) for used in published)}
        return unused | {each for each in permissions.subscribe if not any(covers(each, used) for used in subscribed)}


def covers(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split(" ")[0].split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
        if len(subject.split(".")) <= len(wanted):
            return False
    return len(wanted) == len(tokens) and all(a in ("*", b) for a, b in zip(wanted, tokens, strict=True))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[Used]:
    used = Used()
    publish, subscribe = Connection.publish, Connection.subscribe

    async def note_publish(self: Broker, subject: str, *arguments: Any, **options: Any) -> None:
        used.publishes[deployment_of(self)].add(subject)
        await publish(self, subject, *arguments, **options)

    async def note_subscribe(self: Broker, subject: str, *arguments: Any, **options: Any) -> Any:
        used.subscriptions[deployment_of(self)].add(subject)
        return await subscribe(self, subject, *arguments, **options)

    monkeypatch.setattr(Connection, "publish", note_publish)
    monkeypatch.setattr(Connection, "subscribe", note_subscribe)
    yield used


def deployment_of(broker: Broker) -> str:
    return broker._inbox.split(".")[2]


def left_over(used: Used, all_permissions: list[Permissions], subjects: Subjects, *deployments: str) -> set[str]:
    """Return the rights that nobody of these used, without the names of types and deployments."""
    forms: dict[str, bool] = {}
    for permissions in all_permissions:
        unused = used.unused(permissions, deployments)
        for right in (*permissions.publish, *permissions.subscribe):
            form = form_of(right, permissions, subjects)
            forms[form] = forms.get(form, False) or right not in unused
    return {form for form, is_used in forms.items() if not is_used and not EITHER_FORM.match(form)} - NOT_HERE


def form_of(right: str, permissions: Permissions, subjects: Subjects) -> str:
    """Name a right by what it is for."""
    types = {each.split(" ")[1] for each in permissions.subscribe if " " in each}
    deployment = permissions.inbox_prefix.rpartition(".")[2]
    names = {**dict.fromkeys(types, "{type}"), deployment: "{deployment}", "web": "{deployment}"}
    right = right.replace(subjects.namespace, "{ns}").replace(subjects.namespace.upper(), "{NS}")
    return ".".join(names.get(token, token) for token in right.split(" ")[0].split("."))


async def test_of_a_worker(
    used: Used, upkeep: Upkeep, components: Components, root: Client, subjects: Subjects
) -> None:
    # What it forwards, no worker does.
    await upkeep._forwarder.stop()
    shop = await test_workers.new_shop(components)
    await test_workers.test_calls_events_and_states(shop)
    await test_workers.test_two_deployments_call_each_other(shop, components)
    await test_workers.test_streams_resumable_too(shop, components)
    await test_workers.test_schedules_are_made_fired_listed_and_cancelled(shop, components)
    await test_workers.test_an_event_that_fails_goes_to_the_dead_letters(shop, components, root)
    await test_workers.test_a_stateless_type_of_two_pods(shop, components)
    await test_workers.test_a_registered_instance(shop, components)
    await test_workers.test_a_call_is_cancelled_on_the_other_side(shop, components)
    await test_workers.test_what_a_pod_left_that_died_is_taken_over(shop, components)
    await test_workers.test_a_resumable_stream_that_pauses_is_asked_for(shop, components)
    await test_workers.test_shards_move_between_two_pods_and_a_running_turn_is_waited_for(shop, components)
    assert left_over(used, components.minted, subjects, "shop", "bank", "crowd") == set()
