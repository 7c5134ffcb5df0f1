"""Rules are read by Prometheus' own tool, and each alert fires, is silent, and has a page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from documents import blocks
from hivewire.cli.app import app
from k8s.monitoring.source.files import RULES
from k8s.monitoring.source.rules import ALERTS, RECORDINGS
from k8s.monitoring.source.rules.rule_file import Alert
from monitoring.prometheus import needs_promtool

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "k8s/monitoring/rules_tests").glob("*.yaml"))
ALERT_NAMES = [alert.name for alert in ALERTS]
_RECORDING_NAME = re.compile(r"[a-z_]+:hivewire_[a-z_]+:[a-z0-9_]+")


@needs_promtool
def test_prometheus_reads_the_rules() -> None:
    _promtool("check", "rules", str(ROOT / RULES))


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent_as_their_cases_say(path: Path) -> None:
    _promtool("test", "rules", str(path))


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(name: str) -> None:
    fires, silent = _cases(f"{name} fires"), _cases(f"{name} is silent")
    assert fires
    assert silent
    assert all(f'ALERTS{{alertname="{name}", alertstate="firing"' in _expected(case) for case in fires)
    assert all(f'ALERTS{{alertname="{name}"' in case and "ALERTS{" not in _expected(case) for case in silent)


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_has_a_page_that_says_what_to_do(name: str) -> None:
    page = (ROOT / f"docs/runbooks/{name}.md").read_text()
    headlines = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert headlines == [name, "What it means", "See more", "Usual causes", "What to do", "Resolved when"]


def test_every_page_is_of_an_alert_and_in_the_lists() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("Hivewire*.md")}
    assert pages == set(ALERT_NAMES)
    for listed in ("docs/runbooks/README.md", "docs/guides/monitoring.md"):
        text = (ROOT / listed).read_text()
        assert re.findall(r"^\| \[(Hivewire\w+)\]", text, re.MULTILINE) == ALERT_NAMES, listed


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_list_gives_the_severity_of_an_alert(alert: Alert) -> None:
    text = (ROOT / "docs/runbooks/README.md").read_text()
    assert f"| [{alert.name}]({alert.name}.md) | {alert.severity} |" in text


@needs_promtool
@pytest.mark.parametrize("number", range(2))
def test_the_scrape_configurations_of_the_guide_are_read(number: int, tmp_path: Path) -> None:
    guide = ROOT / "docs/guides/monitoring.md"
    configuration = [block.text for block in blocks(guide) if block.language == "yaml"][number]
    (tmp_path / "rules.yaml").write_text((ROOT / RULES).read_text())
    # Debian's Prometheus is built without Kubernetes.
    configuration = configuration.replace("kubernetes_sd_configs:\n  - role: pod", "static_configs: []")
    (tmp_path / "prometheus.yaml").write_text(configuration)
    _promtool("check", "config", str(tmp_path / "prometheus.yaml"))


def test_pages_show_only_commands_and_options_that_there_are() -> None:
    texts = [page.read_text() for page in (ROOT / "docs/runbooks").glob("*.md")]
    shown = {line for text in texts for line in re.findall(r"(?<![\w/-])hivewire ((?:[\w/-]+ ?)+)", _code(text))}
    assert len(shown) > 10
    for line in shown:
        _follow(line)


def _code(text: str) -> str:
    """Return what is shown as code, in blocks and in lines."""
    return "\n".join(block or span for block, span in re.findall(r"```bash\n(.*?)```|`([^`\n]+)`", text, re.DOTALL))


def _follow(line: str) -> None:
    """Go from command to command as a line does.

    Raises:
        KeyError: There is no such command.
        AssertionError: The command has no such option.
    """
    command: Any = typer.main.get_command(app)
    for word in line.split():
        if word.startswith("-"):
            assert any(word in parameter.opts for parameter in command.params), line
        elif hasattr(command, "commands"):
            command = command.commands[word]


def test_recorded_names_say_level_metric_and_operation() -> None:
    assert [rule.name for rule in RECORDINGS if not _RECORDING_NAME.fullmatch(rule.name)] == []


def _promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _cases(name: str) -> list[str]:
    """Return the texts of the cases whose names begin like that."""
    cases = [case for path in CASES for case in path.read_text().split("\n- name: ")[1:]]
    return [case for case in cases if case.startswith(f"{name} ")]


def _expected(case: str) -> str:
    """Return what is expected of the alert in a case."""
    return "".join(re.findall(r"exp_samples:(.*?)(?=\n  - |\Z)", case, re.DOTALL))
