"""What can be set for workers that join over a WebSocket."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WorkerSettings(BaseModel):
    """Settings of the route `/v1/workers`.

    Attributes:
        max_drain_s: How long running handlers may take when a worker leaves, whatever it asks for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_drain_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
