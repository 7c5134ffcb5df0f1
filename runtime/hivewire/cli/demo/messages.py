"""What the agents of the demo tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class StartReview:
    """To the coordinator: have these files of a folder reviewed."""

    folder: str
    files: list[str]


@dataclass
class Started:
    """The coordinator's answer: so many files are on their way; why others are not."""

    files: int
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class SourceFile:
    """An event, one a file: here is something to review."""

    path: str
    text: str


@dataclass
class Learn:
    """To a page of the dictionary: the words of these sources, and how often each occurs."""

    counts: dict[str, int]


@dataclass
class LookUp:
    """To a page of the dictionary: how common is this word?"""

    word: str


@dataclass
class Usage:
    """The dictionary's answer."""

    word: str
    count: int


@dataclass
class FileReview:
    """An event, one a file: what a reviewer found, in which process, and how long the dictionary took to answer.

    `findings` counts them by kind, `examples` tells of the first one of each kind: a file may have very many.
    """

    path: str
    process: str
    lines: int
    functions: int
    findings: dict[str, int]
    examples: dict[str, str]
    answered_after_ms: list[float]


@dataclass
class HowFar:
    """To the reporter: how many reviews have you summed up?"""


@dataclass
class WaitForReport:
    """To the reporter: answer with the report when so many files are reviewed."""

    files: int


@dataclass
class Report:
    """The reporter's answer: numbers over all files, an example of each kind of finding, and the busiest files."""

    files: int
    lines: int
    functions: int
    findings: dict[str, int]
    examples: dict[str, str]
    most_findings: list[tuple[str, int]]
