"""Topic types as subject tokens, and subscriptions as filters on them.

A topic type is a flat string to its users: a subscription names one exactly, or a prefix of it. The broker knows
only whole tokens. So a topic type is cut where people end their prefixes: at every ``.``, and after every ``:``, which
stays in its token so that ``a:b`` and ``a.b`` differ. A prefix that ends at such a cut is one wildcard; any other
prefix is covered by the wildcard before it, and `TopicFilter.matches` decides the rest in the process.

Invariant: whatever a filter matches, its tail covers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from hivewire.nats.tokens import token, untoken

MAX_TOPIC_BYTES: Final = 1024
"""Limit of a topic type in its subject form; with namespace and source it stays well below the broker's 4096."""

_CACHED_TYPE_CHARS: Final = 256


def topic_tokens(topic_type: str) -> str:
    """Write a topic type as the end of a subject: ``task.a`` as ``task.a``, ``worker:x`` as ``worker=3A.x``.

    Different topic types have different forms.

    Raises:
        ValueError: The form is longer than 1024 bytes, or the topic type is not valid Unicode.
    """
    if len(topic_type) <= _CACHED_TYPE_CHARS:
        return _cached_topic_tokens(topic_type)
    return ".".join(_tokens_of(topic_type))


def topic_type_of(tokens: str) -> str | None:
    """Read a topic type back from its subject form. None when a part of it is hashed.

    Raises:
        ValueError: Not a form that `topic_tokens` makes.
    """
    parts = [untoken(part) for part in tokens.split(".")]
    texts = [part for part in parts if part is not None]
    if len(texts) < len(parts):
        return None
    topic_type = "".join(text if text.endswith(":") else f"{text}." for text in texts)
    if not topic_type.endswith(".") or topic_tokens(topic_type[:-1]) != tokens:
        raise ValueError(f"{tokens!r} is not the subject form of a topic type")
    return topic_type[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFilter:
    """Which topic types a subscription takes: one exactly, or all that begin with a prefix."""

    kind: Literal["exact", "prefix"]
    value: str

    @property
    def content_id(self) -> str:
        """The filter as text, equal for equal filters: ``exact:task.a``, ``prefix:task.``."""
        return f"{self.kind}:{self.value}"

    @classmethod
    def parse(cls, content_id: str) -> "TopicFilter":
        """Read a filter back from its `content_id`.

        Raises:
            ValueError: The text is none.
        """
        kind, colon, value = content_id.partition(":")
        if not colon or (kind != "exact" and kind != "prefix"):
            raise ValueError(f"{content_id!r} is not a topic filter: expected exact:... or prefix:...")
        return cls(kind="exact" if kind == "exact" else "prefix", value=value)

    def matches(self, topic_type: str) -> bool:
        """Tell whether the subscription takes this topic type."""
        return topic_type == self.value if self.kind == "exact" else topic_type.startswith(self.value)

    def tail(self) -> str:
        """Return the narrowest subject tail that covers every topic type that the filter matches.

        It may cover more: ``task`` as a prefix ends inside a token and is covered by ``>`` alone.

        Raises:
            ValueError: The value is longer than any topic type may be, or not valid Unicode.
        """
        if self.kind == "exact":
            return topic_tokens(self.value)
        # The last token of a prefix may go on in the topic types that have it; the ones before it are complete.
        return ".".join([*_tokens_of(self.value)[:-1], ">"])


def minimal_tails(filters: Iterable[TopicFilter]) -> list[str]:
    """Return the tails that cover a set of filters, sorted, without those that another one covers.

    The server refuses overlapping filters of one consumer. A tail is a literal, or a literal before a final ``>``, so
    two that overlap are always such that one covers the other.
    """
    tails = {topic_filter.tail() for topic_filter in filters}
    return sorted(tail for tail in tails if tails.isdisjoint(_wildcards_over(tail)))


def _wildcards_over(tail: str) -> Iterable[str]:
    parts = tail.split(".")
    for length in range(len(parts) - (1 if parts[-1] == ">" else 0)):
        yield ".".join([*parts[:length], ">"])


def _tokens_of(topic_type: str) -> list[str]:
    tokens = []
    for part in topic_type.split("."):
        *ended, rest = part.split(":")
        tokens += [token(f"{text}:") for text in ended]
        tokens.append(token(rest))
    length = sum(map(len, tokens)) + len(tokens) - 1
    if length > MAX_TOPIC_BYTES:
        raise ValueError(
            f"topic type {topic_type[:60]!r}... takes {length} bytes in a subject, and {MAX_TOPIC_BYTES} is the limit: "
            "use a shorter topic type, or put the variable part into the topic's source or the message"
        )
    return tokens


@lru_cache(maxsize=4_096)
def _cached_topic_tokens(topic_type: str) -> str:
    return ".".join(_tokens_of(topic_type))
