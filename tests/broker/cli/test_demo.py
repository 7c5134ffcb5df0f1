"""`hivewire demo` with real processes on small folders."""

import os
import re
import signal
import sys
from pathlib import Path

import pydantic
import pytest

from broker.cli.commands import CommandLine, eventually, is_running
from broker.cli.test_dev import children_of

SOURCES = {
    "well.py": '"""Fine."""\n\n\ndef read_data(path):\n    """Reads."""\n    return path\n',
    "less/well.py": "def recieve_data(path, items=[]):\n    # TODO: more\n    return read_data(path)\n",
    "broken.py": "def (:\n",
    "odd.py": "# -*- coding: nonsense -*-\n",
    "ünï/cödé ✓.py": "def größe():\n    pass\n",
    ".hidden/not.py": "1 / 0\n",
    "notes.txt": "no python",
}


MANY_FILES = [str(Path(pydantic.__file__).parents[1]), "--limit", "250"]
"""So many that a demo does not end by itself meanwhile."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    for name, text in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_every_file_is_reviewed_once_and_the_report_and_the_numbers_are_shown(cli: CommandLine, folder: Path) -> None:
    started = cli.start("demo", str(folder))
    assert started.ends() == 0, started.output
    shown = started.output
    assert f"Four processes review 5 Python files in {folder}." in shown
    assert "4 of 4 files reviewed" in shown
    assert "Every file was reviewed once, in the process that has its key." in shown
    assert re.search(r"reviewer-1 +\d+ +(\d) files", shown) and re.search(r"reviewer-2 +\d+ +(\d) files", shown)
    assert sum(int(each) for each in re.findall(r"reviewer-\d +\d+ +(\d) files", shown)) == 4
    assert re.search(r"reporter +\d+ +4 of 4 reviews", shown)
    for finding in ("1  can't be parsed", "1  TODO comments", "1  mutable defaults", "'recieve' in recieve_data"):
        assert finding in shown, finding
    assert "Left out: odd.py: unknown encoding" in shown
    assert re.search(r"messages in [\d.]+ s, [\d,]+ a second", shown)
    assert re.search(r"after [\d.]+ ms \(p50\), [\d.]+ ms \(p99\)", shown)
    assert "Try next" in shown


def test_the_number_of_files_can_be_limited(cli: CommandLine, folder: Path) -> None:
    shown = cli.prints("demo", str(folder), "--limit", "2")
    assert "Four processes review 2 Python files (the first of 5; --limit takes more)" in shown
    assert "2 of 2 files reviewed" in shown


def test_one_file_will_do(cli: CommandLine, folder: Path) -> None:
    assert "1 of 1 files reviewed" in cli.prints("demo", str(folder / "well.py"))


def test_a_path_that_does_not_exist_is_one_line(cli: CommandLine) -> None:
    assert cli.fails("demo", "nowhere", code=2) == "hivewire: there is no file or folder nowhere"


def test_a_path_without_python_files_is_one_line(cli: CommandLine) -> None:
    (cli.directory / "empty").mkdir()
    assert cli.fails("demo", "empty", code=2) == "hivewire: there are no Python files in empty"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running_however_it_ends(cli: CommandLine, number: signal.Signals) -> None:
    started = cli.start("demo", *MANY_FILES)
    started.shows("files reviewed")
    processes = children_of(started.pid)
    processes += [grandchild for child in processes for grandchild in children_of(child)]
    assert len(processes) >= 6
    started.signal(number)
    assert started.ends() == (-number if number is signal.SIGKILL else 130)
    assert "Traceback" not in started.output
    eventually(lambda: not any(map(is_running, processes)), "processes are left running")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_end_of_one_of_its_processes_is_told(cli: CommandLine) -> None:
    started = cli.start("demo", *MANY_FILES)
    started.shows("files reviewed")
    reviewer = next(
        child for child in children_of(started.pid) if b"reviewer" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    os.kill(reviewer, signal.SIGKILL)
    assert started.ends() == 1
    assert re.search(r"hivewire: the process reviewer-[12] ended with exit code -9", started.output)
    assert "Traceback" not in started.output
