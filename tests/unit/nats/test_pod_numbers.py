"""A pod's answer to the question what it has counted."""

import json
from math import inf

import pytest

from hivewire.exceptions import UnsupportedFormatError
from hivewire.nats.pod_numbers import PodNumbers, own_numbers
from hivewire.telemetry import metrics
from hivewire.telemetry.type_counts import TypeCounts


def numbers(*types: str, busy: int = 5) -> PodNumbers:
    counts = {
        name: TypeCounts(
            processed={("event", "ok"): busy + place}, retries=1, inflight=2, durations={0.1: 3, inf: busy + place}
        )
        for place, name in enumerate(types)
    }
    return PodNumbers(process="p", time_s=1.5, turns_running=3, turns_free=None, types=counts)


def test_an_answer_is_read_as_it_was_written() -> None:
    sent = numbers("a", "b")
    assert PodNumbers.from_json(sent.to_json(limit_bytes=10_000)) == sent


def test_those_that_did_the_least_are_left_out_of_an_answer_that_would_be_too_long() -> None:
    sent = numbers(*(f"type{number:03}" for number in range(200)))
    payload = sent.to_json(limit_bytes=4_000)
    assert 2_000 < len(payload) <= 4_000
    read = PodNumbers.from_json(payload)
    assert read.left_out + len(read.types) == 200
    assert set(read.types) == {f"type{number:03}" for number in range(200 - len(read.types), 200)}
    assert PodNumbers.from_json(sent.to_json(limit_bytes=1)).left_out == 200


def test_an_answer_of_a_newer_version_or_another_thing_is_refused() -> None:
    data = json.loads(numbers("a").to_json(limit_bytes=10_000))
    with pytest.raises(UnsupportedFormatError):
        PodNumbers.from_json(json.dumps({**data, "format": 99}).encode())
    with pytest.raises(KeyError):
        PodNumbers.from_json(b"{}")


def test_a_process_tells_what_it_counted_in_the_namespace_that_it_is_asked_for(namespace: str) -> None:
    metrics.MESSAGES_PROCESSED.labels(namespace, "a", "event", "ok").inc(2)
    metrics.MESSAGES_PROCESSED.labels("another", "b", "event", "ok").inc()
    metrics.MESSAGE_RETRIES.labels(namespace, "a").inc(3)
    metrics.INFLIGHT_MESSAGES.labels(namespace, "a").set(4)
    metrics.MESSAGE_PROCESS_DURATION.labels(namespace, "a").observe(0.02)
    metrics.HANDLER_SLOTS.labels(namespace, "used").set(5)
    found = own_numbers(namespace)
    assert (found.turns_running, found.turns_free, set(found.types)) == (5, None, {"a"})
    counts = found.types["a"]
    assert (counts.processed, counts.retries, counts.inflight) == ({("event", "ok"): 2}, 3, 4)
    assert (counts.durations[0.01], counts.durations[0.025], counts.durations[inf]) == (0, 1, 1)
    assert own_numbers(namespace).process == found.process
    assert own_numbers(namespace).time_s >= found.time_s
