"""The lock of the JavaScript modules installs from whichever registry npm is set up for."""

import json
from pathlib import Path

LOCK = Path(__file__).parents[2] / "gateway" / "js" / "package-lock.json"


def test_the_lock_has_hashes_and_no_addresses() -> None:
    packages = json.loads(LOCK.read_text())["packages"]
    del packages[""]
    assert packages
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert package["integrity"].startswith("sha512-"), name
