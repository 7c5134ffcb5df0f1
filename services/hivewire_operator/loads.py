"""What a deployment has to do: what it is scaled by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hivewire.observation import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Unfinished messages: events that wait or run, and direct messages that wait or run."""

    lag_messages: int
    calls: int

    @property
    def messages(self) -> int:
        """All of them."""
        return self.lag_messages + self.calls


def load_of(observation: Observation, deployment: str, types: Collection[str]) -> Load | None:
    """Return the load of a deployment that serves these types; None: one of them is not registered yet."""
    lags = {each.name: each.lag_messages for each in observation.types}
    if not all(each in lags for each in types):
        return None
    calls = sum(each.calls for each in observation.sessions if each.deployment == deployment)
    return Load(lag_messages=sum(lags[each] for each in types), calls=calls)
