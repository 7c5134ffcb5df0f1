"""When the handler of a stream counts as gone."""

from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.stream_pulse import AWAY_S, SILENT_S, Pulse, PulseWatch


def test_a_handler_is_gone_when_nobody_answers_for_some_seconds() -> None:
    watch = PulseWatch()
    assert not watch.hear("nobody", 100.0, begun=True)
    assert not watch.hear("nobody", 100.0 + AWAY_S / 2, begun=True)
    assert watch.hear("nobody", 100.0 + AWAY_S, begun=True)


def test_one_sign_of_life_begins_the_wait_anew() -> None:
    watch = PulseWatch()
    watch.hear("nobody", 100.0, begun=True)
    assert not watch.hear("running", 101.0, begun=True)
    assert not watch.hear("nobody", 100.0 + AWAY_S, begun=True)
    watch.reset()
    assert not watch.hear("nobody", 100.0 + 2 * AWAY_S, begun=True)


def test_a_caller_without_a_worker_counts_until_the_handler_has_begun() -> None:
    watch = PulseWatch()
    assert not any(watch.hear("calling", now, begun=False) for now in range(100))
    assert not watch.hear("calling", 100.0, begun=True)
    assert watch.hear("calling", 100.0 + AWAY_S, begun=True)


def test_a_process_that_does_not_get_to_answer_is_waited_for_longer() -> None:
    watch = PulseWatch()
    assert not watch.hear("silence", 100.0, begun=True)
    assert not watch.hear("silence", 100.0 + SILENT_S - 1, begun=True)
    assert watch.hear("silence", 100.0 + SILENT_S, begun=True)


@given(st.lists(st.tuples(st.sampled_from(["running", "nobody", "silence"]), st.floats(0.1, 5.0)), max_size=50))
def test_a_handler_that_answers_at_least_every_few_seconds_is_never_gone(heard: list[tuple[Pulse, float]]) -> None:
    watch = PulseWatch()
    now = answered = 0.0
    for pulse, pause in heard:
        answer: Pulse = "running" if now + pause - answered >= AWAY_S else pulse
        now += pause
        assert not watch.hear(answer, now, begun=True)
        if answer == "running":
            answered = now
