"""The documented examples of the agent API, and a notebook that runs them as they are printed.

The text files beside this module hold the examples by topic, numbered through, and the output that some of them
promise. An example's text is changed in two respects only: the package it imports from is called `hivewire`, and over
a network the runtime is a `NatsAgentRuntime` with the test's broker or an `HttpAgentRuntime` with its gateway, whose
`start` has to be awaited. Names that an example uses and does not define come from the notebook.
"""

import ast
import inspect
import re
import sys
import types
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from hivewire import HttpAgentRuntime, NatsAgentRuntime

DIRECTORY = Path(__file__).parent

_EXAMPLE = re.compile(
    r"^## (?P<number>\d+)\. (?P<title>[^\n]+)\n\n"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```\n"
    r"(?:\n^```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_HTTP_URL = re.compile(r'AgentRuntime\("http://[^"]*"\)')
_UNAWAITED_START = re.compile(r"^(\s*)(\w+)\.start\(\)", re.MULTILINE)
_namespaces = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One printed example; `output` is what it promises to print."""

    number: int
    title: str
    language: str
    text: str
    output: str | None

    def source(self, *, over_nats: bool = False, over_http: bool = False) -> str:
        """Return the text to run."""
        text = self.text.replace("autogen_core", "hivewire")
        if over_nats or over_http:
            name = "HttpAgentRuntime" if over_http else "NatsAgentRuntime"
            text = text.replace("from autogen_http_runtime.runtimes.http import Http", "from hivewire import Http")
            text = text.replace("HttpWorkerAgentRuntime", name)
            text = text.replace("SingleThreadedAgentRuntime()", f"{name}(broker_url)")
            text = _HTTP_URL.sub("AgentRuntime(broker_url)", text)
            text = _UNAWAITED_START.sub(r"\1await \2.start()", text)
        return text


def example(number: int) -> Example:
    """Return the example of that number."""
    return _all_examples()[number]


@cache
def _all_examples() -> dict[int, Example]:
    found: dict[int, Example] = {}
    for document in sorted(DIRECTORY.glob("*.txt")):
        for match in _EXAMPLE.finditer(document.read_text()):
            number = int(match["number"])
            assert number not in found, f"two examples have the number {number}"
            found[number] = Example(
                number=number,
                title=match["title"],
                language=match["language"],
                text=match["text"],
                output=match["output"],
            )
    return found


class Notebook:
    """Runs texts one after the other in one namespace, which is that of a module.

    Values are read and written as items: `notebook["agent"]`. Over a network the namespace needs a `broker_url`, which
    is that of the gateway over HTTP.
    """

    def __init__(self, *, over_nats: bool = False, over_http: bool = False, **names: Any) -> None:
        self._network = {"over_nats": over_nats, "over_http": over_http}
        # The test_ at the front makes components of this module loadable: such modules are trusted.
        self._module = types.ModuleType(f"test_documented_example_{next(_namespaces)}")
        # Hints are resolved, and classes of messages found, through the modules that define them.
        sys.modules[self._module.__name__] = self._module
        if over_nats:
            self["NatsAgentRuntime"] = NatsAgentRuntime
        if over_http:
            self["HttpAgentRuntime"] = HttpAgentRuntime
        self._module.__dict__.update(names)

    def __getitem__(self, name: str) -> Any:
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._module.__dict__[name] = value

    def values(self) -> list[Any]:
        """Return all values of the namespace."""
        return list(self._module.__dict__.values())

    def close(self) -> None:
        """Forget the module."""
        sys.modules.pop(self._module.__name__, None)

    async def run(self, *numbers: int) -> Any:
        """Run examples, and return the value of the last one's last line if that is an expression, else None."""
        value = None
        for number in numbers:
            value = await self.run_text(example(number).source(**self._network), name=f"example {number}")
        return value

    async def run_text(self, text: str, *, name: str = "text") -> Any:
        """Run a text that may await outside of functions; returns as `run`."""
        namespace = self._module.__dict__
        namespace["_"] = None
        tree = ast.parse(text, filename=name)
        if tree.body and isinstance(last := tree.body[-1], ast.Expr):
            tree.body[-1] = ast.copy_location(
                ast.Assign(targets=[ast.Name(id="_", ctx=ast.Store())], value=last.value), last
            )
            ast.fix_missing_locations(tree)
        # Without dont_inherit, the future statements of this module would hold for the text.
        code = compile(tree, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        outcome = eval(code, namespace)
        if inspect.isawaitable(outcome):
            await outcome
        return namespace.pop("_")
