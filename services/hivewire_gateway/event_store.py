"""The event stream as a gateway writes to it: what goes wrong becomes a problem that says whether to send again."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from hivewire import BrokerUnavailableError, MessageTooLargeError, RuntimeStateError, TopicId, UndeliverableException
from hivewire.relay import Encoded, PreparedEvent, RelayRuntime, Stored, UnansweredError
from hivewire_gateway.metrics import Metrics
from hivewire_gateway.problems import Problem


class EventStore:
    """Stores events. Any of them may be stored again: it is there once all the same, within the stream's window."""

    def __init__(self, relay: RelayRuntime, *, timeout_s: float, metrics: Metrics) -> None:
        self._relay = relay
        self._timeout_s = timeout_s
        self._metrics = metrics

    async def prepare(
        self,
        message: Encoded,
        topic: TopicId,
        *,
        event_id: str,
        identity: str,
        attributes: Mapping[str, str],
        trace: Mapping[str, str] | None = None,
    ) -> PreparedEvent:
        """Return an event as it will be stored; the stream keeps one of several of the same `identity`. It belongs to
        the trace of its request, or to the one that it names itself.

        Raises:
            Problem: it is too large or can't be written, or there is no connection.
        """
        try:
            return await self._relay.prepare_event(
                message,
                topic,
                message_id=event_id,
                deduplication_id=identity,
                attributes=attributes,
                trace=trace,
            )
        except MessageTooLargeError as error:
            raise Problem(413, str(error)) from error
        except ValueError as error:
            raise Problem(400, f"The event can't be stored: {error}.") from error
        except (RuntimeStateError, BrokerUnavailableError) as error:
            raise _not_stored("The gateway is not connected to its broker") from error

    async def store(self, event: PreparedEvent) -> Stored:
        """Store an event and return where.

        Raises:
            Problem: 503 when it is not stored, 504 when that is not known.
        """
        try:
            with self._metrics.storing(len(event.payload)) as note:
                stored = await self._relay.store_prepared(event, timeout=self._timeout_s)
                note(stored)
                return stored
        except UnansweredError as error:
            raise Problem(
                504,
                "The broker did not acknowledge the event in time, so it may be stored or not: send it again with the "
                "same id, and it is stored once.",
                headers={"Retry-After": "2"},
            ) from error
        except (BrokerUnavailableError, RuntimeStateError) as error:
            raise _not_stored("The broker can't be reached") from error
        except UndeliverableException as error:
            raise Problem(503, str(error), headers={"Retry-After": "10"}) from error


def deduplication_id(*identity: str) -> str:
    """Return what the stream tells events apart by: 32 hex digits.

    For a CloudEvent the identity is its source and its id, as the specification says (CloudEvents 1.0, id).
    """
    digest = sha256(b"%d|" % len(identity))
    for text in identity:
        data = text.encode()
        digest.update(b"%d|%b|" % (len(data), data))
    return digest.hexdigest()[:32]


def _not_stored(why: str) -> Problem:
    return Problem(503, f"{why}, and the event is not stored: send it again later.", headers={"Retry-After": "2"})
