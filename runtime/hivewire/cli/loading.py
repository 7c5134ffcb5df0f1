"""Finds the user's `async def setup(runtime)` in a module or a file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hivewire.cli.errors import UsageError, UserCodeError

DEFAULT_SETUP = "setup"

Setup = Callable[[Any], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a setup function is: its name in a file, or in a module when `path` is None."""

    module: str
    path: Path | None
    setup: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``package.module:setup`` or ``folder/file.py:setup``; the setup's name may be left out.

        Raises:
            UsageError: it is neither, or the file doesn't exist.
        """
        place, colon, setup = text.rpartition(":")
        if not colon:
            place, setup = text, DEFAULT_SETUP
        if not setup.isidentifier():
            raise UsageError(f"{setup!r} is not the name of a function: expected MODULE:SETUP")
        if place.endswith(".py") or os.sep in place:
            path = Path(place)
            if not path.is_file():
                raise UsageError(f"there is no file {place}" if not path.exists() else f"{place} is not a file")
            return cls(path.stem, path.resolve(), setup)
        if not all(part.isidentifier() for part in place.split(".")):
            raise UsageError(f"{place!r} is neither a module, such as package.module, nor a file that ends in .py")
        return cls(place, None, setup)

    def __str__(self) -> str:
        return f"{self.path or self.module}:{self.setup}"

    def load(self) -> Setup:
        """Import the module and return the function. Modules are looked for in the working directory first, and beside
        a file.

        Raises:
            UsageError: there is no such module, or no such function in it.
            UserCodeError: the module raised an error.
        """
        sys.path.insert(0, str(self.path.parent) if self.path else os.getcwd())
        importlib.invalidate_caches()
        module = self._import()
        setup = getattr(module, self.setup, None)
        if setup is None:
            raise UsageError(
                f"{self.path or self.module} has no {self.setup!r}: write `async def {self.setup}(runtime)`"
            )
        if not callable(setup):
            raise UsageError(f"{self.setup!r} in {self.path or self.module} is not a function")
        found: Setup = setup
        return found

    def _import(self) -> ModuleType:
        try:
            return importlib.import_module(self.module) if self.path is None else _import_file(self.module, self.path)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and self._is_missing(error.name):
                raise UsageError(
                    f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages"
                ) from None
            raise UserCodeError(f"{self.path or self.module} raised {type(error).__name__}: {error}") from error

    def _is_missing(self, name: str | None) -> bool:
        return self.path is None and name is not None and f"{self.module}.".startswith(f"{name}.")


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and type hints look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
