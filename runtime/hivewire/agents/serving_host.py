"""The life of a runtime that serves its agents over a network: connected, started, drained, stopped."""

from __future__ import annotations

import asyncio
import signal
import threading
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self

from hivewire.agents.hosting import AgentHost
from hivewire.exceptions import RuntimeStateError
from hivewire.model.contexts import MessageHandlerContext

__all__ = ["ServingHost"]

_IDLE_POLL_S: Final = 0.02


class ServingHost(AgentHost):
    """The part of such a runtime that has to do with its beginning and its end."""

    def __init__(self, *, strict_ids: bool, strict_payloads: bool, strict_unhandled: bool) -> None:
        super().__init__(strict_ids=strict_ids, strict_payloads=strict_payloads, strict_unhandled=strict_unhandled)
        self._state = "new"
        self._stopped = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    @abstractmethod
    async def start(self) -> None:
        """Begin to serve the registered agents."""

    async def stop(self) -> None:
        """Drain and disconnect: hand over all work, finish running handlers within `drain_timeout`, close agents.

        Calls of this process that still wait then get `RuntimeStateError`. Called from a handler it only begins to
        stop, because that handler is part of what is waited for. Calling it again waits for the same stop.
        """
        if self._stopping is None:
            if self._state in ("new", "stopped"):
                self._state = "stopped"
                for agent_id in self._catalog.live_ids():
                    await self._catalog.passivate(agent_id)
                self._stopped.set()
                return
            self._stopping = asyncio.create_task(self._stop(), name="hivewire: stop")
        if MessageHandlerContext.current() is None:
            await asyncio.shield(self._stopping)

    async def close(self) -> None:
        """Stop; see `stop`."""
        await self.stop()

    async def stop_when_idle(self) -> None:
        """Stop once nothing runs in this process and no event waits that is its to handle.

        Called from a handler it returns at once, because that handler is part of what is waited for.

        Raises:
            RuntimeStateError: it is not started.
        """
        self._expect("started")
        if MessageHandlerContext.current() is None:
            await self._stop_once_idle()
        else:
            self._start_task(self._stop_once_idle(), "hivewire: stop when idle")

    async def stop_when_signal(self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Wait for one of these signals, then stop."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        for each in signals:
            loop.add_signal_handler(each, came.set)
        try:
            ended = asyncio.ensure_future(self._stopped.wait())
            signalled = asyncio.ensure_future(came.wait())
            await asyncio.wait((ended, signalled), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            signalled.cancel()
        finally:
            for each in signals:
                loop.remove_signal_handler(each)
        await self.stop()
        self._raise_failure()

    async def wait_until_stopped(self) -> None:
        """Return once the runtime has stopped, whoever stopped it; after a failure of its own it raises that.

        While this waits in the main thread, SIGTERM and SIGINT stop the runtime, unless the program handles them
        itself.
        """
        unhandled = [each for each in (signal.SIGTERM, signal.SIGINT) if _is_default(each)]
        if unhandled and threading.current_thread() is threading.main_thread():
            await self.stop_when_signal(unhandled)
        else:
            await self._stopped.wait()
            self._raise_failure()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    async def _stop(self) -> None: ...

    @abstractmethod
    async def _is_idle(self) -> bool: ...

    @abstractmethod
    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> None: ...

    def _raise_failure(self) -> None:
        """Raise what the runtime failed with, if it did."""

    async def _stop_once_idle(self) -> None:
        # What waits at the broker can only be asked for.
        while not await self._is_idle():  # noqa: ASYNC110
            await asyncio.sleep(_IDLE_POLL_S)
        await self.stop()

    def _expect(self, state: str) -> None:
        if self._state != state:
            raise RuntimeStateError(f"The runtime is {self._state}, and this needs one that is {state}")

    def _check_connected(self) -> None:
        if self._state not in ("connected", "starting", "started", "stopping"):
            raise RuntimeStateError(
                f"The runtime is {self._state}: await connect() or start() before sending, and don't send after stop()"
            )


def _is_default(signal_number: signal.Signals) -> bool:
    return signal.getsignal(signal_number) in (signal.SIG_DFL, signal.default_int_handler)
