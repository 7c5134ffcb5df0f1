"""The runtimes on which the documented examples run."""

from typing import Any, Self

from hivewire import AgentRuntime, NatsAgentRuntime, SingleThreadedAgentRuntime
from snippets.documented_examples import Notebook


class Stage:
    """Makes runtimes of one kind, and notebooks whose examples use that kind; all of them end with the test."""

    def __init__(self, broker_url: str | None) -> None:
        self._broker_url = broker_url
        self._runtimes: list[AgentRuntime] = []
        self._notebooks: list[Notebook] = []

    @property
    def over_nats(self) -> bool:
        return self._broker_url is not None

    def runtime(self, **options: Any) -> Any:
        """Make a runtime that is not started. Messages are serialized in one process too, as in a distributed one."""
        runtime: AgentRuntime
        if self._broker_url is None:
            runtime = SingleThreadedAgentRuntime(**{"serialize_messages": True, **options})
        else:
            runtime = NatsAgentRuntime(self._broker_url, **options)
        self._runtimes.append(runtime)
        return runtime

    def notebook(self, **names: Any) -> Notebook:
        if self._broker_url is not None:
            names = {"broker_url": self._broker_url, **names}
        notebook = Notebook(over_nats=self.over_nats, **names)
        self._notebooks.append(notebook)
        return notebook

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for notebook in self._notebooks:
            self._runtimes += [
                each for each in notebook.values() if isinstance(each, SingleThreadedAgentRuntime | NatsAgentRuntime)
            ]
            notebook.close()
        for runtime in self._runtimes:
            await runtime.close()
