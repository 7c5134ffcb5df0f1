"""The way from a component's provider string to its class.

A configuration may come from anywhere, and importing a module runs it. So nothing is imported but modules of trusted
namespaces: Hivewire's own, modules named `test_*`, and those that the environment lists.
"""

import importlib
import os
from types import ModuleType

__all__ = ["provider_of", "resolve_provider"]

_NAMESPACE_LISTS = ("HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", "AUTOGEN_ALLOWED_PROVIDER_NAMESPACES")


def provider_of(cls: type) -> str:
    """Return the dotted path under which `cls` can be imported, unless it is a local class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def resolve_provider(provider: str) -> type:
    """Import the class that a dotted path names, nested classes included.

    `autogen_core.` paths lead to the Hivewire class of the same name. The environment variables
    `HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES` and `AUTOGEN_ALLOWED_PROVIDER_NAMESPACES` list further trusted packages,
    separated by commas.

    Raises:
        ValueError: the path is malformed, outside the trusted namespaces, or leads to no class.
    """
    names = provider.split(".")
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise ValueError(f"The provider {provider!r} is not a dotted path such as 'package.module.Class'.")
    if names[0] == "autogen_core":
        names = ["hivewire", names[-1]]
    if not _is_trusted(names[:-1]):
        raise ValueError(
            f"The provider {provider!r} is outside the trusted namespaces, so it is not imported. "
            f"Add its package to the environment variable {_NAMESPACE_LISTS[0]} if you trust it."
        )
    module, rest = _import_longest(names[:-1])
    found: object = module
    for name in [*rest, names[-1]]:
        # Only classes are passed through: a module's own imports would lead out of the trusted namespaces.
        found = getattr(found, name, None)
        if not isinstance(found, type):
            raise ValueError(f"The provider {provider!r} names no class: there is no class {name!r} in its place.")
    assert isinstance(found, type)
    return found


def _is_trusted(module_names: list[str]) -> bool:
    if module_names[0] == "hivewire" or any(name.startswith("test_") for name in module_names):
        return True
    path = ".".join(module_names) + "."
    entries = ",".join(os.environ.get(variable, "") for variable in _NAMESPACE_LISTS).split(",")
    return any(path.startswith(f"{entry.strip().rstrip('.')}.") for entry in entries if entry.strip(" ."))


def _import_longest(names: list[str]) -> tuple[ModuleType, list[str]]:
    """Import the longest prefix of `names` that is a module; return it and the rest, the names of outer classes."""
    for length in range(len(names), 0, -1):
        path = ".".join(names[:length])
        try:
            return importlib.import_module(path), names[length:]
        except ModuleNotFoundError as error:
            # A module that exists but lacks one of its own imports is its own error, not a wrong path.
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
    raise ValueError(f"There is no module {'.'.join(names)!r}, which a provider names.")
