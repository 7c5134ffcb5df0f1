"""The queries of dashboards and rules, and what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import promql_parser as promql

from k8s.monitoring.source.files import DASHBOARDS
from k8s.monitoring.source.rules import ALERTS, RECORDINGS

ROOT = Path(__file__).parents[2]
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An expression, and where it stands."""

    place: str
    expr: str


@dataclass(slots=True)
class Named:
    """What an expression names: labels by metric, those of its matchers and of the aggregations above."""

    labels: dict[str, set[str]] = field(default_factory=dict)

    def add(self, metric: str, labels: set[str]) -> None:
        self.labels.setdefault(metric, set()).update(labels)


def panel_queries() -> list[Located]:
    """Return those of all panels of the dashboards' files."""
    return [
        Located(place=f"{path.stem} / {panel['title']} / {target['refId']}", expr=target["expr"])
        for path in sorted((ROOT / DASHBOARDS).glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def variable_queries() -> list[Located]:
    """Return those of variables, as aggregations by the label whose values are asked for."""
    return [
        Located(place=f"{path.stem} / ${variable['name']}", expr=_LABEL_VALUES.sub(r"sum by (\2) (\1)", text))
        for path in sorted((ROOT / DASHBOARDS).glob("*.json"))
        for variable in json.loads(path.read_text())["templating"]["list"]
        if _LABEL_VALUES.fullmatch(text := variable["query"])
    ]


def rule_queries() -> list[Located]:
    return [Located(place=rule.name, expr=rule.expr) for rule in (*RECORDINGS, *ALERTS)]


def filled(expr: str, *, system: str = ".*", window: str = "10s") -> str:
    """Put values in the place of Grafana's variables."""
    values = {"$namespace": system, "$agent_type": ".*", "$__rate_interval": window}
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def named(expr: str) -> Named:
    """Return what an expression names.

    Raises:
        ValueError: It is none of PromQL.
    """
    found = Named()
    _visit(promql.parse(expr), set(), found)
    return found


def outer_labels(expr: str) -> set[str]:
    """Return the labels of an expression's result: those of its outermost aggregation, without what buckets have."""
    return next(_aggregations(promql.parse(expr))) - {"le"}


def _aggregations(tree: promql.Expr) -> Iterator[set[str]]:
    if isinstance(tree, promql.AggregateExpr):
        yield set(tree.modifier.labels if tree.modifier else ())
    for child in _children(tree):
        yield from _aggregations(child)


def _visit(tree: promql.Expr, above: set[str], found: Named) -> None:
    match tree:
        case promql.VectorSelector():
            assert tree.name is not None, "a selector has no name"
            found.add(tree.name, above | {matcher.name for matcher in tree.matchers.matchers})
        case promql.AggregateExpr():
            _visit(tree.expr, above | set(tree.modifier.labels if tree.modifier else ()), found)
        case promql.BinaryExpr():
            # The left side has all the labels that the result has; the right side those that it is matched on.
            matched = set(tree.modifier.matching.labels) if tree.modifier and tree.modifier.matching else set()
            _visit(tree.lhs, above | matched, found)
            _visit(tree.rhs, matched or above, found)
        case _:
            for child in _children(tree):
                _visit(child, above, found)


def _children(tree: promql.Expr) -> Iterator[promql.Expr]:
    match tree:
        case promql.MatrixSelector():
            yield tree.vector_selector
        case promql.Call():
            yield from (argument for argument in tree.args if isinstance(argument, promql.Expr))
        case promql.BinaryExpr():
            yield from (tree.lhs, tree.rhs)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr() | promql.AggregateExpr():
            yield tree.expr
