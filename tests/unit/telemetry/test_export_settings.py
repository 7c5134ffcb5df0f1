"""What the standard variables say about the export of spans."""

from dataclasses import asdict
from typing import Any

import pytest

from hivewire.telemetry.export_settings import ExportSettings, export_settings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = {ENDPOINT: "http://here:4318"}


def settings_of(**variables: str) -> ExportSettings:
    settings = export_settings(variables)
    assert settings is not None
    return settings


@pytest.mark.parametrize(
    ("variables", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({ENDPOINT: ""}, False),
        (HERE, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **HERE}, False),
        ({"OTEL_SDK_DISABLED": "True", **HERE}, False),
        ({"OTEL_SDK_DISABLED": "no", **HERE}, True),
    ],
)
def test_spans_are_exported_when_an_exporter_or_an_endpoint_is_named(
    variables: dict[str, str], is_wanted: bool
) -> None:
    assert (export_settings(variables) is not None) is is_wanted


def test_what_is_not_set_has_the_defaults_of_the_specification() -> None:
    assert asdict(settings_of(OTEL_TRACES_EXPORTER="otlp")) == {
        "protocol": "http/protobuf",
        "endpoint": "http://localhost:4318/v1/traces",
        "headers": {},
        "timeout_s": 10.0,
        "sampler": "parentbased_always_on",
        "ratio": 1.0,
        "attributes": {},
        "delay_ms": 5000,
        "max_queue": 2048,
        "max_batch": 512,
    }


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (HERE, {"endpoint": "http://here:4318/v1/traces"}),
        ({ENDPOINT: "https://here/otlp/"}, {"endpoint": "https://here/otlp/v1/traces"}),
        ({**HERE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there/x"}, {"endpoint": "http://there/x"}),
        ({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"endpoint": "http://here:4318", "protocol": "grpc"}),
        ({ENDPOINT: "here:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"endpoint": "here:4317"}),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            {"endpoint": "http://localhost:4317"},
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            {"protocol": "grpc"},
        ),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c, d = e=f"}, {"headers": {"a": "b c", "d": "e=f"}}),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "c=d"},
            {"headers": {"c": "d"}},
        ),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}, {"timeout_s": 2.5}),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "500"}, {"timeout_s": 0.5}),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
            {"sampler": "traceidratio", "ratio": 0.25},
        ),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, {"ratio": 1.0}),
        ({"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "anything"}, {"ratio": 1.0}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=b%2Cc", "OTEL_SERVICE_NAME": "mine"},
            {"attributes": {"service.name": "mine", "team": "b,c"}},
        ),
        ({"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BSP_MAX_QUEUE_SIZE": "64"}, {"delay_ms": 100, "max_batch": 64}),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7"}, {"max_batch": 7}),
    ],
)
def test_the_variables_are_followed(variables: dict[str, str], expected: dict[str, Any]) -> None:
    settings = asdict(settings_of(**{"OTEL_TRACES_EXPORTER": "otlp", **variables}))
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER=zipkin: there are only otlp and none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: there are only grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "x", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=x: there are only grpc"),
        (ENDPOINT, "localhost:4318", f"{ENDPOINT} is not an address"),
        (ENDPOINT, "http://", f"{ENDPOINT} is not an address"),
        (ENDPOINT, "http://here:port", f"{ENDPOINT} is not an address"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "OTEL_EXPORTER_OTLP_HEADERS: expected name=value"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=10s: expected a whole number"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "OTEL_EXPORTER_OTLP_TIMEOUT=0: expected a whole number of milliseconds"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "OTEL_TRACES_SAMPLER=jaeger_remote: there are only always_on"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "OTEL_RESOURCE_ATTRIBUTES: expected name=value"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "OTEL_BSP_SCHEDULE_DELAY=-1: expected a whole number of milliseconds"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "OTEL_BSP_MAX_QUEUE_SIZE=many: expected a whole number above 0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "is larger than OTEL_BSP_MAX_QUEUE_SIZE"),
    ],
)
def test_what_can_not_be_followed_is_told_with_its_variable_and_without_secrets(
    name: str, value: str, text: str
) -> None:
    with pytest.raises(ValueError) as raised:
        export_settings({"OTEL_TRACES_EXPORTER": "otlp", name: value})
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("ratio", ["some", "-0.1", "1.1", "nan"])
def test_a_ratio_is_from_0_to_1(ratio: str) -> None:
    with pytest.raises(ValueError, match=r"OTEL_TRACES_SAMPLER_ARG=.*: expected a number from 0 to 1"):
        export_settings({**HERE, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio})
