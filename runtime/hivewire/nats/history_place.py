"""How far the history of a subscription has been sent: the record that stays when a process ends."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from hivewire.exceptions import HivewireError, UnsupportedFormatError
from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.topic_filters import TopicFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far the history of one subscription was looked at, in the event stream that was made at `stream`.

    `subscriptions` are those of the type that hold for the event at `next`. `goal` is where the stream ended when this
    lap began, with `lap` events to look at.
    """

    topics: TopicFilter
    stream: str
    next: int
    subscriptions: SubscriptionChange
    goal: int
    lap: int | None = None
    sent: int = 0
    done: bool = False

    def in_lap(self, waiting: int, end: int) -> Place | None:
        """Return the place with its goal, or a new one when this is reached; None: as much comes as is sent."""
        if self.next <= self.goal:
            return self
        if self.lap is not None and waiting > self.lap // 2:
            return None
        return replace(self, goal=end, lap=waiting)

    def had(self, sequence: int, topic_type: str) -> bool:
        """Tell whether the event was sent as part of this history."""
        return sequence < self.next and self.topics.matches(topic_type)

    def to_json(self) -> bytes:
        data = {
            "format": FORMAT,
            "topics": self.topics.content_id,
            "stream": self.stream,
            "next": self.next,
            "subscriptions": self.subscriptions.to_json(),
            "goal": self.goal,
            "lap": self.lap,
            "sent": self.sent,
            "done": self.done,
        }
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Place:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            HivewireError: it is not such a record.
        """
        try:
            data: dict[str, Any] = json.loads(payload)
            check_format(data, "how far the history of a subscription is")
            return cls(
                topics=TopicFilter.parse(data["topics"]),
                stream=data["stream"],
                next=int(data["next"]),
                subscriptions=SubscriptionChange.from_json(data["subscriptions"]),
                goal=int(data["goal"]),
                lap=data["lap"],
                sent=int(data["sent"]),
                done=bool(data["done"]),
            )
        except UnsupportedFormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HivewireError(
                f"how far the history of a subscription is can't be read ({error!r}): delete the record, and it begins"
                " anew"
            ) from error
