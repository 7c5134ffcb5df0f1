"""The agents of the demo in one process."""

import asyncio
from pathlib import Path

from hivewire import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, event, type_subscription
from hivewire.cli.demo.agents import (
    COORDINATOR,
    DICTIONARY,
    MAX_FILE_BYTES,
    REPORTER,
    REVIEWER,
    Coordinator,
    Dictionary,
    Reporter,
    Reviewer,
)
from hivewire.cli.demo.messages import FileReview, HowFar, LookUp, Report, StartReview, Usage, WaitForReport


@type_subscription("review")
class Observer(RoutedAgent):
    def __init__(self, reviews: list[FileReview]) -> None:
        super().__init__("Observes")
        self._reviews = reviews

    @event
    async def seen(self, message: FileReview, ctx: MessageContext) -> None:
        self._reviews.append(message)


async def review_all(folder: Path) -> tuple[Report, dict[str, str], list[FileReview]]:
    """Review a folder; return the report, what is left out, and the reviews."""
    reviews: list[FileReview] = []
    runtime = SingleThreadedAgentRuntime(serialize_messages=True)
    room, parser = asyncio.Semaphore(2), asyncio.Lock()
    await Coordinator.register(runtime, COORDINATOR.type, Coordinator)
    await Dictionary.register(runtime, DICTIONARY, Dictionary)
    await Reviewer.register(runtime, REVIEWER, lambda: Reviewer("here", room, parser))
    await Reporter.register(runtime, REPORTER.type, Reporter)
    await Observer.register(runtime, "observer", lambda: Observer(reviews))
    runtime.start()
    files = sorted(path.name for path in folder.iterdir())
    async with asyncio.timeout(20):
        started = await runtime.send_message(StartReview(str(folder), files), COORDINATOR)
        report = await runtime.send_message(WaitForReport(started.files), REPORTER)
        assert await runtime.send_message(HowFar(), REPORTER) == started.files
        assert await runtime.send_message(LookUp("nothing"), AgentId(DICTIONARY, "n")) == Usage("nothing", 0)
        await runtime.stop_when_idle()
    return report, started.left_out, reviews


async def test_a_folder_is_reviewed_and_summed_up(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def read_data():\n    # TODO\n    pass\n")
    (tmp_path / "b.py").write_text('def recieve_data():\n    """Fine."""\n    return read_data()\n')
    report, left_out, reviews = await review_all(tmp_path)
    assert left_out == {}
    assert report == Report(
        files=2,
        lines=8,
        functions=2,
        findings={"docstring": 1, "todo": 1, "word": 1},
        examples={
            "docstring": "a.py:1 read_data has no docstring",
            "todo": "a.py:2 TODO",
            "word": "b.py:1 'recieve' in recieve_data",
        },
        most_findings=[("a.py", 2), ("b.py", 1)],
    )
    assert sorted((review.path, review.process, len(review.answered_after_ms)) for review in reviews) == [
        ("a.py", "here", 2),
        ("b.py", "here", 2),
    ]


async def test_files_that_can_not_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "latin.py").write_bytes("# é\n".encode("latin-1"))
    (tmp_path / "declared.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"))
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    report, left_out, _ = await review_all(tmp_path)
    assert report.files == 1
    assert sorted(left_out) == ["gone.py", "large.py", "latin.py"]
    assert "larger than 300 kB" in left_out["large.py"]


async def test_a_folder_of_nothing_readable_has_an_empty_report(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"\xff\xfe")
    report, left_out, _ = await review_all(tmp_path)
    assert (report.files, report.findings, report.most_findings, len(left_out)) == (0, {}, [], 1)


async def test_a_file_of_very_many_findings_has_a_short_review(tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text("".join(f"def f{number}(): ...\n" for number in range(10_000)))
    report, _, reviews = await review_all(tmp_path)
    assert report.findings["docstring"] == 10_000
    assert len(str(reviews[0])) < 10_000
