"""Which files the demo reviews."""

from pathlib import Path

import pytest

import hivewire
from hivewire.cli.demo.sources import find_sources, own_sources
from hivewire.cli.errors import UsageError


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_python_files_below_a_folder_are_found_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.py", "a/c.py", "a/d.txt", "é.py")
    assert find_sources(tmp_path, limit=10).files == ("a/c.py", "b.py", "é.py")


def test_what_is_not_somebodys_source_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.py", ".git/b.py", "env/pyvenv.cfg", "env/c.py", "__pycache__/d.py", "node_modules/e.py")
    assert find_sources(tmp_path, limit=10).files == ("a.py",)


def test_a_name_that_is_not_unicode_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "\udcff.py")
    assert find_sources(tmp_path, limit=10).files == ("a.py",)


def test_folders_that_contain_themselves_by_a_link_end(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_sources(tmp_path, limit=10).files == ("a.py",)


def test_no_more_than_the_limit_are_taken_and_all_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py", "c.py")
    sources = find_sources(tmp_path, limit=2)
    assert (sources.files, sources.found) == (("a.py", "b.py"), 3)


def test_one_file_will_do(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py")
    sources = find_sources(tmp_path / "b.py", limit=2)
    assert (sources.folder, sources.files) == (tmp_path, ("b.py",))


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere", "there is no file or folder"), ("", "no Python files in"), ("a.txt", "not a Python")]
)
def test_what_has_no_sources_is_refused(name: str, says: str, tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(UsageError, match=says):
        find_sources(tmp_path / name, limit=2)


def test_hivewires_own_sources_are_those_of_the_checkout_or_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "runtime/hivewire/__init__.py", "site-packages/hivewire/__init__.py")
    monkeypatch.setattr(hivewire, "__file__", str(tmp_path / "site-packages/hivewire/__init__.py"))
    assert own_sources() == tmp_path / "site-packages/hivewire"
    monkeypatch.setattr(hivewire, "__file__", str(tmp_path / "runtime/hivewire/__init__.py"))
    assert own_sources() == tmp_path / "runtime/hivewire"
    make(tmp_path, "pyproject.toml")
    assert own_sources() == tmp_path / "runtime"
