from collections.abc import Mapping
from typing import Any

import pytest

from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import TopicFilter
from hivewire.nats.topology import PLAN_KEY, PLAN_VERSION, StatelessConsumer, Topology, difference, plan

SUBJECTS = Subjects("default")
NOTHING = Topology(streams={}, consumers={})
CRUNCH = StatelessConsumer(
    agent_type="crunch",
    filters=(TopicFilter(kind="prefix", value="task."), TopicFilter(kind="exact", value="task.a")),
)


def as_live(topology: Topology, changes: Mapping[str, Any] | None = None, *, of: str = "DEFAULT_EVENTS") -> Topology:
    """The topology as the server reports it: with settings and metadata of its own, and some changes to one stream."""
    filled = {"max_msgs": -1, "max_bytes": -1, "compression": "none", "sealed": False, "consumer_limits": {}}
    added = {"_nats.ver": "2.15.1", "_nats.level": "5", "_nats.req.level": "0"}
    streams = {
        name: {**filled, **config, "metadata": {**added, **config["metadata"]}}
        for name, config in topology.streams.items()
    }
    for config in streams.values():
        if not config.get("allow_direct"):
            config.pop("allow_direct", None)
    streams[of] = {**streams[of], **(changes or {})}
    consumers = {
        name: {**config, "max_waiting": 512, "metadata": {**added, **config["metadata"]}}
        for name, config in topology.consumers.items()
    }
    return Topology(streams=streams, consumers=consumers)


def test_a_namespace_has_four_streams_and_four_buckets() -> None:
    topology = plan(SUBJECTS, replicas=3)
    assert list(topology.streams) == [
        "DEFAULT_SCHEDULES",
        "DEFAULT_DEAD",
        "DEFAULT_CHUNKS",
        "KV_default_state",
        "KV_default_registry",
        "KV_default_leases",
        "KV_default_positions",
        "DEFAULT_EVENTS",
    ]
    assert all(config["num_replicas"] == 3 for config in topology.streams.values())
    assert list(topology.consumers) == [("DEFAULT_SCHEDULES", "forward")]


def test_the_event_stream_refuses_what_does_not_fit_and_lets_many_readers_in() -> None:
    config = plan(SUBJECTS, duplicate_window_s=60, events_max_bytes=1_000_000).streams["DEFAULT_EVENTS"]
    assert config["subjects"] == ["default.event.*.>", "default.inbox.>", "default.marker.*"]
    assert config["discard"] == "new"
    assert config["max_consumers"] == 100_000
    assert config["max_bytes"] == 1_000_000
    assert config["duplicate_window"] == 60_000_000_000
    assert config["subject_transform"] == {
        "src": "default.event.*.>",
        "dest": "default.events.{{partition(16,1)}}.{{partition(256,1)}}.{{wildcard(1)}}.>",
    }


def test_no_stream_captures_direct_messages() -> None:
    captured = [subject for config in plan(SUBJECTS).streams.values() for subject in config["subjects"]]
    for prefix in ("default.rpc.", "default.cancel.", "default.pod.", "default.wake.", "default.>", ">"):
        assert not any(subject.startswith(prefix) for subject in captured)


def test_schedules_have_no_age_and_leases_have_delete_markers() -> None:
    streams = plan(SUBJECTS).streams
    assert streams["DEFAULT_SCHEDULES"]["max_age"] == 0
    assert streams["DEFAULT_SCHEDULES"]["discard"] == "old"
    assert streams["KV_default_leases"]["allow_msg_ttl"] is True
    assert streams["KV_default_leases"]["subject_delete_marker_ttl"] == 60_000_000_000


def test_a_stateless_type_has_one_durable_consumer_of_its_topics_and_its_inbox() -> None:
    config = plan(SUBJECTS, stateless=[CRUNCH]).consumers["DEFAULT_EVENTS", "crunch"]
    assert config["filter_subjects"] == ["default.events.*.*.*.task.>", "default.inbox.crunch.*.*.*"]
    assert (config["ack_policy"], config["ack_wait"]) == ("explicit", 30_000_000_000)


def test_what_is_missing_is_created_streams_first_and_that_of_events_last_among_them() -> None:
    desired = plan(SUBJECTS, stateless=[CRUNCH])
    changes = difference(desired, NOTHING)
    assert [change.action for change in changes] == ["create"] * 10
    assert [change.consumer for change in changes] == [None] * 8 + ["forward", "crunch"]
    assert str(changes[7]) == "create stream DEFAULT_EVENTS"
    assert changes[7].request() == ("$JS.API.STREAM.CREATE.DEFAULT_EVENTS", desired.streams["DEFAULT_EVENTS"])
    assert changes[-1].request() == (
        "$JS.API.CONSUMER.CREATE.DEFAULT_EVENTS.crunch",
        {
            "stream_name": "DEFAULT_EVENTS",
            "action": "create",
            "config": desired.consumers["DEFAULT_EVENTS", "crunch"],
        },
    )


def test_what_the_server_adds_is_no_difference() -> None:
    desired = plan(SUBJECTS, stateless=[CRUNCH])
    assert difference(desired, as_live(desired)) == []


def test_the_order_of_subjects_is_no_difference() -> None:
    desired = plan(SUBJECTS)
    live = as_live(desired, {"subjects": list(reversed(desired.streams["DEFAULT_EVENTS"]["subjects"]))})
    assert difference(desired, live) == []


def test_a_difference_is_an_update_that_keeps_what_was_set_by_hand() -> None:
    desired = plan(SUBJECTS)
    metadata = {"_nats.ver": "2.15.1", "owner": "ops", PLAN_KEY: str(PLAN_VERSION)}
    live = as_live(desired, {"max_consumers": 1000, "max_bytes": 5_000, "metadata": metadata})
    (change,) = difference(desired, live)
    assert (change.action, change.settings) == ("update", ("max_consumers",))
    assert str(change) == "update stream DEFAULT_EVENTS: max_consumers"
    subject, config = change.request()
    assert subject == "$JS.API.STREAM.UPDATE.DEFAULT_EVENTS"
    assert config["max_consumers"] == 100_000
    assert config["max_bytes"] == 5_000
    assert config["metadata"] == {"owner": "ops", PLAN_KEY: str(PLAN_VERSION)}


def test_new_topics_of_a_stateless_type_update_its_consumer() -> None:
    live = as_live(plan(SUBJECTS, stateless=[StatelessConsumer(agent_type="crunch")]))
    (change,) = difference(plan(SUBJECTS, stateless=[CRUNCH]), live)
    assert (change.consumer, change.settings) == ("crunch", ("filter_subjects",))
    assert change.request()[1]["action"] == "update"


def test_a_stateless_type_that_is_not_planned_keeps_its_consumer() -> None:
    assert difference(plan(SUBJECTS), as_live(plan(SUBJECTS, stateless=[CRUNCH]))) == []


@pytest.mark.parametrize("version", ["", "0", "garbage", "-1"])
def test_an_older_plan_is_brought_up_to_date(version: str) -> None:
    desired = plan(SUBJECTS)
    (change,) = difference(desired, as_live(desired, {"metadata": {PLAN_KEY: version}}))
    assert change.settings == ("metadata",)
    assert change.config["metadata"] == {PLAN_KEY: str(PLAN_VERSION)}


def test_a_newer_plan_is_never_undone() -> None:
    desired = plan(SUBJECTS)
    newer = {"metadata": {PLAN_KEY: str(PLAN_VERSION + 1)}, "max_consumers": 5, "storage": "memory"}
    assert difference(desired, as_live(desired, newer)) == []


def test_replicas_are_raised_and_never_lowered() -> None:
    three, one = plan(SUBJECTS, replicas=3), plan(SUBJECTS, replicas=1)
    assert difference(one, as_live(three)) == []
    raised = difference(three, as_live(one))
    assert [change.settings for change in raised] == [("num_replicas",)] * 8
    assert all(change.config["num_replicas"] == 3 for change in raised)


@pytest.mark.parametrize("changes", [{"storage": "memory"}, {"retention": "workqueue", "discard": "old"}])
def test_what_can_not_be_changed_is_reported_as_a_conflict(changes: dict[str, str]) -> None:
    desired = plan(SUBJECTS)
    (change,) = difference(desired, as_live(desired, changes))
    assert change.action == "conflict"
    assert change.settings == (next(iter(changes)),)
    with pytest.raises(ValueError, match=r"stream DEFAULT_EVENTS has another .* can't be changed: delete it"):
        change.request()


def test_a_consumer_that_can_not_be_changed_is_reported_as_a_conflict() -> None:
    desired = plan(SUBJECTS, stateless=[CRUNCH])
    live = as_live(desired)
    name = ("DEFAULT_EVENTS", "crunch")
    consumers = {**live.consumers, name: {**live.consumers[name], "ack_policy": "none"}}
    (change,) = difference(desired, Topology(streams=live.streams, consumers=consumers))
    assert str(change).startswith("consumer crunch of DEFAULT_EVENTS has another ack_policy than planned")
