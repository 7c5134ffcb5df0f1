"""The gateway takes the configuration that the chart gives it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from chart.conftest import Render
from hivewire_gateway import load_settings


def test_the_token_that_is_made_may_do_everything_and_the_gateway_has_its_hash_alone(
    render: Render, tmp_path: Path
) -> None:
    manifests = render()
    found = {each["metadata"]["name"]: each for each in manifests if each["kind"] in {"Secret", "ConfigMap"}}
    token = found["hivewire-gateway-admin"]["stringData"]["token"]
    line = found["hivewire-gateway-tokens"]["stringData"]["tokens"]
    assert line == f"admin sha256:{sha256(token.encode()).hexdigest()}\n"
    (gateway,) = [
        each
        for each in manifests
        if each["metadata"]["name"] == "hivewire-gateway" and "spec" in each and each["kind"] == "Deployment"
    ]
    assert "hivewire-gateway-admin" not in str(gateway)

    text = found["hivewire-gateway"]["data"]["gateway.toml"]
    (tmp_path / "tokens").write_text(line)
    (tmp_path / "gateway.toml").write_text(text.replace("/etc/hivewire/tokens/", f"{tmp_path}/"))
    settings = load_settings(tmp_path / "gateway.toml", {"host": "0.0.0.0"})
    admin = settings.security.principals["admin"]
    assert admin.publish and admin.read and admin.send and admin.serve
    assert not settings.security.anonymous
