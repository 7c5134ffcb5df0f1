"""What `hivewire top` makes of what was seen at two moments."""

import io
from dataclasses import replace
from math import inf

import pytest
from rich.console import Console

from hivewire.cli.top_rates import TypeRates, quantile, rates_between, summed
from hivewire.cli.top_text import as_text, duration, rate, size
from hivewire.cli.top_view import Sample, StreamSize, View, view_of
from hivewire.nats.observation import Observation, TypeObservation
from hivewire.nats.pod_numbers import PodNumbers
from hivewire.nats.session import SessionRecord
from hivewire.telemetry.type_counts import TypeCounts

QUIET = TypeObservation(
    name="quiet", kind="stateless", shards=None, shards_owned=0, lag_messages=0, oldest_event_s=None, dead_letters=0
)


def counts(events: int = 0, *, calls: int = 0, errors: int = 0, retries: int = 0, inflight: int = 0) -> TypeCounts:
    processed = {("event", "ok"): events, ("direct", "ok"): calls, ("direct", "error"): errors}
    durations = {0.01: events, 0.1: events + calls, inf: events + calls + errors}
    return TypeCounts(processed=processed, retries=retries, inflight=inflight, durations=durations)


def numbers(time_s: float, process: str = "p", left_out: int = 0, **types: TypeCounts) -> PodNumbers:
    return PodNumbers(process=process, time_s=time_s, turns_running=1, turns_free=9, types=types, left_out=left_out)


def session(name: str, *types: str) -> SessionRecord:
    return SessionRecord(session=name, deployment="d", instance=f"pod-{name}", state="serving", types=types)


def sample(*types: TypeObservation, sessions: tuple[SessionRecord, ...] = (), **told: PodNumbers) -> Sample:
    return Sample(
        observation=Observation(types=types, sessions=sessions, shards_owned={"a": 3}, dead_letters={}),
        numbers=told,
        streams=(StreamSize(name="events", messages=7, size_bytes=2048),),
    )


def test_a_rate_is_what_was_counted_over_the_clock_of_the_pod() -> None:
    found = rates_between(
        numbers(10.0, worker=counts(100, calls=10)),
        numbers(12.0, worker=counts(150, calls=14, errors=2, retries=6), newer=counts(4)),
    )
    assert found is not None
    worker = found["worker"]
    assert (worker.events_s, worker.calls_s, worker.errors_s, worker.retries_s) == (25, 3, 1, 3)
    assert worker.durations == {0.01: 50, 0.1: 54, inf: 56}
    assert found["newer"].events_s == 2


def test_there_is_no_rate_over_two_processes_or_no_time() -> None:
    assert rates_between(numbers(10.0), numbers(12.0, process="another")) is None
    assert rates_between(numbers(10.0), numbers(10.0)) is None


def test_a_type_that_was_left_out_before_has_no_rate_yet() -> None:
    assert rates_between(numbers(10.0, left_out=1), numbers(12.0, worker=counts(1_000))) == {}


def test_the_rates_of_pods_add_up() -> None:
    one, other = TypeRates(events_s=1.0), TypeRates(events_s=2.0, errors_s=1.0)
    one.durations.update({1.0: 1, inf: 2})
    other.durations.update({1.0: 3, inf: 3})
    found = summed([{"worker": one}, {"worker": other, "helper": other}])
    assert (found["worker"].events_s, found["worker"].errors_s) == (3.0, 1.0)
    assert found["worker"].durations == {1.0: 4, inf: 5}
    assert found["helper"].events_s == 2.0


@pytest.mark.parametrize(
    ("durations", "share", "expected"),
    [
        ({}, 0.99, None),
        ({1.0: 0, inf: 0}, 0.99, None),
        ({1.0: 100, inf: 100}, 0.5, 0.5),
        ({1.0: 0, 2.0: 100, inf: 100}, 0.5, 1.5),
        ({1.0: 90, 2.0: 100, inf: 100}, 0.99, 1.9),
        ({1.0: 90, 2.0: 90, 4.0: 100, inf: 100}, 0.99, 3.8),
        ({1.0: 50, 2.0: 50, inf: 100}, 0.99, 2.0),
    ],
)
def test_a_quantile_is_spread_evenly_between_two_bounds(
    durations: dict[float, int], share: float, expected: float | None
) -> None:
    found = quantile(durations, share)
    assert found == expected if expected is None else found == pytest.approx(expected)


def test_what_needs_attention_comes_first() -> None:
    def sharded(name: str, *, lag: int = 0, owned: int = 4) -> TypeObservation:
        return replace(QUIET, name=name, kind="sharded", shards=4, shards_owned=owned, lag_messages=lag)

    types = (QUIET, sharded("abandoned", lag=1, owned=3), sharded("busy"), sharded("fails"), sharded("lags", lag=9))
    told = {"busy": counts(8), "fails": counts(errors=1)}
    before = sample(*types, a=numbers(1.0))
    now = sample(*types, sessions=(session("a", "busy"),), a=numbers(2.0, **told))
    assert [row.type for row in view_of(before, now).types] == ["abandoned", "fails", "lags", "busy", "quiet"]


def test_pods_that_do_not_answer_are_shown_without_numbers() -> None:
    sessions = (session("a", "quiet"), session("b", "quiet"))
    before = sample(QUIET, a=numbers(1.0))
    now = sample(QUIET, sessions=sessions, a=numbers(2.0, quiet=counts(5, inflight=2)))
    view = view_of(before, now)
    (row,) = view.types
    assert (row.pods, row.events_s, row.inflight) == (2, 5.0, 2)
    told, silent = view.pods
    assert (told.answers, told.messages_s, told.turns_free, told.shards) == (True, 5.0, 9, 3)
    assert (silent.answers, silent.messages_s, silent.turns_free, silent.shards) == (False, None, None, 0)


def test_two_sessions_of_one_process_count_once() -> None:
    sessions = (session("a", "quiet"), session("b", "quiet"))
    before = sample(QUIET, a=numbers(1.0), b=numbers(1.0))
    after = numbers(2.0, quiet=counts(5, inflight=2))
    (row,) = view_of(before, sample(QUIET, sessions=sessions, a=after, b=after)).types
    assert (row.events_s, row.inflight) == (5.0, 2)


def test_without_a_moment_before_or_a_pod_there_are_no_rates() -> None:
    (row,) = view_of(None, sample(QUIET, sessions=(session("a"),), a=numbers(2.0, quiet=counts(5)))).types
    assert (row.events_s, row.p99_s, row.inflight) == (None, None, 0)
    assert view_of(sample(QUIET), sample(QUIET)).types[0].events_s is None


def shown(view: View, *, width: int = 200, note: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(as_text(view, "namespace n at nats://h:1", width=width, note=note))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_text_has_no_control_characters_and_no_markup() -> None:
    odd = replace(QUIET, name="[red]a\x1b[31m\nb")
    view = view_of(None, sample(odd, sessions=(replace(session("a"), instance="x\x07y"),)))
    text = "\n".join(shown(view, note="\x1b[2Jaway"))
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]a\\x1b[31m b" in text and "x\\x07y" in text and "\\x1b[2Jaway" in text


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    view = view_of(None, sample(QUIET, sessions=(session("a"),)))
    lines = shown(view, width=80)
    assert max(map(len, lines)) <= 80
    assert ["AGENT", "TYPE", "PODS", "SHARDS", "LAG", "OLDEST", "EVENTS", "CALLS", "P99", "ERRORS", "DEAD"] in [
        line.split() for line in lines
    ]
    wide = shown(view)
    assert any("RETRIES/S" in line for line in wide)
    assert lines[:2] == ["namespace n at nats://h:1: 1 agent types, 1 pods", "stored: events 7 (2.0 KiB)"]
    assert any(line.endswith("does not tell its numbers") for line in map(str.rstrip, wide))


def test_numbers_are_short() -> None:
    times = (None, 0, 0.00085, 0.0025, 0.5, 1.25, 90, 300, 10_000)
    assert [duration(each) for each in times] == ["", "0s", "850us", "2.5ms", "500ms", "1.2s", "90s", "5.0m", "3h"]
    assert [rate(each) for each in (None, 0, 0.26, 9.96, 12.3)] == ["?", "0", "0.3", "10.0", "12"]
    assert [size(each) for each in (0, 1023, 2048, 3 << 30)] == ["0 B", "1023 B", "2.0 KiB", "3.0 GiB"]
