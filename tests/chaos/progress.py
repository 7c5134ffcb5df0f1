"""How long a run stood still: pure arithmetic over what was sent and when handlers ran to their end."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from chaos.model import Handled, Sent


def longest_gap_s(sent: Iterable[Sent], handled: Sequence[Handled], *, part_of: Callable[[str], Hashable]) -> float:
    """Return the longest time in which a part of the system, with something to do, finished nothing.

    A part is what moves and fails as one: a shard. It has something to do from the moment at which a message that it
    handled later was sent. What was never handled does not count here: that is a loss, or was refused. Events and
    calls take different ways, so ask for one of them at a time: calls that go on would hide that events stand still.

    Args:
        part_of: The part that a key belongs to.
    """
    begun = {each.id: each.begun_s for each in sent}
    parts: defaultdict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for turn in handled:
        if turn.id in begun:
            parts[part_of(turn.key)].append((turn.at_s, begun[turn.id]))
    return max((_longest_of(turns) for turns in parts.values()), default=0.0)


def _longest_of(turns: list[tuple[float, float]]) -> float:
    turns.sort()
    longest, previous_s = 0.0, float("-inf")
    # What waits behind a turn waited at that turn's end too, so the oldest of all that end later counts.
    oldest = float("inf")
    waiting_since: list[float] = []
    for _, begun_s in reversed(turns):
        oldest = min(oldest, begun_s)
        waiting_since.append(oldest)
    for (at_s, _), since_s in zip(turns, reversed(waiting_since), strict=True):
        longest = max(longest, at_s - max(previous_s, since_s))
        previous_s = at_s
    return longest
