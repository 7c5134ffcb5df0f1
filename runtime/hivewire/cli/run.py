"""`hivewire run`: what a pod runs. Sets agents up, serves them until a signal comes, and drains."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass

from hivewire.cli.connection import checked_subjects, checked_worker_broker
from hivewire.cli.errors import CommandError, UserCodeError
from hivewire.cli.exporting import export_spans
from hivewire.cli.health_port import health_server
from hivewire.cli.lifeline import follow_parent
from hivewire.cli.loading import Setup, Target
from hivewire.cli.log_setup import LogSetup
from hivewire.cli.pulse import Pulse
from hivewire.cli.signals import stop_signal
from hivewire.cli.waiting import first_of
from hivewire.distributed import NatsAgentRuntime
from hivewire.exceptions import RuntimeStateError
from hivewire.health import HealthServer
from hivewire.nats.options import OptionKeywords
from hivewire.telemetry.exposition import forget_process

log = logging.getLogger("hivewire.run")


def run(
    target: str,
    *,
    broker: str,
    namespace: str,
    deployment: str,
    instance_id: str,
    drain_timeout: float,
    log_level: str,
    log_format: str,
    credentials: str,
    health: tuple[str, int] | None,
) -> None:
    """Serve the agents that a setup function registers; return after a drain.

    Args:
        health: Host and port to tell there how the process is.

    Raises:
        UsageError: something that was typed is malformed, or there is no such function.
        UserCodeError: the module or the function raised an error.
        CommandError: the function started the runtime itself, or the port for the health is taken.
        HivewireError: no broker answers, or it can't be used.
    """
    follow_parent()
    # A process of the same id may have ended before this one began.
    forget_process(os.getpid())
    options: OptionKeywords = {
        "namespace": checked_subjects(namespace).namespace,
        "deployment": deployment,
        "drain_timeout": drain_timeout,
        "credentials": credentials or None,
    }
    url = checked_worker_broker(broker)
    log_setup = LogSetup.of(level=log_level, form=log_format)
    place = Target.parse(target)
    setup = place.load()
    log_setup.begin()
    runtime = NatsAgentRuntime(url, instance_id=instance_id or None, **options)
    stop_exporting = export_spans(service=runtime.deployment, instance=runtime.instance_id)
    with nullcontext() if health is None else health_server(*health, readiness=lambda: runtime.ready) as server:
        service = _Service(
            runtime=runtime,
            setup=setup,
            place=place,
            is_embedded=url == "embedded",
            log_setup=log_setup,
            health=server,
            pulse=Pulse.of_child(),
        )
        try:
            asyncio.run(service.serve())
        finally:
            stop_exporting()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """A runtime with the agents that a setup function registers."""

    runtime: NatsAgentRuntime
    setup: Setup
    place: Target
    is_embedded: bool
    log_setup: LogSetup
    health: HealthServer | None
    pulse: Pulse | None

    async def serve(self) -> None:
        """Serve until a signal comes or the runtime stops by itself."""
        beats = [] if self.health is None else [self.health.beat_on()]
        if self.pulse is not None:
            beats.append(self.pulse.beat_on(lambda: self.runtime.ready))
        await first_of(self._serve(), *beats)

    async def _serve(self) -> None:
        with stop_signal() as signalled:
            try:
                await first_of(self._start(), signalled.wait())
                if not signalled.is_set():
                    log.info("%s is served: %r", self.place, self.runtime)
                    await first_of(self.runtime.wait_until_stopped(), signalled.wait())
                if signalled.is_set():
                    log.info("%s drains", self.place)
            finally:
                await self.runtime.stop()

    async def _start(self) -> None:
        await self.runtime.connect()
        self.log_setup.show_all()
        if self.health is not None:
            log.info("/healthz, /readyz and /metrics are served on port %d", self.health.port)
        if self.is_embedded:
            log.info("the embedded broker runs at %s", self.runtime.broker_url)
        try:
            registering = self.setup(self.runtime)
            if inspect.isawaitable(registering):
                await registering
        except Exception as error:
            raise UserCodeError(f"{self.place} raised {type(error).__name__}: {error}") from error
        try:
            await self.runtime.start()
        except RuntimeStateError as error:
            raise CommandError(
                f"{self.place}: the runtime can't be started ({error}): leave the start to `hivewire run`"
            ) from error
