"""The AgentSystem that comes with the installation: whoever leads applies it, and again whenever its file changes.

A chart can't bring an object of a kind that it brings too. And a hook after the installation would come too late for a
gateway that waits for the login that only an AgentSystem brings.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

import yaml

from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster, Object

log = logging.getLogger("hivewire.operator")

_MANAGER: Final = "hivewire-installation"
_EVERY_S: Final = 5.0


async def keep_first_system(cluster: Cluster, file: Path) -> None:
    """Apply the file's AgentSystem whenever the file is new, until cancelled. One that was deleted stays away."""
    applied: str | None = None
    while True:
        try:
            text = await asyncio.to_thread(file.read_text)
            if text != applied:
                await cluster.apply("AgentSystem", _manifest(text), manager=_MANAGER)
                applied = text
        except (ApiUnavailableError, ApiError, OSError, ValueError) as error:
            log.error("the AgentSystem of %s can't be applied: %s", file, error)
        await asyncio.sleep(_EVERY_S)


def _manifest(text: str) -> Object:
    try:
        manifest = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "AgentSystem":
        raise ValueError("it has no AgentSystem")
    return manifest
