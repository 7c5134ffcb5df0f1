"""Both ends of a streamed answer, over a connection that loses, repeats and reorders nothing but may drop anything."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hivewire.nats.stream_credit import WINDOW_BYTES, WINDOW_CHUNKS, Receipt, ReceiveWindow, SendWindow

Message = tuple[int, int]
QUESTION: Message = (0, 0)


class Stream(RuleBasedStateMachine):
    """A sender and a reader. As with a broken connection, what is under way may be lost from any point on; some of it
    comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.sender: SendWindow[Message] = SendWindow()
        self.reader = ReceiveWindow()
        self.on_the_way: list[Message] = []
        self.receipts: list[Receipt] = []
        self.buffer: list[Message] = []
        self.arrived: list[int] = []
        self.sizes: dict[int, int] = {}

    @precondition(lambda self: self.sender.is_open)
    @rule(
        size=st.sampled_from([0, 1, 1000, WINDOW_BYTES // 2, WINDOW_BYTES, 4 * WINDOW_BYTES]), times=st.integers(1, 9)
    )
    def send(self, size: int, times: int) -> None:
        for _ in range(times):
            if self.sender.is_open:
                message = (self.sender.last + 1, size)
                self.sizes[message[0]] = size
                self.sender.send(message, size)
                self.on_the_way.append(message)

    @precondition(lambda self: self.on_the_way)
    @rule(twice=st.booleans())
    def deliver(self, twice: bool) -> None:
        message = self.on_the_way.pop(0)
        for _ in range(2 if twice else 1):
            match self.reader.arrive(message[0]):
                case "next":
                    self.buffer.append(message)
                    self.arrived.append(message[0])
                case "gap":
                    self.receipts.append(self.reader.receipt(again=True))
                case "known":
                    self.receipts.append(self.reader.receipt())

    @precondition(lambda self: self.buffer)
    @rule()
    def take(self) -> None:
        _, size = self.buffer.pop(0)
        if self.reader.take(size):
            self.receipts.append(self.reader.receipt())

    @precondition(lambda self: self.receipts)
    @rule(keep=st.booleans())
    def hear(self, keep: bool) -> None:
        receipt = self.receipts[0] if keep else self.receipts.pop(0)
        self.on_the_way += self.sender.receive(Receipt.decode(receipt.encode()))

    @precondition(lambda self: self.on_the_way or self.receipts)
    @rule(lost=st.integers(1, 20), receipts=st.booleans())
    def lose(self, lost: int, receipts: bool) -> None:
        if receipts:
            del self.receipts[:lost]
        else:
            del self.on_the_way[-lost:]

    @precondition(lambda self: self.sender.waits)
    @rule()
    def ask_after_silence(self) -> None:
        self.on_the_way.append(self.sender.newest_unreceived or QUESTION)

    @invariant()
    def what_arrived_is_each_chunk_once_and_in_order(self) -> None:
        assert self.arrived == list(range(1, len(self.arrived) + 1))

    @invariant()
    def the_reader_never_has_to_hold_more_than_a_window_and_a_chunk(self) -> None:
        held = [self.sizes[number] for number, _ in self.buffer]
        assert len(held) <= WINDOW_CHUNKS
        assert sum(held[:-1]) < WINDOW_BYTES + max(held, default=0)

    def teardown(self) -> None:
        """A reader that takes what comes ends up with all of it, whatever was lost so far."""
        for _ in range(4 * self.sender.last + 20):
            if not self.on_the_way and not self.receipts and self.sender.waits:
                self.ask_after_silence()
            while self.on_the_way:
                self.deliver(twice=False)
            while self.buffer:
                self.take()
            while self.receipts:
                self.hear(keep=False)
        assert self.arrived == list(range(1, self.sender.last + 1))
        assert self.sender.newest_unreceived is None
        # What is taken and not told yet is less than half a window, so the sender may go on.
        assert self.sender.is_open


Stream.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestStream = Stream.TestCase


def test_a_chunk_larger_than_the_window_goes_alone() -> None:
    sender: SendWindow[str] = SendWindow()
    sender.send("large", 5 * WINDOW_BYTES)
    assert not sender.is_open
    sender.receive(Receipt(taken=1, received=1))
    assert sender.is_open


def test_what_is_missing_is_asked_for_once_until_it_is_clear_that_it_did_not_come() -> None:
    reader = ReceiveWindow()
    assert reader.arrive(1) == "next"
    assert [reader.arrive(number) for number in (3, 4, 5)] == ["gap", "asked", "asked"]
    assert reader.arrive(5) == "gap"
    assert [reader.arrive(number) for number in (2, 3, 3, 4)] == ["next", "next", "known", "next"]


@pytest.mark.parametrize("payload", [b"", b"1", b"2 1", b"1 2 later", b"-1 2", b"1 2 again ", b"\xff 2", b"9" * 99])
def test_what_is_no_receipt_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not the receipt of a stream"):
        Receipt.decode(payload)
