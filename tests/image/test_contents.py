"""What goes into the image, and the list of it that the image carries."""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_bill_of_materials_lists_every_package_of_the_interpreter_once() -> None:
    command = [sys.executable, str(PROJECT / "image/sbom.py")]
    bill = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    references = [component["bom-ref"] for component in bill["components"]]
    listed = {component["name"] for component in bill["components"] if component["purl"].startswith("pkg:pypi/")}
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "hivewire"
    assert len(references) == len(set(references))
    assert listed | {"hivewire"} == {found.name for found in distributions()}


def test_the_image_holds_the_versions_that_the_tests_run_with() -> None:
    tested = _pins(PROJECT / "requirements-dev.lock")
    for lock in ("requirements.lock", "build-requirements.lock"):
        shipped = _pins(PROJECT / "image" / lock)
        assert shipped
        assert shipped <= tested


def _pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^\s;]+", lock.read_text(), re.MULTILINE))
