"""What the standard `OTEL_*` variables say about the export of spans, checked.

Which ones there are is told by https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/. The SDK passes over what it can't read; here it is an
error, so that nobody looks for spans that never come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import unquote, urlsplit

__all__ = ["ExportSettings", "export_settings"]

Protocol = Literal["grpc", "http/protobuf"]

_PROTOCOLS: Final = ("grpc", "http/protobuf")
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_HTTP_PATH: Final = "/v1/traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """Where spans go, and which.

    Attributes:
        ratio: The part of all traces that a sampler by ratio takes.
        attributes: What the spans say of their process.
        max_batch: Spans that are sent at once, at the most.
    """

    protocol: Protocol
    endpoint: str
    headers: Mapping[str, str]
    timeout_s: float
    sampler: str
    ratio: float
    attributes: Mapping[str, str]
    delay_ms: int
    max_queue: int
    max_batch: int


def export_settings(environment: Mapping[str, str]) -> ExportSettings | None:
    """Read the variables; None: no spans are to be exported.

    Raises:
        ValueError: one of them can't be followed; the text names it, and no value that may be a secret.
    """
    variables = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_")}
    if not _is_wanted(variables):
        return None
    protocol = _of(variables, "PROTOCOL") or "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{_name_of(variables, 'PROTOCOL')}={protocol}: there are only {' and '.join(_PROTOCOLS)}")
    sampler = variables.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    if sampler not in _SAMPLERS:
        raise ValueError(f"OTEL_TRACES_SAMPLER={sampler}: there are only {', '.join(_SAMPLERS)}")
    max_queue = _count(variables, "OTEL_BSP_MAX_QUEUE_SIZE", default=2048)
    max_batch = _count(variables, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default=min(512, max_queue))
    if max_batch > max_queue:
        raise ValueError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is larger than OTEL_BSP_MAX_QUEUE_SIZE")
    return ExportSettings(
        protocol=cast(Protocol, protocol),
        endpoint=_endpoint(variables, protocol),
        headers=_pairs(_of(variables, "HEADERS"), _name_of(variables, "HEADERS")),
        timeout_s=_timeout_s(variables),
        sampler=sampler,
        ratio=_ratio(variables.get("OTEL_TRACES_SAMPLER_ARG", "")) if sampler.endswith("traceidratio") else 1.0,
        attributes=_attributes(variables),
        delay_ms=_count(variables, "OTEL_BSP_SCHEDULE_DELAY", default=5000),
        max_queue=max_queue,
        max_batch=max_batch,
    )


def _is_wanted(variables: Mapping[str, str]) -> bool:
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = variables.get("OTEL_TRACES_EXPORTER")
    if exporter:
        if exporter not in ("otlp", "none"):
            raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: there are only otlp and none")
        return exporter == "otlp"
    return bool(_of(variables, "ENDPOINT"))


def _name_of(variables: Mapping[str, str], what: str) -> str:
    """Return the variable that says something about the export: the one for traces goes first."""
    own = f"OTEL_EXPORTER_OTLP_TRACES_{what}"
    return own if variables.get(own) else f"OTEL_EXPORTER_OTLP_{what}"


def _of(variables: Mapping[str, str], what: str) -> str:
    return variables.get(_name_of(variables, what), "")


def _endpoint(variables: Mapping[str, str], protocol: str) -> str:
    name, endpoint = _name_of(variables, "ENDPOINT"), _of(variables, "ENDPOINT")
    if not endpoint:
        return "http://localhost:4317" if protocol == "grpc" else f"http://localhost:4318{_HTTP_PATH}"
    # Over gRPC an address without a scheme is one too.
    has_scheme = "://" in endpoint
    try:
        parts = urlsplit(endpoint if has_scheme or protocol != "grpc" else f"https://{endpoint}")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        # It may hold a password, so it is not shown.
        raise ValueError(f"{name} is not an address: use http://host:port or https://host:port")
    if protocol == "grpc" or name.endswith("TRACES_ENDPOINT"):
        return endpoint
    return f"{endpoint.removesuffix('/')}{_HTTP_PATH}"


def _timeout_s(variables: Mapping[str, str]) -> float:
    return _count({"": _of(variables, "TIMEOUT")}, "", default=10_000, shown=_name_of(variables, "TIMEOUT")) / 1000


def _count(variables: Mapping[str, str], name: str, *, default: int, shown: str | None = None) -> int:
    text = variables.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        unit = "" if "SIZE" in name else " of milliseconds"
        raise ValueError(f"{shown or name}={text}: expected a whole number{unit} above 0")
    return int(text)


def _ratio(text: str) -> float:
    try:
        ratio = float(text or "1")
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG={text}: expected a number from 0 to 1")
    return ratio


def _attributes(variables: Mapping[str, str]) -> dict[str, str]:
    attributes = _pairs(variables.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    service = variables.get("OTEL_SERVICE_NAME")
    return {**attributes, "service.name": service} if service else attributes


def _pairs(text: str, name: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{name}: expected name=value, and more of them after a comma")
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs
