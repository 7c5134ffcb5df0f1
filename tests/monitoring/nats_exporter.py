"""Stands in for prometheus-nats-exporter: gives what the allow list names, from a real server's monitoring pages.

The exporter is a program in Go that can't be installed everywhere; its names and labels are as the list says.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

ALLOW_LIST = Path(__file__).parents[2] / "k8s/monitoring/nats-exporter-metrics.txt"
_Sample = tuple[str, dict[str, str], float]


def allowed() -> dict[str, set[str]]:
    """Return the labels of each metric of the list."""
    lines = (line.split() for line in ALLOW_LIST.read_text().splitlines() if line and not line.startswith("#"))
    return {name: set(labels) for name, *labels in lines}


class NatsExporter:
    """Serves `/metrics` for one server: `with NatsExporter(url)`."""

    def __init__(self, monitoring_url: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exposition(monitoring_url).encode()
                # The scraper may have given up meanwhile.
                with suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=[0.05])
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def exposition(monitoring_url: str) -> str:
    """Return the samples of a server in Prometheus' text format."""
    varz, jsz = _page(monitoring_url, "varz"), _page(monitoring_url, "jsz?consumers=true&config=true&raft=true")
    health = _page(monitoring_url, "healthz")
    server = {"server_id": "nats-1"}
    samples: list[_Sample] = [
        ("gnatsd_healthz_status", {**server, "value": health["status"]}, float(health["status"] != "ok"))
    ]
    samples += [
        (f"gnatsd_varz_{key}", server, float(value))
        for key, value in varz.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    samples += _jetstream(jsz, {**server, "server_name": varz["server_name"]})
    names = allowed()
    chosen = [(name, _whole(labels, names[name]), value) for name, labels, value in samples if name in names]
    return "".join(f"{name}{{{_text(labels)}}} {value:g}\n" for name, labels, value in chosen)


def _jetstream(jsz: dict[str, Any], server: dict[str, str]) -> Iterator[_Sample]:
    yield "jetstream_server_total_message_bytes", server, jsz["bytes"]
    yield "jetstream_server_max_storage", server, jsz["config"]["max_storage"]
    for account in jsz.get("account_details", ()):
        for stream in account.get("stream_detail", ()):
            of_stream = {**server, "account": account["name"], "stream_name": stream["name"]}
            of_stream["is_stream_leader"] = "true"
            state = stream["state"]
            yield "jetstream_stream_total_messages", of_stream, state["messages"]
            yield "jetstream_stream_total_bytes", of_stream, state["bytes"]
            yield "jetstream_stream_last_seq", of_stream, state["last_seq"]
            yield "jetstream_stream_consumer_count", of_stream, state["consumer_count"]
            for consumer in stream.get("consumer_detail") or ():
                of_consumer = {**of_stream, "consumer_name": consumer["name"], "is_consumer_leader": "true"}
                yield "jetstream_consumer_num_pending", of_consumer, consumer["num_pending"]
                yield "jetstream_consumer_num_ack_pending", of_consumer, consumer["num_ack_pending"]


def _whole(labels: dict[str, str], names: set[str]) -> dict[str, str]:
    assert labels.keys() <= names, labels.keys() - names
    return {name: labels.get(name, "") for name in sorted(names)}


def _text(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())


def _page(url: str, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/{name}", timeout=5) as answer:
        page: dict[str, Any] = json.load(answer)
    return page
