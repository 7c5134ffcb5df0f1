"""Which shards of a process share a reader.

A consumer costs the server the same whether it serves one type or a hundred, so shards that keep up share one: those
with the same slots, whose filters differ in the topic only. A shard that lags reads alone, at its own pace, until it
has caught up; so one slow agent type does not hold up the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

Member = TypeVar("Member")


def plan_readers(members: Iterable[tuple[Member, Hashable, bool]]) -> set[frozenset[Member]]:
    """Return the readers that there should be, each as the set of its members.

    Args:
        members: For each shard what it is, which slots it reads, and whether it keeps up.
    """
    together: defaultdict[Hashable, set[Member]] = defaultdict(set)
    readers: set[frozenset[Member]] = set()
    for member, slots, keeps_up in members:
        if keeps_up:
            together[slots].add(member)
        else:
            readers.add(frozenset([member]))
    return readers | {frozenset(group) for group in together.values()}
