"""The agents of the demo, and the setup functions of its processes.

Each process is started by `hivewire run` with one of the functions at the end, as a pod would be.
"""

from __future__ import annotations

import asyncio
import os
import time
import tokenize
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

from hivewire.agents.handlers import event, rpc
from hivewire.agents.routed import RoutedAgent
from hivewire.cli.demo.messages import (
    FileReview,
    HowFar,
    Learn,
    LookUp,
    Report,
    SourceFile,
    Started,
    StartReview,
    Usage,
    WaitForReport,
)
from hivewire.cli.demo.progress import REVIEWERS
from hivewire.cli.demo.review import MIN_WORD_CHARS, Finding, count_words, review, words_of
from hivewire.distributed import NatsAgentRuntime
from hivewire.exceptions import MessageTooLargeError
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.subscriptions import type_subscription
from hivewire.model.topics import TopicId

COORDINATOR = AgentId("coordinator", "all")
REPORTER = AgentId("reporter", "all")
DICTIONARY = "dictionary"
REVIEWER = "reviewer"
SOURCES = "source"
REVIEWS = TopicId("review", REPORTER.key)

MAX_FILE_BYTES = 300_000
FILES_AT_ONCE = 4
"""How many files a process reviews at once. Each asks one question at a time, so this bounds the load, too."""

MAX_QUESTIONS = 200
"""How many words of one file are looked up."""

IN_FLIGHT = FILES_AT_ONCE * len(REVIEWERS)
"""How many questions are under way at once, at the most."""

MOST_FINDINGS_SHOWN = 5


class Coordinator(RoutedAgent):
    """Reads the files, tells the dictionary their words, and makes each an event."""

    def __init__(self) -> None:
        super().__init__("Hands out the files")

    @rpc
    async def start(self, message: StartReview, ctx: MessageContext) -> Started:
        texts: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for path in message.files:
            try:
                texts[path] = await asyncio.to_thread(_read_source, Path(message.folder, path))
            except (OSError, ValueError, SyntaxError) as error:
                left_out[path] = str(error)
        pages: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts.values():
            for word, count in (await asyncio.to_thread(count_words, text)).items():
                pages[word[0]][word] += count
        await asyncio.gather(*(self.send_message(Learn(dict(counts)), _page(page)) for page, counts in pages.items()))
        for path, text in texts.items():
            try:
                await self.publish_message(SourceFile(path, text), TopicId(SOURCES, path))
            except MessageTooLargeError as error:
                left_out[path] = str(error)
        return Started(len(message.files) - len(left_out), left_out)


class Dictionary(RoutedAgent):
    """Knows how often each word occurs. Its key is the first letter: there is one agent for each page."""

    def __init__(self) -> None:
        super().__init__("A page of the dictionary")
        self._counts: dict[str, int] = {}

    @rpc
    async def learn(self, message: Learn, ctx: MessageContext) -> None:
        self._counts = message.counts

    @rpc
    async def look_up(self, message: LookUp, ctx: MessageContext) -> Usage:
        return Usage(message.word, self._counts.get(message.word, 0))


@type_subscription(SOURCES)
class Reviewer(RoutedAgent):
    """Reviews the one file that is its key."""

    def __init__(self, process: str, room: asyncio.Semaphore, parser: asyncio.Lock) -> None:
        super().__init__("Reviews a file")
        self._process = process
        self._room = room
        self._parser = parser

    @event
    async def on_source(self, message: SourceFile, ctx: MessageContext) -> None:
        async with self._room:
            async with self._parser:
                reviewed = await asyncio.to_thread(review, message.text)
            answered_after_ms: list[float] = []
            rare = await self._rare_words(reviewed.names, answered_after_ms)
            findings = [*reviewed.findings, *rare]
            result = FileReview(
                path=message.path,
                process=self._process,
                lines=reviewed.lines,
                functions=reviewed.functions,
                findings=dict(Counter(each.kind for each in findings)),
                # The last of equal keys stands, and the first finding is wanted.
                examples={each.kind: f"{message.path}:{each.line} {each.text}" for each in reversed(findings)},
                answered_after_ms=answered_after_ms,
            )
            await self.publish_message(result, REVIEWS)

    async def _rare_words(self, names: dict[str, int], answered_after_ms: list[float]) -> list[Finding]:
        """Ask the dictionary about each word in the names that a file defines."""
        found = []
        homes = {word: name for name in names for word in words_of(name)}
        for word, name in islice(homes.items(), MAX_QUESTIONS):
            begun = time.perf_counter()
            usage: Usage = await self.send_message(LookUp(word), _page(word[0]))
            answered_after_ms.append((time.perf_counter() - begun) * 1000)
            if usage.count == 1 and len(word) >= MIN_WORD_CHARS:
                found.append(Finding("word", names[name], f"{word!r} in {name}"))
        return found


@type_subscription(REVIEWS.type)
class Reporter(RoutedAgent):
    """Sums up the reviews."""

    def __init__(self) -> None:
        super().__init__("Sums up")
        self._reviews: dict[str, FileReview] = {}
        self._another = asyncio.Event()

    @event
    async def on_review(self, message: FileReview, ctx: MessageContext) -> None:
        # By path, because an event may come twice when a process dies.
        self._reviews[message.path] = message
        self._another.set()

    @rpc
    async def how_far(self, message: HowFar, ctx: MessageContext) -> int:
        return len(self._reviews)

    @rpc
    async def report(self, message: WaitForReport, ctx: MessageContext) -> Report:
        while len(self._reviews) < message.files:
            self._another.clear()
            await self._another.wait()
        return summed_up(list(self._reviews.values()))


def summed_up(reviews: list[FileReview]) -> Report:
    """Sum reviews up. The example of a kind is that of the first file that has one."""
    findings: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for each in sorted(reviews, key=lambda each: each.path):
        findings.update(each.findings)
        examples = {**each.examples, **examples}
    totals = [(each.path, sum(each.findings.values())) for each in reviews]
    totals.sort(key=lambda total: (-total[1], total[0]))
    return Report(
        files=len(reviews),
        lines=sum(each.lines for each in reviews),
        functions=sum(each.functions for each in reviews),
        findings=dict(findings),
        examples=examples,
        most_findings=[total for total in totals[:MOST_FINDINGS_SHOWN] if total[1]],
    )


async def coordinator(runtime: NatsAgentRuntime) -> None:
    """Set up the process `coordinator`, where the dictionary lives, too."""
    await Coordinator.register(runtime, COORDINATOR.type, Coordinator)
    await Dictionary.register(runtime, DICTIONARY, Dictionary)


async def reviewer(runtime: NatsAgentRuntime) -> None:
    """Set up one of the processes that share the keys of the type `reviewer`."""
    process = os.environ.get("INSTANCE_ID", str(os.getpid()))
    room = asyncio.Semaphore(FILES_AT_ONCE)
    # Python 3.11 fails when two threads build syntax trees at once.
    parser = asyncio.Lock()
    await Reviewer.register(runtime, REVIEWER, lambda: Reviewer(process, room, parser))


async def reporter(runtime: NatsAgentRuntime) -> None:
    """Set up the process `reporter`."""
    await Reporter.register(runtime, REPORTER.type, Reporter)


def _page(letter: str) -> AgentId:
    return AgentId(DICTIONARY, letter)


def _read_source(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES // 1000} kB")
    # In the encoding that the file itself declares.
    with tokenize.open(path) as file:
        return file.read()
