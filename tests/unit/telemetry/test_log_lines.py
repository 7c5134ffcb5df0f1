"""`configure_logging` in programs."""

import json
import os
import pty
import subprocess
import sys

import pytest

from hivewire.telemetry import configure_logging

PROGRAM = """
import logging
import structlog
from hivewire.telemetry import configure_logging
{before}
configure_logging()
logging.getLogger("shop").setLevel(logging.INFO)
logging.getLogger("shop").info("from %s", "logging", extra={{"number": 1}})
structlog.get_logger("shop").info("from %s", "structlog", number=2)
structlog.get_logger("shop").debug("not shown")
logging.getLogger("autogen_core.events").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("shop").exception("failed")
"""


def lines_of(before: str = "", **environment: str) -> list[str]:
    program = PROGRAM.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return (done.stdout + done.stderr).splitlines()


def test_without_a_terminal_all_loggers_write_json() -> None:
    logged, structured, failed = map(json.loads, lines_of())
    assert (logged["event"], logged["logger"], logged["number"]) == ("from logging", "shop", 1)
    assert (structured["event"], structured["level"], structured["number"]) == ("from structlog", "info", 2)
    assert failed["exception"].endswith("ZeroDivisionError: division by zero")


def test_on_a_terminal_it_is_text() -> None:
    ours, theirs = pty.openpty()
    try:
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(before="")], stderr=theirs, env=environment, check=True, timeout=60
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "from logging" in shown and "\x1b[" in shown and "Traceback (most recent call last):\r\n" in shown


def test_a_program_that_has_set_up_logging_keeps_its_own() -> None:
    before = "logging.basicConfig(format='mine: %(message)s')\nstructlog.configure(processors=[lambda *given: 'own'])"
    assert "mine: from logging" in lines_of(before)
    assert sum(line == "own" for line in lines_of(before)) >= 2


def test_the_environment_asks_for_text() -> None:
    assert "from logging [shop]" in lines_of(HIVEWIRE_LOG_FORMAT="text")[0]


def test_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'xml' is no log format: expected one of auto, json, text"):
        configure_logging("xml")
    monkeypatch.setenv("HIVEWIRE_LOG_FORMAT", "yaml")
    with pytest.raises(ValueError, match="'yaml'"):
        configure_logging()
