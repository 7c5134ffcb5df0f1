"""What the demo shows: an introduction, a live table or plain lines, the report, the numbers, and what to try next."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hivewire.cli.demo.agents import IN_FLIGHT
from hivewire.cli.demo.messages import Report, Started
from hivewire.cli.demo.progress import Numbers, Progress
from hivewire.cli.demo.review import KINDS
from hivewire.cli.demo.sources import Sources
from hivewire.cli.errors import one_line

_PIPED_WIDTH = 120
_PLAIN_STEPS = 4
_LEFT_OUT_SHOWN = 3


class Display:
    """Writes to standard output: a table that changes in place on a terminal, else a line now and then."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)
        self._live: Live | None = None
        self._shown_steps = -1

    def introduce(self, sources: Sources) -> None:
        """Say what is going to happen."""
        files = _counted(len(sources.files), "Python file")
        if sources.found > len(sources.files):
            files += f" (the first of {sources.found}; --limit takes more)"
        self._print(f"[bold]Four processes review {files}[/bold] in {{}}.\n", sources.folder)

    def broker_runs(self, url: str, namespace: str) -> None:
        self._print(f"1. A real NATS server with JetStream runs for this demo, at {url}.")
        self._print("2. Each process is started by `hivewire run`, as a pod on Kubernetes would be:")
        self._print("   the coordinator, two replicas of a reviewer, and a reporter.")
        self._print(f"   (While it runs: {command_name()} ps --broker {url} --namespace {namespace})")

    def processes_run(self) -> None:
        self._print("3. The coordinator publishes each file as an event. The file's path is the key of its reviewer,")
        self._print("   and the two replicas share the keys: each file has one reviewer, in one of the two processes.")
        self._print("4. A reviewer parses its file, and asks the dictionary, which is another agent, by direct message")
        self._print("   how common the words in its names are. It publishes what it finds; the reporter sums up.\n")

    @contextmanager
    def live(self, progress: Progress) -> Iterator[None]:
        """Show the progress while the block runs; `update` it."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=lambda: progress_table(progress), refresh_per_second=8) as live:
            self._live = live
            yield

    def update(self, progress: Progress) -> None:
        """Show how far it is, where there is no table that does so by itself."""
        if self._live is not None:
            return
        steps = _PLAIN_STEPS * progress.reviewed // max(progress.files, 1)
        if steps > self._shown_steps:
            self._shown_steps = steps
            shares = ", ".join(f"{name} {work.files}" for name, work in progress.work.items())
            self._print(f"{progress.reviewed} of {progress.files} files reviewed: {shares}")

    def conclude(self, started: Started, report: Report, numbers: Numbers, progress: Progress) -> None:
        """Show the report, the numbers, and what to try next."""
        if self._live is None:
            self._console.print(progress_table(progress))
        if progress.reviewed and not progress.came_twice:
            self._print("\nEvery file was reviewed once, in the process that has its key.")
        self._report(started, report)
        self._numbers(numbers)
        self._print("\n[bold]Try next[/bold]")
        self._print(f"  {command_name()} demo PATH          other files")
        self._print(f"  {command_name()} dev my_agents.py   your own agents, started again whenever the file changes")
        self._print(f"  {command_name()} --help             all commands; docs/cli.md has a first my_agents.py")

    def _numbers(self, numbers: Numbers) -> None:
        messages = numbers.events + numbers.direct_messages
        self._print(
            f"\n[bold]The numbers[/bold]: {messages:,} messages in {numbers.seconds:.1f} s, "
            f"{numbers.per_second:,.0f} a second"
        )
        self._print(f"{numbers.events:>6,}  events, each stored by the broker before its publisher went on")
        self._print(f"{numbers.direct_messages:>6,}  direct messages, up to {IN_FLIGHT} at once, each with its answer:")
        self._print(
            f"        after {numbers.p50_ms:.1f} ms (p50), {numbers.p99_ms:.1f} ms (p99), while files were parsed"
        )

    def _report(self, started: Started, report: Report) -> None:
        self._print(
            f"\n[bold]The report[/bold]: {_counted(report.files, 'file')}, {_counted(report.lines, 'line')}, "
            f"{_counted(report.functions, 'function')}"
        )
        for kind in KINDS:
            if kind in report.findings:
                self._console.print(_finding_line(report, kind), no_wrap=True, overflow="ellipsis")
        if not report.findings:
            self._print("     0  findings")
        if report.most_findings:
            most = ", ".join(f"{path} ({count})" for path, count in report.most_findings)
            self._print("Most findings: {}", most)
        for path, why in list(started.left_out.items())[:_LEFT_OUT_SHOWN]:
            self._print("Left out: {}", f"{path}: {why}")
        if len(started.left_out) > _LEFT_OUT_SHOWN:
            self._print(f"Left out: {len(started.left_out) - _LEFT_OUT_SHOWN} more")

    def _print(self, markup: str, *texts: object) -> None:
        """Print markup, with texts in the places of `{}` that are none."""
        pieces = markup.split("{}")
        line = Text.from_markup(pieces[0])
        for text, piece in zip(texts, pieces[1:], strict=True):
            line.append(one_line(text))
            line.append_text(Text.from_markup(piece))
        self._console.print(line, soft_wrap=True)


def command_name() -> str:
    """Return how this command is called here: a virtual environment need not be on the PATH."""
    if shutil.which("hivewire"):
        return "hivewire"
    started_as = Path(sys.argv[0])
    return os.path.relpath(started_as) if started_as.name == "hivewire" else "python -m hivewire"


def progress_table(progress: Progress) -> Table:
    """Return the table of processes and what each has handled so far."""
    questions = sum(work.questions for work in progress.work.values())
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("PROCESS", no_wrap=True)
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("HANDLED", no_wrap=True)
    table.add_column("DIRECT MESSAGES", no_wrap=True)
    table.add_column("LAST FILE", no_wrap=True, overflow="ellipsis")
    pids = {name: str(pid) for name, pid in progress.pids.items()}
    published = f"{progress.published or '…'} files published"
    table.add_row("coordinator", pids["coordinator"], published, f"{questions:,} answered", "")
    for name, work in progress.work.items():
        handled = f"{work.files} files, {work.findings} findings"
        last = Text(one_line(work.last_file))
        table.add_row(name, pids.get(name, ""), handled, f"{work.questions:,} sent", last)
    table.add_row("reporter", pids["reporter"], f"{progress.summed_up} of {progress.files} reviews", "", "")
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _finding_line(report: Report, kind: str) -> Text:
    line = Text(f"{report.findings[kind]:>6}  {KINDS[kind]}")
    return line.append(f"   e.g. {one_line(report.examples[kind])}", style="dim")
