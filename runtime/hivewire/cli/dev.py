"""`hivewire dev`: agents on a broker of their own, started again whenever their source changes.

The broker, the gateway and the watching live in this process, the agents in a child. So a reload begins with a clean
interpreter, and streams, subscriptions, events and the address for HTTP outlive it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from hivewire.cli.children import Child
from hivewire.cli.connection import checked_subjects
from hivewire.cli.dev_gateway import is_installed, serving_http
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.loading import Target
from hivewire.cli.signals import stop_signal
from hivewire.cli.waiting import first_of
from hivewire.nats.embedded import EmbeddedServer
from hivewire.telemetry.log_lines import configure_logging

DRAIN_S = 2
_KILL_AFTER_S = DRAIN_S + 5.0


def dev(target: str, *, port: int | None, namespace: str, gateway: bool, gateway_port: int | None) -> None:
    """Serve the agents of a file or a module until a signal comes.

    Args:
        gateway: Serve HTTP too, if what it takes is installed.
        gateway_port: None is the usual one, or a free one where that is taken.

    Raises:
        UsageError: the target, the namespace or HIVEWIRE_LOG_FORMAT is malformed, or the file doesn't exist.
        CommandError: watchfiles is not installed, or the gateway's port is taken.
        BrokerUnavailableError: the broker's binary is not installed, or the port is taken.
    """
    if find_spec("watchfiles") is None:
        raise CommandError("`hivewire dev` needs watchfiles: pip install 'hivewire[local]'")
    place = Target.parse(target)
    checked_subjects(namespace)
    try:
        configure_logging()
    except ValueError as error:
        raise UsageError(f"HIVEWIRE_LOG_FORMAT: {error}") from None
    http = _Http(wanted=gateway, port=gateway_port)
    asyncio.run(_dev(target, place, port, namespace, http))


async def _dev(target: str, place: Target, port: int | None, namespace: str, http: _Http) -> None:
    server = EmbeddedServer(port=port)
    with stop_signal() as stopped:
        await server.start()
        try:
            _say(f"the broker runs at {server.url}, until this command ends. In another terminal:")
            print(f"  export BROKER_URL={server.url}{_namespace_line(namespace)}\n  hivewire ps", flush=True)
            changes = _Changes(place.path.parent if place.path else Path.cwd())
            async with http.served(server.url, namespace):
                await first_of(
                    changes.watch(), _serve_again_and_again(target, place, server.url, namespace, changes, stopped)
                )
        finally:
            await server.stop()


async def _serve_again_and_again(
    target: str, place: Target, url: str, namespace: str, changes: _Changes, stopped: asyncio.Event
) -> None:
    arguments = ["run", target, "--broker", url, "--namespace", namespace, "--drain-timeout", str(DRAIN_S)]
    # The environment may name a login to another broker.
    arguments += ["--creds", ""]
    while not stopped.is_set():
        changes.forget()
        child = await Child.start(arguments)
        try:
            await first_of(changes.wait(), stopped.wait(), child.ended())
            if not changes.seen and not stopped.is_set():
                _say(f"{place} has ended; it starts again when a file in {changes.folder} changes")
                await first_of(changes.wait(), stopped.wait())
        finally:
            await child.stop(_KILL_AFTER_S)
        if changes.seen and not stopped.is_set():
            _say(f"{', '.join(changes.seen)} changed: starting again")


class _Http:
    """Whether and where HTTP is served."""

    def __init__(self, *, wanted: bool, port: int | None) -> None:
        self._wanted = wanted
        self._port = port

    @asynccontextmanager
    async def served(self, broker_url: str, namespace: str) -> AsyncIterator[None]:
        if not self._wanted or not is_installed():
            if self._wanted:
                _say("for HTTP install the gateway, too: pip install 'hivewire[gateway]'")
            yield
            return
        async with serving_http(broker_url, namespace, port=self._port, drain_s=DRAIN_S) as url:
            _say(f"HTTP comes in at {url}. This publishes an event to greetings/shell:")
            print(
                f"  curl {url}/v1/topics/greetings/shell -H 'Content-Type: application/json' -d '\"hello\"'", flush=True
            )
            yield


class _Changes:
    """The Python files below a folder that changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[str] = []
        self._some = asyncio.Event()

    async def watch(self) -> None:
        """Take note of changes until cancelled."""
        from watchfiles import PythonFilter, awatch

        async for batch in awatch(self.folder, watch_filter=PythonFilter(), debounce=200, step=50):
            self._add(path for _, path in batch)

    def forget(self) -> None:
        self.seen = []
        self._some.clear()

    async def wait(self) -> None:
        """Return once something changed since `forget`."""
        await self._some.wait()

    def _add(self, paths: Iterable[str]) -> None:
        self.seen = sorted({*self.seen, *(os.path.relpath(path, self.folder) for path in paths)})
        self._some.set()


def _namespace_line(namespace: str) -> str:
    return "" if namespace == "default" else f"\n  export HIVEWIRE_NAMESPACE={namespace}"


def _say(text: str) -> None:
    print(f"hivewire dev: {text}", flush=True)
