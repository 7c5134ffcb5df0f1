"""Delivery policies of subscriptions."""

import json
from typing import Any

import pytest

from hivewire import RetryPolicy
from hivewire.nats.delivery import DeliveryPolicy, delivery_of, with_delivery
from hivewire.nats.registry import TypeRecord
from hivewire.nats.topic_filters import TopicFilter

EXACT = TopicFilter(kind="exact", value="order.paid")
LONG = TopicFilter(kind="prefix", value="order.")
SHORT = TopicFilter(kind="prefix", value="o")
POLICIES = {topics: DeliveryPolicy(attempts=n) for n, topics in enumerate([SHORT, EXACT, LONG], 1)}


def test_the_most_specific_subscription_that_matches_decides() -> None:
    record = TypeRecord(name="t")
    for topics, policy in POLICIES.items():
        record = record.add(topics).deliver(topics, policy)
    for topic_type, topics in {"order.paid": EXACT, "order.paid.late": LONG, "other": SHORT}.items():
        assert delivery_of(record.deliveries, topic_type) == POLICIES[topics]
    assert delivery_of(record.deliveries, "a") is None


def test_what_is_left_out_is_as_the_class_says() -> None:
    of_class = RetryPolicy(attempts=9, first_delay_s=1, factor=3, final=(KeyError,))
    assert DeliveryPolicy().retries(of_class) == of_class
    changed = DeliveryPolicy(attempts=2, max_delay_s=0).retries(of_class)
    assert changed == RetryPolicy(attempts=2, first_delay_s=1, factor=3, max_delay_s=0, final=(KeyError,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"first_delay_s": -1},
        {"max_delay_s": float("inf")},
        {"max_delay_s": float("nan")},
        {"first_delay_s": 2, "max_delay_s": 1},
        {"timeout_s": 0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DeliveryPolicy(**wrong)


def test_a_record_keeps_policies_and_one_without_any_reads_as_before() -> None:
    bare = TypeRecord(name="t").add(EXACT)
    assert "delivery" not in json.loads(bare.to_json())
    policy = DeliveryPolicy(attempts=3, timeout_s=1.5, dead_letters=False)
    record = bare.deliver(EXACT, policy)
    assert json.loads(record.to_json())["delivery"] == {
        "exact:order.paid": {"attempts": 3, "timeout_s": 1.5, "dead_letters": False}
    }
    assert TypeRecord.from_json(record.to_json()) == record


def test_a_policy_alone_is_no_change_that_takes_a_marker_and_goes_with_its_subscription() -> None:
    bare = TypeRecord(name="t").add(EXACT)
    record = bare.deliver(EXACT, DeliveryPolicy(attempts=3))
    assert record.change == bare.change
    assert record.add(EXACT) == record
    assert record.declare([EXACT, LONG]).deliveries == record.deliveries
    assert record.deliver(EXACT, None) == bare
    assert record.remove(EXACT).deliveries == ()


def test_a_policy_takes_the_place_of_the_one_before() -> None:
    once = with_delivery((), EXACT, DeliveryPolicy(attempts=1))
    assert with_delivery(once, EXACT, DeliveryPolicy(attempts=2)) == ((EXACT, DeliveryPolicy(attempts=2)),)
