"""The names of the package are imported at their first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hivewire


def test_what_is_imported_lazily_is_what_type_checkers_see() -> None:
    tree = ast.parse(Path(hivewire.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == hivewire._HOMES
    assert sorted([*seen, "__version__"]) == sorted(hivewire.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, hivewire; "
        "print([name for name in ('asyncio', 'nats', 'pydantic', 'google.protobuf', 'opentelemetry') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_public_submodules_are_there_without_an_import_of_their_own() -> None:
    program = "import hivewire; print(hivewire.exceptions.HivewireError.__name__, hivewire.logging.ROOT_LOGGER_NAME)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "HivewireError autogen_core\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'hivewire' has no attribute 'Nothing'"):
        getattr(hivewire, "Nothing")  # noqa: B009
    with pytest.raises(ImportError):
        exec("from hivewire import Nothing")


def test_a_name_is_the_same_object_each_time() -> None:
    from hivewire.model.ids import AgentId

    assert hivewire.AgentId is AgentId is hivewire.AgentId


def test_dir_names_what_is_not_imported_yet() -> None:
    assert set(hivewire.__all__) <= set(dir(hivewire))
