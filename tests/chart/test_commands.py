"""The commands in the pods are commands of this version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from chart.conftest import Manifest, Render
from chart.matrix import MATRIX
from hivewire.cli.app import app

READ_ELSEWHERE = {"HIVEWIRE_DEPLOYMENT", "HIVEWIRE_PROVISION"}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_arguments_are_known(values: dict[str, Any], render: Render) -> None:
    for container in containers(render(values)):
        # With one that is not, there is no help.
        done = CliRunner().invoke(app, [*container["args"], "--help"])
        assert done.exit_code == 0, done.output


def test_variables_are_known(render: Render) -> None:
    known = {*variables(typer.main.get_command(app)), *READ_ELSEWHERE}
    given = {each["name"] for container in containers(render()) for each in container.get("env", [])}
    assert {name for name in given if name.startswith("HIVEWIRE_")} <= known


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The containers that run `hivewire`."""
    for manifest in manifests:
        pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            if container["image"].startswith("hivewire") and "command" not in container:
                yield container


def variables(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if parameter.envvar:
            yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
    for child in getattr(command, "commands", {}).values():
        yield from variables(child)
