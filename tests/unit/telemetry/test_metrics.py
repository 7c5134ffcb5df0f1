"""The page about metrics lists what there is."""

import re

from prometheus_client import Counter, Gauge, Histogram

from documents import ROOT
from hivewire.telemetry import metrics

ROW = re.compile(r"^\| `(hivewire_\w+)` \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def test_the_page_lists_each_metric_with_its_labels_and_what_it_says_of_itself() -> None:
    listed = [
        (name, set(re.findall(r"`(\w+)`", labels)), text)
        for name, labels, text in ROW.findall((ROOT / "docs" / "guides" / "metrics.md").read_text())
    ]
    declared = [
        (
            each._name + ("_total" if isinstance(each, Counter) else ""),
            set(each._labelnames) - {"system"},
            each._documentation,
        )
        for each in vars(metrics).values()
        if isinstance(each, Counter | Gauge | Histogram)
    ]
    assert sorted(listed, key=str) == sorted(declared, key=str)


def test_every_metric_names_the_system() -> None:
    declared = [each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)]
    assert [each._name for each in declared if each._labelnames[0] != "system"] == []
    assert [
        each._name for each in declared if isinstance(each, Gauge) and not each._multiprocess_mode.startswith("live")
    ] == []
