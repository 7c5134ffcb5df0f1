"""What the demo shows, on a terminal and elsewhere."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hivewire.cli.demo.display import Display, command_name, progress_table
from hivewire.cli.demo.messages import FileReview, Report, Started
from hivewire.cli.demo.progress import Progress, measured
from hivewire.cli.demo.sources import Sources

PIDS = {"coordinator": 11, "reviewer-1": 12, "reviewer-2": 13, "reporter": 14}


def some_progress() -> Progress:
    progress = Progress(files=2, pids=PIDS, published=2, summed_up=1)
    progress.add(
        FileReview(
            path="[red]a\x1b.py",
            process="reviewer-2",
            lines=1,
            functions=1,
            findings={"todo": 1},
            examples={},
            answered_after_ms=[1.0],
        )
    )
    return progress


def test_the_table_tells_which_process_handled_what() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(progress_table(some_progress()))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["coordinator", "11", "2", "files", "published", "1", "answered"] in lines
    assert ["reviewer-1", "12", "0", "files,", "0", "findings", "0", "sent"] in lines
    assert ["reviewer-2", "13", "1", "files,", "1", "findings", "1", "sent", "[red]a\\x1b.py"] in lines
    assert ["reporter", "14", "1", "of", "2", "reviews"] in lines


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display, progress = Display(), some_progress()
    display.introduce(Sources(folder=Path("/some/[bold]folder"), files=("a.py", "b.py"), found=5))
    with display.live(progress):
        display.update(progress)
        display.update(progress)
    shown = capsys.readouterr().out
    assert "Four processes review 2 Python files (the first of 5; --limit takes more) in /some/[bold]folder." in shown
    assert shown.count("1 of 2 files reviewed: reviewer-1 0, reviewer-2 1\n") == 1
    assert "\x1b" not in shown


def test_the_conclusion_has_report_numbers_and_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    progress = some_progress()
    report = Report(
        files=1,
        lines=1_000,
        functions=3,
        findings={"todo": 1},
        examples={"todo": "a.py:1 TODO [later]"},
        most_findings=[("a.py", 1)],
    )
    started = Started(1, {f"{number}.py": "too large" for number in range(5)})
    Display().conclude(started, report, measured(progress, 0.5), progress)
    shown = capsys.readouterr().out
    assert "Every file was reviewed once" in shown
    assert "The report: 1 file, 1,000 lines, 3 functions" in shown
    assert "1  TODO comments   e.g. a.py:1 TODO [later]" in shown
    assert "Left out: 0.py: too large" in shown and "Left out: 2 more" in shown
    assert "The numbers: 3 messages in 0.5 s, 6 a second" in shown
    assert "Try next" in shown


def test_a_file_that_was_reviewed_twice_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    progress = some_progress()
    progress.seen["[red]a\x1b.py"] += 1
    report = Report(files=1, lines=1, functions=0, findings={}, examples={}, most_findings=[])
    Display().conclude(Started(1), report, measured(progress, 0.5), progress)
    shown = capsys.readouterr().out
    assert "reviewed once" not in shown and "0  findings" in shown


def test_the_command_is_named_as_it_can_be_called_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv/bin/hivewire"), "demo"])
    assert command_name() == ".venv/bin/hivewire"
    monkeypatch.setattr("sys.argv", ["/somewhere/hivewire/__main__.py", "demo"])
    assert command_name() == "python -m hivewire"
    script = tmp_path / "hivewire"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_name() == "hivewire"
