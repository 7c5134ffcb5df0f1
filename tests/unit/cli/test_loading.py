"""Finding the user's setup function."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hivewire.cli.errors import UsageError, UserCodeError
from hivewire.cli.loading import Target


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_and_a_function_are_read() -> None:
    assert Target.parse("a.b:start") == Target("a.b", None, "start")


def test_the_function_is_setup_unless_it_is_named() -> None:
    assert Target.parse("a.b").setup == "setup"


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "agents.py").touch()
    assert Target.parse("agents.py:start") == Target("agents", tmp_path / "agents.py", "start")
    assert Target.parse(str(tmp_path / "agents.py")).setup == "setup"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("some/where", "there is no file some/where"),
        ("folder.py", "folder.py is not a file"),
        ("", "'' is neither a module"),
        ("a..b", "'a..b' is neither a module"),
        ("a-b:setup", "'a-b' is neither a module"),
        ("a:", "'' is not the name of a function"),
        ("a:b.c", "'b.c' is not the name of a function"),
    ],
)
def test_anything_else_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UsageError) as caught:
        Target.parse(text)
    assert says in str(caught.value)


def test_modules_of_the_working_directory_are_imported(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7\n")
    (tmp_path / "agents.py").write_text("from beside import VALUE\nasync def setup(runtime): return VALUE\n")
    assert Target.parse("agents").load().__name__ == "setup"


def test_a_file_sees_what_lies_beside_it_and_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "beside.py").write_text("VALUE = 7\n")
    (folder / "my-agents.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside import VALUE\n"
        "@dataclass\nclass Message:\n    value: int = VALUE\n"
        "async def setup(runtime): ...\n"
    )
    assert Target.parse("folder/my-agents.py").load().__name__ == "setup"
    assert sys.modules["my-agents"].Message().value == 7


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:setup", "there is no module 'nowhere'"),
        ("agents.inner:setup", "there is no module 'agents.inner'"),
        ("agents:absent", "write `async def absent(runtime)`"),
        ("agents:VALUE", "'VALUE' in agents is not a function"),
    ],
)
def test_what_is_missing_is_named(target: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("VALUE = 1\n")
    with pytest.raises(UsageError) as caught:
        Target.parse(target).load()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0\n", "agents raised ZeroDivisionError"),
        ("def (\n", "agents raised SyntaxError"),
        ("import nowhere_at_all\n", "agents raised ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_an_error_of_the_users_module_is_the_users(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(source)
    with pytest.raises(UserCodeError) as caught:
        Target.parse("agents").load()
    assert says in str(caught.value)
    assert caught.value.__cause__ is not None
