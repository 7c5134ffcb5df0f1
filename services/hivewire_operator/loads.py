"""What a deployment has to do: what it is scaled by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hivewire.observation import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Unfinished messages: events that wait or run, and direct messages that wait or run.

    `received` counts the direct messages that came so far, by session: most are over before anybody looks.
    """

    lag_messages: int
    calls: int
    received: Mapping[str, int] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        """All of them."""
        return self.lag_messages + self.calls


def load_of(observation: Observation, deployment: str, types: Collection[str]) -> Load | None:
    """Return the load of a deployment that serves these types; None: one of them is not registered yet."""
    lags = {each.name: each.lag_messages for each in observation.types}
    if not all(each in lags for each in types):
        return None
    sessions = [each for each in observation.sessions if each.deployment == deployment]
    return Load(
        lag_messages=sum(lags[each] for each in types),
        calls=sum(each.calls for each in sessions),
        received={each.session: each.received for each in sessions},
    )
