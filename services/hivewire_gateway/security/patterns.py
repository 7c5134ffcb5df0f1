"""What a rule allows: exact names, or prefixes that end in `*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name, or with `*` at its end every name that begins like it. A `*` anywhere else is refused.

    Raises:
        ValueError: it can't be understood.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("a pattern is empty: write a name, or * for every name")
        if "*" in self.text[:-1]:
            raise ValueError(f"{self.text!r} has a * before its end: write a name, or a prefix with * at its end")

    def matches(self, name: str) -> bool:
        """Tell whether a name is allowed."""
        if self.text.endswith("*"):
            return name.startswith(self.text[:-1])
        return name == self.text

    @property
    def matches_all(self) -> bool:
        """Whether it allows every name."""
        return self.text == "*"


@dataclass(frozen=True, slots=True)
class PairPattern:
    """`type/source` of topics or `type/key` of agents, each side a `Pattern`; the first `/` separates them."""

    type: Pattern
    instance: Pattern

    @classmethod
    def from_str(cls, text: str) -> Self:
        """Read `type/instance`; `*` alone is everything.

        Raises:
            ValueError: there is no `/`, or a side of it is not a pattern.
        """
        if text == "*":
            return cls(Pattern("*"), Pattern("*"))
        type_, slash, instance = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} names no pair: write {text}/* for all of {text!r}, or * for everything")
        return cls(Pattern(type_), Pattern(instance))

    def matches(self, type_: str, instance: str) -> bool:
        """Tell whether a pair is allowed."""
        return self.type.matches(type_) and self.instance.matches(instance)

    def matches_every(self, type_: str) -> bool:
        """Tell whether all pairs of a type are allowed."""
        return self.type.matches(type_) and self.instance.matches_all
