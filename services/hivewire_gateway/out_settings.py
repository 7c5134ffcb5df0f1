"""What can be set about the messages that a gateway gives out, with its defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CallSettings(BaseModel):
    """Settings of direct messages. Times are in seconds.

    Attributes:
        timeout_s: The deadline of a message whose client names none.
        max_timeout_s: The latest deadline that a client may ask for.
        stream_timeout_s: The deadline of a streamed answer as a whole, when the client names none.
        max_stream_timeout_s: The latest one that a client may ask for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    max_timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    stream_timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    max_stream_timeout_s: float = Field(default=3600.0, gt=0, allow_inf_nan=False)


class EventStreamSettings(BaseModel):
    """Settings of server-sent events.

    Attributes:
        heartbeat_s: A stream on which nothing came for so long gets a comment, so that nothing between takes it for
            dead.
        retry_s: How long clients wait before they come back, as they are told at the begin of a stream.
        max_waiting_events: How many events may wait for one client that does not take them as fast as they come.
        max_waiting_bytes: How many bytes they may have.
        max_filters: Of so many different topic types the gateway reads only those; of more it reads all events.
        catch_ups_at_once: How many clients that come back may read the past at the same time; others wait.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    heartbeat_s: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    retry_s: float = Field(default=2.0, ge=0, le=3600)
    max_waiting_events: int = Field(default=256, ge=2)
    max_waiting_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    max_filters: int = Field(default=32, ge=1)
    catch_ups_at_once: int = Field(default=4, ge=1)
