"""What a stored message tells about itself."""

from datetime import UTC, datetime

import pytest

from hivewire.nats.stream_reader import StreamMessage


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.EVENTS.consumer.1.5.1.1767355200345678000.0",
        "$JS.ACK.domain.account.EVENTS.consumer.1.5.1.1767355200345678000.0.token",
    ],
)
def test_the_time_is_read_from_both_forms_of_the_acknowledgement(reply: str) -> None:
    message = StreamMessage("subject", 5, {}, b"", 0, reply)
    assert message.stored_at == datetime(2026, 1, 2, 12, 0, 0, 345678, tzinfo=UTC)
