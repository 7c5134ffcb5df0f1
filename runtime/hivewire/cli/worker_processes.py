"""Several processes that do the same, looked after by this one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from hivewire.cli.children import Child
from hivewire.cli.errors import CommandError
from hivewire.cli.pulse import STUCK_S, VARIABLE, PulseListener
from hivewire.cli.waiting import first_of
from hivewire.model.readiness import Readiness
from hivewire.telemetry.exposition import forget_process

log = logging.getLogger("hivewire.run")

_FIRST_PAUSE_S = 1.0
_LAST_PAUSE_S = 30.0
_GRACE_S = 10.0


class WorkerProcesses:
    """So many `hivewire` commands, each started again when it ends by itself.

    Args:
        arguments: Those of the command.
        environments: What is added to the environment of each.
        drain_timeout: How long the command may take to finish after SIGTERM, in seconds; it is killed some time later.
    """

    def __init__(
        self, arguments: Sequence[str], environments: Sequence[Mapping[str, str]], *, drain_timeout: float
    ) -> None:
        self._all = [
            _Worker(number, arguments, environment, kill_after_s=drain_timeout + _GRACE_S, on_ready=self._ready)
            for number, environment in enumerate(environments, start=1)
        ]
        self._draining = False

    async def run(self, stopped: asyncio.Event) -> None:
        """Keep them running until `stopped` is set; then they drain.

        Raises:
            CommandError: one ended before it took messages: it is the same with the others.
        """
        try:
            await first_of(self._stopped(stopped), *(each.keep() for each in self._all))
        finally:
            self._draining = True

    async def _stopped(self, stopped: asyncio.Event) -> None:
        await stopped.wait()
        self._draining = True
        log.info("%d processes drain", len(self._all))

    def readiness(self) -> Readiness:
        """Tell whether all of them take messages. May be called from any thread."""
        if self._draining:
            return Readiness(False, "the processes drain")
        return next((each for each in (worker.readiness() for worker in self._all) if not each), Readiness(True))

    def liveness(self) -> Readiness:
        """Tell whether all of them run. May be called from any thread."""
        if self._draining:
            # They end, one after the other.
            return Readiness(True)
        return next((each for each in (worker.liveness() for worker in self._all) if not each), Readiness(True))

    def _ready(self) -> None:
        if all(worker.readiness() for worker in self._all):
            log.info("%d processes take messages", len(self._all))


class _Worker:
    def __init__(
        self,
        number: int,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        kill_after_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        self._name = f"process {number}"
        self._arguments = arguments
        self._environment = environment
        self._kill_after_s = kill_after_s
        self._on_ready = on_ready
        self._was_ready = False
        self._pulse: PulseListener | None = None

    def readiness(self) -> Readiness:
        pulse = self._pulse
        if pulse is None:
            return Readiness(False, f"{self._name} does not run")
        return pulse.readiness or Readiness(False, f"{self._name}: {pulse.readiness.reason}")

    def liveness(self) -> Readiness:
        pulse = self._pulse
        if pulse is None:
            return Readiness(False, f"{self._name} does not run")
        if not pulse.is_alive():
            return Readiness(False, f"{self._name} has said nothing for {STUCK_S:g} s: a handler blocks its event loop")
        return Readiness(True)

    async def keep(self) -> None:
        """Run it until cancelled, then let it drain."""
        pause = _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            code = await self._run_once()
            if not self._was_ready:
                raise CommandError(f"{self._name} ended with exit code {code} before it took messages")
            if time.monotonic() - begun > _LAST_PAUSE_S:
                pause = _FIRST_PAUSE_S
            log.error("%s ended with exit code %d, and is started again in %g s", self._name, code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_S)

    async def _run_once(self) -> int:
        pulse = PulseListener(on_ready=self._ready)
        try:
            child = await Child.start(
                self._arguments,
                environment={**self._environment, VARIABLE: str(pulse.child_end)},
                pass_fds=[pulse.child_end],
            )
        except BaseException:
            pulse.end()
            raise
        finally:
            pulse.close_child_end()
        self._pulse = pulse
        log.info("%s has the id %d", self._name, child.pid)
        try:
            await child.ended()
        finally:
            code = await child.stop(self._kill_after_s)
            self._pulse = None
            pulse.end()
            forget_process(child.pid)
        return code

    def _ready(self) -> None:
        self._was_ready = True
        self._on_ready()
