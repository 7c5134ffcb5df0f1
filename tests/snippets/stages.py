"""The runtimes on which the documented examples run."""

from typing import Any, Self

from hivewire import AgentRuntime, HttpAgentRuntime, NatsAgentRuntime, SingleThreadedAgentRuntime
from snippets.documented_examples import Notebook


class Stage:
    """Makes runtimes of one kind, and notebooks whose examples use that kind; all of them end with the test.

    The address is that of a broker, or of a gateway, or None for runtimes in one process.
    """

    def __init__(self, broker_url: str | None) -> None:
        self._broker_url = broker_url
        self._runtimes: list[AgentRuntime] = []
        self._notebooks: list[Notebook] = []

    @property
    def over_http(self) -> bool:
        return self._broker_url is not None and self._broker_url.startswith("http")

    @property
    def over_nats(self) -> bool:
        return self._broker_url is not None and not self.over_http

    def runtime(self, **options: Any) -> Any:
        """Make a runtime that is not started. Messages are serialized in one process too, as in a distributed one."""
        runtime: AgentRuntime
        if self._broker_url is None:
            runtime = SingleThreadedAgentRuntime(**{"serialize_messages": True, **options})
        elif self.over_http:
            runtime = HttpAgentRuntime(self._broker_url, **options)
        else:
            runtime = NatsAgentRuntime(self._broker_url, **options)
        self._runtimes.append(runtime)
        return runtime

    def notebook(self, **names: Any) -> Notebook:
        if self._broker_url is not None:
            names = {"broker_url": self._broker_url, **names}
        notebook = Notebook(over_nats=self.over_nats, over_http=self.over_http, **names)
        self._notebooks.append(notebook)
        return notebook

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for notebook in self._notebooks:
            kinds = SingleThreadedAgentRuntime | NatsAgentRuntime | HttpAgentRuntime
            self._runtimes += [each for each in notebook.values() if isinstance(each, kinds)]
            notebook.close()
        for runtime in self._runtimes:
            await runtime.close()
