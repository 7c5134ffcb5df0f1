"""Looks at a whole system from outside of its processes: for whoever watches over it and hosts no agents."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.event_stream import STREAM_NOT_FOUND, EventStream
from hivewire.nats.observation import Observation, TypeObservation
from hivewire.nats.observer import Observer
from hivewire.nats.permissions import OPERATOR
from hivewire.nats.session import SessionRecord
from hivewire.nats.subjects import Subjects

__all__ = ["Observation", "SessionRecord", "SystemObserver", "TypeObservation"]


class SystemObserver:
    """Looks at the system of one namespace: `async with SystemObserver(...)`. It changes nothing there.

    What one look has read makes the next one cheap.

    Args:
        credentials: The path of a NATS credentials file.

    Raises:
        ValueError: the namespace is malformed.
    """

    def __init__(self, broker_url: str, *, namespace: str, credentials: str | None = None) -> None:
        self._subjects = Subjects(namespace)
        self._broker = Broker(
            broker_url,
            name="hivewire observer",
            credentials=credentials,
            inbox=self._subjects.replies(OPERATOR),
        )
        stream = EventStream(self._broker, self._subjects.events_stream, "")
        self._observer = Observer(self._broker, self._subjects, stream)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailableError: nobody answers there, or the login is refused.
        """
        await self._broker.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._broker.close()

    async def observe(self, *, timeout: float = 8.0) -> Observation | None:
        """Return how the system is now; None as long as no process has been in the namespace.

        Raises:
            BrokerUnavailableError: it could not be read within `timeout` seconds, or the broker refuses.
        """
        try:
            return await self._observer.observe(timeout=timeout)
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise BrokerUnavailableError(f"NATS does not tell what there is: {error}") from error
        except TimeoutError as error:
            raise BrokerUnavailableError(f"NATS did not tell within {timeout:g} s what there is") from error
