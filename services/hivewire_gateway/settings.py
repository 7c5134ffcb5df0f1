"""What can be set on a gateway, with its defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from hivewire_gateway.hooks.settings import HookName, HookSettings
from hivewire_gateway.ingestion_settings import IngestionSettings
from hivewire_gateway.out_settings import CallSettings, EventStreamSettings
from hivewire_gateway.security.settings import LimitSettings, SecuritySettings
from hivewire_gateway.workers.settings import WorkerSettings


class Settings(BaseModel):
    """Settings of one gateway process.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 stands for a free one.
        metrics_host: The address for `/healthz`, `/readyz` and `/metrics`.
        metrics_port: Their port; 0 stands for a free one.
        max_body_bytes: Larger bodies are refused, before they are read to their end.
        store_timeout_s: How long a request waits for JetStream to store its event.
        drain_timeout_s: How long open requests may take to finish at the end.
        ingestion: How events come in.
        calls: Direct messages.
        event_streams: Server-sent events.
        access_log: Whether each request is logged; otherwise those that were refused or failed are.
        security: Who may do what.
        limits: How much of everything at once.
        hooks: Webhooks of others, by the names in their addresses.
        workers: Workers that join over a WebSocket.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9090, ge=0, le=65535)
    max_body_bytes: int = Field(default=1_000_000, ge=1)
    store_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    drain_timeout_s: float = Field(default=25.0, ge=0, allow_inf_nan=False)
    access_log: bool = False
    ingestion: IngestionSettings = IngestionSettings()
    calls: CallSettings = CallSettings()
    event_streams: EventStreamSettings = EventStreamSettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()
    hooks: dict[HookName, HookSettings] = {}
    workers: WorkerSettings = WorkerSettings()
