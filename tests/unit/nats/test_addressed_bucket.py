"""Reads that a replica may answer, with the leader's word on how new they have to be."""

from typing import Any

import pytest
from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.addressed_bucket import AddressedBucket
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import Entry


class Replicas:
    """Answers with one message after the other, and for the leader with what it refuses a write with."""

    def __init__(self, *answers: tuple[dict[str, str], bytes], refusal: JetStreamError | None) -> None:
        self._answers = list(answers)
        self._refusal = refusal

    async def ask(self, subject: str, *, timeout: float) -> Msg:
        assert subject == "$JS.API.DIRECT.GET.KV_b.$KV.b.T.k"
        headers, data = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return Msg(_client=None, subject=subject, data=data, headers=headers)  # type: ignore[arg-type]

    async def store(self, subject: str, payload: bytes, **options: Any) -> None:
        assert (subject, payload) == ("$KV.b.T.k", b"")
        if self._refusal is not None:
            raise self._refusal


def at(revision: int, **headers: str) -> dict[str, str]:
    return {"Nats-Sequence": str(revision), **headers}


NOT_FOUND = {"Status": "404", "Description": "Message Not Found"}


def told(revision: int) -> JetStreamError:
    return JetStreamError(10071, f"wrong last sequence: {revision}")


async def read(*answers: tuple[dict[str, str], bytes], refusal: JetStreamError | None, timeout: float = 5) -> Entry:
    broker: Any = Replicas(*answers, refusal=refusal)
    return await AddressedBucket(broker, "b").get("T.k", timeout=timeout)


async def test_what_a_replica_that_lags_behind_answers_is_not_taken() -> None:
    answers = [(NOT_FOUND, b""), (at(3), b"old"), (at(7), b"new")]
    assert await read(*answers, refusal=told(7)) == Entry(b"new", 7)


async def test_what_is_newer_than_the_leader_said_is_taken() -> None:
    assert await read((at(9), b"newer"), refusal=told(7)) == Entry(b"newer", 9)


async def test_a_key_that_never_was_and_one_that_is_gone_have_no_value() -> None:
    assert await read((NOT_FOUND, b""), refusal=told(0)) == Entry(None, 0)
    assert await read((at(4, **{"KV-Operation": "DEL"}), b""), refusal=told(4)) == Entry(None, 4)
    assert await read((at(5, **{"Nats-Marker-Reason": "MaxAge"}), b""), refusal=told(5)) == Entry(None, 5)


async def test_a_stream_that_takes_no_write_at_all_is_read_all_the_same() -> None:
    assert await read((at(4), b"v"), refusal=JetStreamError(10077, "maximum bytes exceeded")) == Entry(b"v", 4)


@pytest.mark.parametrize("refusal", [told(8), JetStreamError(10164, "wrong last sequence"), None])
async def test_it_gives_up_when_no_replica_catches_up(refusal: JetStreamError | None) -> None:
    with pytest.raises(BrokerUnavailableError):
        await read((at(4), b"v"), refusal=refusal, timeout=0.1)
