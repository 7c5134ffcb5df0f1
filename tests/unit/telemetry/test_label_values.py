"""Labels whose values others choose."""

from hivewire.telemetry.label_values import LabelValues


def test_only_the_first_values_are_told_apart() -> None:
    values = LabelValues(2)
    assert [values.of(value) for value in ("a", "b", "c", "a", "d", "b")] == ["a", "b", "other", "a", "other", "b"]


def test_a_value_that_would_break_the_page_is_not_shown() -> None:
    values = LabelValues(2)
    assert values.of("\ud800") == "other"
    assert [values.of(value) for value in ("a", "")] == ["a", ""]
