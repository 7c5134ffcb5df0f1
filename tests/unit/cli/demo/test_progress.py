"""Counting what the processes of the demo did."""

import pytest

from hivewire.cli.demo.messages import FileReview
from hivewire.cli.demo.progress import Progress, measured


def review(path: str, process: str = "reviewer-1", *, answered_after_ms: list[float] | None = None) -> FileReview:
    return FileReview(
        path=path,
        process=process,
        lines=10,
        functions=1,
        findings={"todo": 2, "long": 1},
        examples={},
        answered_after_ms=answered_after_ms or [],
    )


def test_the_work_of_each_process_is_counted() -> None:
    progress = Progress(files=3, pids={})
    progress.add(review("a", answered_after_ms=[1.0, 2.0]))
    progress.add(review("b", "reviewer-2"))
    progress.add(review("c"))
    first, second = progress.work["reviewer-1"], progress.work["reviewer-2"]
    assert (first.files, first.findings, first.questions, first.last_file) == (2, 6, 2, "c")
    assert (second.files, second.findings, second.questions, second.last_file) == (1, 3, 0, "b")
    assert (progress.reviewed, progress.came_twice) == (3, 0)


def test_a_review_that_comes_again_is_not_counted_again_but_noted() -> None:
    progress = Progress(files=1, pids={})
    progress.add(review("a"))
    progress.add(review("a", "reviewer-2"))
    assert (progress.reviewed, progress.came_twice) == (1, 1)


def test_the_numbers_are_those_of_all_answers() -> None:
    progress = Progress(files=1, pids={})
    progress.add(review("a", answered_after_ms=[float(number) for number in range(1, 102)]))
    numbers = measured(progress, 2.0)
    assert (numbers.events, numbers.direct_messages, numbers.per_second) == (2, 101, 51.5)
    assert (numbers.p50_ms, numbers.p99_ms) == (pytest.approx(51), pytest.approx(100))


@pytest.mark.parametrize(("answers", "p50"), [([], 0.0), ([3.0], 3.0), ([3.0, 5.0], 4.0)])
def test_few_answers_have_numbers_too(answers: list[float], p50: float) -> None:
    progress = Progress(files=1, pids={})
    progress.add(review("a", answered_after_ms=answers))
    assert measured(progress, 1.0).p50_ms == p50
