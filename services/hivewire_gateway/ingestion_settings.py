"""What can be set on the way in of events."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class IngestionSettings(BaseModel):
    """Settings of the routes that take events.

    Attributes:
        max_batch_events: Batches of more events are refused.
        batch_concurrency: How many events of one batch are stored at a time.
        webhook_origins: The senders that may send events as a WebHook, as DNS names; `*` stands for all of them.
        webhook_rate: The requests per minute that a WebHook's sender is told it may make. None: as many as it likes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_events: PositiveInt = 1000
    batch_concurrency: PositiveInt = 32
    webhook_origins: tuple[str, ...] = ()
    webhook_rate: PositiveInt | None = None
