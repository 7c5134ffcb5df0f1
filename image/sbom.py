"""Prints what is in the image, as a CycloneDX 1.6 document: the Python packages beside this interpreter, and Debian's.

Run while the image is built, by the interpreter whose packages it lists.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

DEBIAN_STATUS = Path("/var/lib/dpkg/status")


def main() -> None:
    python_packages = sorted(map(_python_package, distributions()), key=lambda component: component["name"])
    python_packages = [component for component in python_packages if component["name"] != "hivewire"]
    hivewire = next(filter(lambda found: found.name == "hivewire", distributions()))
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _python_package(hivewire) | {"type": "application"}},
        "components": [_interpreter(), *python_packages, *_debian_packages()],
    }
    json.dump(document, sys.stdout, indent=2)


def _python_package(found: Distribution) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(found.name.lower().replace('_', '-'))}@{quote(found.version)}"
    expression = found.metadata.get("License-Expression")
    licenses = {"licenses": [{"expression": expression}]} if expression else {}
    return _component(found.name, found.version, purl) | licenses


def _interpreter() -> dict[str, Any]:
    version = platform.python_version()
    return _component("python", version, f"pkg:generic/python@{version}")


def _debian_packages() -> Iterator[dict[str, Any]]:
    if not DEBIAN_STATUS.exists():
        return
    for paragraph in DEBIAN_STATUS.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if line[:1].isalpha() and ": " in line)
        if fields.get("Status") == "install ok installed":
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}"
            yield _component(name, version, purl)


def _component(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
