"""Watches the objects, and says which of them are to be looked at. It neither reads nor decides.

kopf does the watching: lists, reconnects, bookmarks. Only its raw events are used: they come again and again, need no
finalizer, no annotation and no right to write. It has a thread and an event loop of its own, as it takes the signals of
the process otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf

from hivewire_operator.keys import ObjectKey
from hivewire_operator.names import DEPLOYMENT_LABEL
from hivewire_operator.resources.fields import GROUP, VERSION

log = logging.getLogger("hivewire.operator.watch")

_PLURALS: Final = {
    "agentsystems": "AgentSystem",
    "agentdeployments": "AgentDeployment",
    "agentsubscriptions": "AgentSubscription",
}
_END_TIMEOUT_S: Final = 5.0

# That it leaves the signals to the process is what its own thread is for.
logging.getLogger("kopf._core.reactor.running").addFilter(
    lambda record: not record.getMessage().startswith("OS signals are ignored")
)


class Watch:
    """Watches until `close`. `on_seen` is called on the event loop that opened it.

    Args:
        namespaces: None: all of the cluster.
    """

    def __init__(self, namespaces: Sequence[str] | None, on_seen: Callable[[ObjectKey], None]) -> None:
        self._namespaces = namespaces
        self._on_seen = on_seen
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            RuntimeError: the watching ended by itself, which it never should.
        """
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._watch, args=(loop,), name="hivewire: watch", daemon=True)
        thread.start()
        try:
            await self._ended.wait()
            raise RuntimeError(f"The Kubernetes API is watched no more: {self._failure!r}")
        finally:
            self._stop.set()
            await asyncio.to_thread(thread.join, _END_TIMEOUT_S)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(self._operate(loop))
        except BaseException as error:  # it ends the thread, and is told by `run`
            self._failure = error
        finally:
            try:
                loop.call_soon_threadsafe(self._ended.set)
            except RuntimeError:
                pass  # nobody waits any more

    async def _operate(self, loop: asyncio.AbstractEventLoop) -> None:
        def seen(key: ObjectKey) -> None:
            loop.call_soon_threadsafe(self._on_seen, key)

        await kopf.operator(
            registry=_registry(seen),
            settings=_settings(),
            standalone=True,
            clusterwide=self._namespaces is None,
            namespaces=list(self._namespaces or ()),
            stop_flag=self._stop,
        )


def _registry(seen: Callable[[ObjectKey], None]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**more: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**more) or kopf.login_with_kubeconfig(**more)

    for plural, kind in _PLURALS.items():

        @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=plural)
        def object_seen(*, name: str, namespace: str | None, kind: str = kind, **more: Any) -> None:
            seen(ObjectKey(kind=kind, namespace=namespace or "", name=name))

    @kopf.on.event("apps", "v1", "deployments", registry=registry, labels={DEPLOYMENT_LABEL: kopf.PRESENT})
    def child_seen(*, namespace: str | None, labels: Any, **more: Any) -> None:
        seen(ObjectKey(kind="AgentDeployment", namespace=namespace or "", name=labels[DEPLOYMENT_LABEL]))

    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.networking.request_timeout = 60
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = (0.5, 1, 2, 4)
    settings.queueing.worker_limit = 20
    settings.process.ultimate_exiting_timeout = _END_TIMEOUT_S
    return settings
