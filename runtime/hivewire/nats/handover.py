"""Keys that an earlier owner of a shard is still busy with, and what waits for them here.

A shard moves at once, whatever a turn takes. The turns that run at that moment go on where they are, and the new owner
holds their keys back until the old one says that they are done, or its session ends. So each key is in one process at a
time. Events of such a key that were running are finished when the old owner says so; when it died, they are handled
here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hivewire.nats.positions import RunningElsewhere


@dataclass(slots=True)
class _Held:
    elsewhere: RunningElsewhere
    waiting: list[tuple[int | None, Callable[[], None]]] = field(default_factory=list)


class HeldKeys:
    """Decides, without I/O, what happens to messages of held keys.

    Args:
        finish: Called with the sequence of an event that need not be handled here, be it read already or not.
    """

    def __init__(self, running: Mapping[str, RunningElsewhere], *, finish: Callable[[int], None]) -> None:
        self._held = {key: _Held(elsewhere) for key, elsewhere in running.items()}
        self._finish = finish

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def running(self) -> dict[str, RunningElsewhere]:
        """What is still running elsewhere, as a position record says it."""
        return {key: held.elsewhere for key, held in self._held.items()}

    @property
    def sessions(self) -> set[tuple[str, str]]:
        """Whom to ask: deployment and session of each earlier owner."""
        return {(held.elsewhere.deployment, held.elsewhere.session) for held in self._held.values()}

    def take(self, key: str, sequence: int | None, handle: Callable[[], None]) -> bool:
        """Offer a message of a key; True: it is held back."""
        held = self._held.get(key)
        if held is None:
            return False
        held.waiting.append((sequence, handle))
        return True

    def still_running(self, session: str, keys: Collection[str], *, unfinished: Collection[int] = ()) -> None:
        """An earlier owner says which keys it is still busy with: all its others are done, except for those events
        that it leaves unfinished."""
        for key, held in list(self._held.items()):
            if held.elsewhere.session == session and key not in keys:
                finished = [sequence for sequence in held.elsewhere.sequences if sequence not in unfinished]
                self._release(key, finished=finished)

    def session_ended(self, session: str) -> None:
        """An earlier owner is gone: what it was busy with is handled here."""
        for key, held in list(self._held.items()):
            if held.elsewhere.session == session:
                self._release(key, finished=())

    def drain(self) -> list[Callable[[], None]]:
        """Give up all that waits: the calls among it, which have to be refused; events stay unfinished."""
        waiting = [handle for held in self._held.values() for sequence, handle in held.waiting if sequence is None]
        for held in self._held.values():
            held.waiting.clear()
        return waiting

    def _release(self, key: str, *, finished: Collection[int]) -> None:
        held = self._held.pop(key)
        for sequence in finished:
            self._finish(sequence)
        for waiting, handle in held.waiting:
            if waiting not in finished:
                handle()
