"""Finds the Python sources that the demo reviews."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hivewire
from hivewire.cli.errors import UsageError

_NOT_SOURCES = frozenset(("__pycache__", "node_modules", "site-packages"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A folder and the files in it that are reviewed, relative to it; `found` counts those that were left out, too."""

    folder: Path
    files: tuple[str, ...]
    found: int


def find_sources(path: Path | None, *, limit: int) -> Sources:
    """Find Python files in a folder, in order of their names. None stands for Hivewire's own sources.

    Hidden folders, virtual environments and installed packages are left out. A single file is fine, too.

    Raises:
        UsageError: there is no such path, or no Python file in it.
    """
    path = own_sources() if path is None else path
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    if path.is_file():
        if path.suffix != ".py":
            raise UsageError(f"{path} is not a Python file: give a .py file, or a folder that has some")
        return Sources(folder=path.resolve().parent, files=(path.name,), found=1)
    folder = path.resolve()
    files = sorted(_python_files(folder))
    if not files:
        raise UsageError(f"there are no Python files in {path}")
    return Sources(folder=folder, files=tuple(files[:limit]), found=len(files))


def own_sources() -> Path:
    """Return the folder `runtime` of a checkout, else the installed package."""
    package = Path(hivewire.__file__).parent
    is_checkout = package.parent.name == "runtime" and (package.parent.parent / "pyproject.toml").is_file()
    return package.parent if is_checkout else package


def _python_files(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if _may_hold_sources(Path(parent, each))]
        for name in files:
            path = os.path.relpath(Path(parent, name), folder)
            if name.endswith(".py") and _is_text(path):
                yield path


def _is_text(path: str) -> bool:
    """Tell whether a path is valid Unicode, as an agent's key has to be."""
    return path.isascii() or path.encode(errors="replace").decode() == path


def _may_hold_sources(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _NOT_SOURCES
    return not hidden and not (folder / "pyvenv.cfg").exists()
