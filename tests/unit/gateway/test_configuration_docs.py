"""The guide describes every key of the configuration file, with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from documents import ROOT, blocks
from hivewire_gateway import Settings, load_settings
from hivewire_gateway.configuration import table_of

PAGE = ROOT / "docs" / "guides" / "securing-the-gateway.md"
TABLES = [block for block in blocks(PAGE) if block.language == "toml"]
WHOLE_FILE = TABLES[-1].text


@pytest.mark.parametrize("text", [block.text for block in TABLES])
def test_what_the_guide_shows_is_a_configuration(text: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    load_settings(file)


def test_the_guide_names_every_key_with_its_default() -> None:
    shown = tomllib.loads(WHOLE_FILE)
    commented = set(re.findall(r"^# (\w+) = ", WHOLE_FILE, re.MULTILINE))
    missing = list(_missing(Settings, shown, commented, ""))
    assert not missing, f"{PAGE.name} says nothing, or something else, of {', '.join(missing)}"


def _missing(model: type[BaseModel], shown: dict[str, Any], commented: set[str], prefix: str) -> Any:
    for name, field in model.model_fields.items():
        table = table_of(field.annotation)
        if isinstance(table, type) and issubclass(table, BaseModel) and name in shown:
            yield from _missing(table, shown[name], commented, f"{prefix}{name}.")
        elif name not in shown:
            if name not in commented:
                yield prefix + name
        elif get_origin(table) is dict and shown[name]:
            for key, entry in shown[name].items():
                yield from _missing(get_args(table)[1], entry, commented, f"{prefix}{name}.{key}.")
        elif not field.is_required() and field.default is not None and _plain(field.default) != shown[name]:
            yield prefix + name


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
