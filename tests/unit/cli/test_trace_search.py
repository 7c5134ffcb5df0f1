"""Which stored messages belong to the one that is looked for."""

from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256

from hivewire.cli.message_heads import MessageHead, read_head
from hivewire.cli.trace_search import KEPT, Search
from hivewire.model.contexts import TurnContext
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import EventEnvelope, encode_event
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import token

STREAM = "2026-01-01T00:00:00Z"
SUBJECTS = Subjects("shop")
TRACE = "0af7651916cd43dd8448eb211c80319c"


def stored(
    sequence: int,
    message_id: str,
    *,
    topic: str = "orders",
    source: str = "ada",
    derived: str | None = None,
    trace: str | None = None,
    inbox: str | None = None,
    lineage: str | None = None,
) -> StreamMessage:
    headers, _ = encode_event(
        EventEnvelope(
            topic=TopicId(topic, source),
            message_id=message_id,
            type_name="Order",
            payload=b"",
            trace={"traceparent": f"00-{trace}-b7ad6b7169203331-01"} if trace else {},
        )
    )
    headers["Nats-Msg-Size"] = "7"
    if derived is not None:
        headers["Nats-Msg-Id"] = derived
    if lineage is not None:
        headers["Hw-Lineage"] = lineage
    subject = SUBJECTS.stored_event(source, topic) if inbox is None else SUBJECTS.inbox(inbox, source)
    return message(sequence, subject, headers)


def message(sequence: int, subject: str, headers: Mapping[str, str]) -> StreamMessage:
    reply = f"$JS.ACK.SHOP_EVENTS.consumer.1.{sequence}.{sequence}.1767355200345678000.1"
    return StreamMessage(subject, sequence, dict(headers), b"", 1, reply)


def recipients(head: MessageHead) -> Iterable[AgentId]:
    return [head.recipient or AgentId("stock", head.topic.source)]


def search(wanted: str, *messages: StreamMessage) -> Search:
    made = Search(wanted, stream=STREAM, read=partial(read_head, subjects=SUBJECTS), recipients=recipients)
    for each in messages:
        made.take(each)
    return made


def derived_id(agent: AgentId, sequence: int, number: int) -> str:
    turn = TurnContext("", (), f"{agent.type}/{token(agent.key)}/{STREAM}/{sequence}")
    ids = [turn.next_id() for _ in range(number + 1)]
    return ids[-1]


def test_all_messages_with_the_id_are_found_and_no_others() -> None:
    found = search("a b", stored(3, "a b"), stored(4, "ab"), stored(9, "a b", topic="other", source="x y"))
    assert [(head.sequence, str(head.topic)) for head in found.own.values()] == [(3, "orders/ada"), (9, "other/x y")]
    assert (found.own[3].type_name, found.own[3].size_bytes, found.own[3].recipient) == ("Order", 7, None)
    assert found.own[3].stored_at.isoformat() == "2026-01-02T12:00:00.345678+00:00"
    assert (found.seen, found.more, found.unread, found.caused, found.related) == (3, 0, 0, {}, {})


def test_what_came_of_it_is_found_down_the_tree_also_under_an_id_of_the_handlers_own() -> None:
    stock = AgentId("stock", "ada")
    child = derived_id(stock, 3, 0)
    grandchild = derived_id(AgentId("stock", "x y"), 5, 1)
    found = search(
        "m",
        stored(3, "m"),
        stored(4, "unrelated"),
        stored(5, "chosen", source="x y", derived=child),
        stored(6, grandchild, derived=grandchild),
    )
    assert list(found.caused) == [5, 6]
    assert [(cause.sequence, str(cause.agent)) for cause in found.causes.values()] == [
        (3, "stock/ada"),
        (5, "stock/x y"),
    ]


def test_of_a_turn_that_publishes_much_all_is_found() -> None:
    stock = AgentId("stock", "ada")
    many = [stored(4 + number, derived_id(stock, 3, number)) for number in range(200)]
    assert len(search("m", stored(3, "m"), *many).caused) == 200


def test_a_message_to_one_agent_is_its_alone_and_tells_where_it_was_before() -> None:
    child = derived_id(AgentId("biller", "ada"), 9, 0)
    found = search("m", stored(9, "m", inbox="biller", lineage="3,7"), stored(12, child))
    assert (found.own[9].recipient, found.own[9].lineage) == (AgentId("biller", "ada"), (3, 7))
    assert list(found.caused) == [12]


def test_what_shares_its_trace_is_found_also_what_was_stored_before() -> None:
    messages = [
        stored(2, "cause", trace=TRACE),
        stored(3, "m", trace=TRACE),
        stored(4, "x"),
        stored(5, "y", trace=TRACE),
    ]
    found = search("m", *messages)
    assert (list(found.related), found.look_again_below) == ([5], 3)
    for each in messages[:1]:
        found.look(each)
    assert (list(found.found), found.seen) == ([2, 3, 5], 4)


def test_a_trace_can_be_looked_for_by_itself() -> None:
    found = search(TRACE, stored(2, "a", trace=TRACE), stored(3, "b"), stored(4, "c", trace=TRACE))
    assert (list(found.related), found.look_again_below) == ([2, 4], 0)


def test_no_more_is_kept_than_can_be_shown() -> None:
    found = search("m", *(stored(number, "m") for number in range(1, KEPT + 11)))
    assert (len(found.own), found.more) == (KEPT, 10)


def test_what_is_no_event_is_passed_over_and_ids_in_payloads_are_counted() -> None:
    structured = message(4, "shop.events.1.1.a.b", {"content-type": "application/cloudevents+json"})
    no_topic = message(5, "shop.events.1.1.a.b", {"ce-id": "m"})
    bad = message(6, "shop.events.1.1.a.b", {"Ce-Id": "%FF"})
    found = search("m", message(3, "shop.marker.stock", {}), structured, no_topic, bad)
    assert (found.found, found.seen, found.unread) == ({}, 4, 1)


def test_ids_of_other_turns_do_not_collide() -> None:
    other = sha256(b"other").hexdigest()[:32]
    assert not search("m", stored(3, "m"), stored(4, other, derived=other)).caused
