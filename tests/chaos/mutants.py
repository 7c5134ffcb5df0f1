"""Copies of the library with one safety rule taken out, to show that the checker would see it missing.

A rule is taken out by a substitution in the source of the copy. One that matches nothing any more is an error: then
the code has changed and the substitution has to follow it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import hivewire


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule that is missing. `file` is relative to the package; `old` is exactly once in it."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        name="state is written without compare-and-set",
        file="nats/buckets.py",
        old='headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}',
        new='headers = {} if self.name.endswith("_state") else {"Nats-Expected-Last-Subject-Sequence": str(revision)}',
    ),
    Mutant(
        name="what was handled is handled again",
        file="nats/state_records.py",
        old="return self.stream == stream and sequence <= self.last",
        new="return self.stream == stream and sequence == self.dead",
    ),
    Mutant(
        name="shards are claimed without compare-and-set",
        file="nats/buckets.py",
        old='headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}',
        new='headers = {} if self.name.endswith("_positions") else '
        '{"Nats-Expected-Last-Subject-Sequence": str(revision)}',
    ),
)


def mutant(name: str) -> Mutant:
    """Return the mutant of that name."""
    return next(each for each in MUTANTS if each.name == name)


NEXT_RELEASE = tuple(
    Mutant(
        name=f"the next release writes more into its records of {file}",
        file=file,
        old='"format": FORMAT,',
        new='"format": FORMAT, "of_the_next_release": {"more": [1, None]},',
    )
    for file in ("nats/positions.py", "nats/registry.py", "nats/session.py", "nats/state_records.py")
)
"""A release that knows the same format, and adds members that this one does not know."""


def make(directory: Path, *wanted: Mutant) -> dict[str, str]:
    """Make the copy with these changes, and return the environment in which a process uses it."""
    package = directory / "hivewire"
    shutil.copytree(Path(hivewire.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for each in wanted:
        path = package / each.file
        source = path.read_text()
        times = source.count(each.old)
        assert times == 1, f"{each.name!r} matches {times} times in {each.file}: the code has changed, see {__file__}"
        path.write_text(source.replace(each.old, each.new))
    return {"PYTHONPATH": str(directory)}
