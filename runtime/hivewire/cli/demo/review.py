"""Reviews one Python file. Knows nothing of agents."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 7
MIN_WORD_CHARS = 5

KINDS = {
    "syntax": "can't be parsed",
    "long": f"functions of over {MAX_FUNCTION_LINES} lines",
    "parameters": f"functions of over {MAX_PARAMETERS} parameters",
    "docstring": "public names without a docstring",
    "except": "broad excepts that swallow the error",
    "default": "mutable defaults",
    "todo": "TODO comments",
    "word": "words in names that occur nowhere else (typos?)",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at in a file. `kind` is one of the keys of `KINDS`."""

    kind: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What there is in a file, and what is to be looked at. `names` are those that it defines, with their lines."""

    lines: int
    functions: int
    names: dict[str, int]
    findings: list[Finding]


def review(text: str) -> Reviewed:
    """Review a source; one that can't be parsed is a finding."""
    lines = text.count("\n") + 1
    try:
        tree = _parsed(text)
    except _UNPARSABLE as error:
        problem = Finding("syntax", getattr(error, "lineno", None) or 1, getattr(error, "msg", None) or str(error))
        return Reviewed(lines=lines, functions=0, names={}, findings=[problem])
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    names = {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, Function | ast.ClassDef)}
    findings = [*_of_functions(functions), *_docstrings(tree.body), *_excepts(tree), *_todos(text)]
    findings.sort(key=lambda finding: finding.line)
    return Reviewed(lines=lines, functions=len(functions), names=names, findings=findings)


def count_words(text: str) -> Counter[str]:
    """Count the words in the identifiers of a source; none if it can't be parsed."""
    try:
        tree = _parsed(text)
    except _UNPARSABLE:
        return Counter()
    return Counter(word for node in ast.walk(tree) for name in _identifiers(node) for word in words_of(name))


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case: `readHTTPHeader_fast` is read, http, header, fast."""
    return [word.lower() for word in _WORD.findall(name)]


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_TODO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        # Such as an invalid escape in a string: somebody else's source is not this process's concern.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(text)


def _identifiers(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            yield name
        case ast.ImportFrom(module=str(module)):
            yield module
        case ast.alias(name=name, asname=asname):
            yield name
            yield asname or ""


def _of_functions(functions: list[Function]) -> Iterator[Finding]:
    for function in functions:
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield Finding("long", function.lineno, f"{function.name} has {length} lines")
        arguments = function.args
        parameters = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
        if parameters > MAX_PARAMETERS:
            yield Finding("parameters", function.lineno, f"{function.name} takes {parameters} parameters")
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if isinstance(default, ast.List | ast.Dict | ast.Set):
                yield Finding("default", default.lineno, f"{function.name} shares a default between its calls")


def _docstrings(body: list[ast.stmt]) -> Iterator[Finding]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node, clean=False) is None:
                yield Finding("docstring", node.lineno, f"{node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                yield from _docstrings(node.body)


def _excepts(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or not _is_broad(node.type):
            continue
        if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            yield Finding("except", node.lineno, f"catches {caught} and does not raise")


def _is_broad(caught: ast.expr | None) -> bool:
    return caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))


def _todos(text: str) -> Iterator[Finding]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and _TODO.search(token.string):
                yield Finding("todo", token.start[0], token.string.lstrip("# ")[:80])
    except (tokenize.TokenError, SyntaxError):
        # What the parser takes, the tokenizer may still refuse.
        return
