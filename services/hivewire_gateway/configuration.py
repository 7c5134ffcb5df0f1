"""The configuration file of a gateway: TOML, read into `Settings`."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hivewire_gateway.configuration_error import ConfigurationError
from hivewire_gateway.settings import Settings

_Place = tuple[int | str, ...]


def load_settings(file: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of a file, or the usual ones without a file.

    Args:
        overrides: What wins over the file, by dotted keys such as `security.anonymous`.

    Raises:
        ConfigurationError: the file can't be read, is no TOML, or sets something that can't be set so.
    """
    document = {} if file is None else _document(file)
    for key, value in (overrides or {}).items():
        _put(document, key.split("."), value)
    try:
        return Settings.model_validate(document, context={"folder": None if file is None else file.parent})
    except ValidationError as error:
        problems = "; ".join(
            _explained(details["type"], details["loc"], details["msg"]) for details in error.errors(include_input=False)
        )
        where = "" if file is None else f"{file}: "
        raise ConfigurationError(f"{where}{problems}") from None


def _document(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"can't read the configuration {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from None


def _put(document: dict[str, Any], keys: list[str], value: Any) -> None:
    *tables, last = keys
    for name in tables:
        table = document.setdefault(name, {})
        if not isinstance(table, dict):
            return  # not a table in the file: its validation says so
        document = table
    document[last] = value


def _explained(kind: str, place: _Place, message: str) -> str:
    key = ".".join(str(part) for part in place if part != "[key]")
    if kind == "extra_forbidden":
        allowed = _keys_at(place[:-1])
        close = get_close_matches(str(place[-1]), allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"there is no key {key}: {hint}allowed are {', '.join(allowed)}"
    return f"{key}: {message.removeprefix('Value error, ')}" if key else message.removeprefix("Value error, ")


def _keys_at(place: _Place) -> list[str]:
    model: Any = Settings
    for part in place:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = table_of(model.model_fields[str(part)].annotation)
        else:
            model = table_of(get_args(model)[-1])
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def table_of(annotation: Any) -> Any:
    """Return the model, or the dict of models, that an annotation is about."""
    if get_origin(annotation) is Annotated:
        return table_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((table_of(choice) for choice in get_args(annotation) if choice is not type(None)), None)
    return annotation
