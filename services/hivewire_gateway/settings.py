"""What can be set on a gateway, with its defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from hivewire_gateway.ingestion_settings import IngestionSettings


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
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8080
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9090
    max_body_bytes: int = 1_000_000
    store_timeout_s: float = 10.0
    drain_timeout_s: float = 25.0
    ingestion: IngestionSettings = IngestionSettings()
