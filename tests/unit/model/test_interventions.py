import logging
from typing import Any

import pytest

from hivewire.exceptions import MessageDroppedException
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.interventions import (
    DefaultInterventionHandler,
    DropMessage,
    InterventionChain,
    InterventionHandler,
)
from hivewire.model.topics import TopicId

SENDER, RECIPIENT, TOPIC = AgentId("a", "1"), AgentId("b", "1"), TopicId("t", "s")


def context(*, topic_id: TopicId | None = None) -> MessageContext:
    return MessageContext(SENDER, topic_id, topic_id is None, CancellationToken(), "id")


async def sent(chain: InterventionChain, message: Any) -> Any:
    return await chain.on_send(message, message_context=context(), recipient=RECIPIENT)


async def published(chain: InterventionChain, message: Any) -> Any:
    return await chain.on_publish(message, message_context=context(topic_id=TOPIC))


async def answered(chain: InterventionChain, message: Any) -> Any:
    return await chain.on_response(message, sender=SENDER, recipient=RECIPIENT)


WAYS = [sent, published, answered]


class Always(DefaultInterventionHandler):
    """Does one and the same thing to every message."""

    def __init__(self, action: Any) -> None:
        self._action = action

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return self._action(message)

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        return self._action(message)

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return self._action(message)


def raising(error: Any) -> Any:
    def act(message: Any) -> Any:
        raise error

    return act


def test_a_chain_without_handlers_is_false():
    assert not InterventionChain(None)
    assert not InterventionChain([])
    assert InterventionChain([DefaultInterventionHandler()])


@pytest.mark.parametrize("way", WAYS)
async def test_row_45_handlers_chain_in_order(way):
    chain = InterventionChain([Always(lambda m: m + 1), Always(lambda m: m * 10)])
    assert await way(chain, 1) == 20


@pytest.mark.parametrize("way", WAYS)
async def test_row_45_none_leaves_the_message_as_it_is_with_a_warning(way):
    chain = InterventionChain([Always(lambda m: None), Always(lambda m: m + 1)])
    with pytest.warns(RuntimeWarning, match=r"Always\.on_.* returned None"):
        assert await way(chain, 1) == 2


async def test_an_answer_of_none_is_passed_on_without_a_warning():
    assert await answered(InterventionChain([Always(lambda m: m)]), None) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda message: DropMessage, None),
        (lambda message: DropMessage(), None),
        (lambda message: DropMessage("policy"), "policy"),
        (raising(DropMessage), None),
        (raising(DropMessage("policy")), "policy"),
    ],
)
async def test_a_message_is_dropped_by_returning_or_raising(way, action, reason, caplog):
    later = []
    chain = InterventionChain([Always(action), Always(later.append)])
    with caplog.at_level(logging.INFO, EVENT_LOGGER_NAME), pytest.raises(MessageDroppedException) as caught:
        await way(chain, "secret")
    assert caught.value.reason == reason
    assert later == []
    [record] = caplog.records
    event = record.msg.kwargs
    ends = {
        sent: ("DIRECT", str(RECIPIENT)),
        published: ("PUBLISH", str(TOPIC)),
        answered: ("RESPOND", str(RECIPIENT)),
    }
    kind, receiver = ends[way]
    assert event["type"] == "MessageDropped"
    assert (event["kind"], event["sender"], event["receiver"]) == (f"MessageKind.{kind}", str(SENDER), receiver)
    assert (event["payload"], event["reason"]) == ("str", reason)


async def test_the_event_shows_what_the_runtime_says(caplog):
    chain = InterventionChain([Always(lambda m: DropMessage)], payload_text=repr)
    with caplog.at_level(logging.INFO, EVENT_LOGGER_NAME), pytest.raises(MessageDroppedException):
        await sent(chain, "text")
    assert caplog.records[0].msg.kwargs["payload"] == "'text'"


@pytest.mark.parametrize("way", WAYS)
async def test_another_exception_passes_through(way):
    error = KeyError("boom")
    with pytest.raises(KeyError) as caught:
        await way(InterventionChain([Always(raising(error))]), 1)
    assert caught.value is error


@pytest.mark.parametrize("base", [InterventionHandler, DefaultInterventionHandler, object])
@pytest.mark.parametrize("way", WAYS)
async def test_hooks_that_a_handler_leaves_out_pass_the_message_through(base, way):
    class Nothing(base):
        pass

    assert await way(InterventionChain([Nothing()]), "message") == "message"


async def test_the_default_hooks_return_the_message_when_they_are_called():
    class Calling(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            return await super().on_send(message + 1, message_context=message_context, recipient=recipient)

    assert await sent(InterventionChain([Calling()]), 1) == 2


async def test_hooks_get_what_the_protocol_says():
    seen = {}

    class Seeing(InterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            seen["send"] = (message_context.sender, recipient)
            return message

        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            seen["publish"] = message_context.topic_id
            return message

        async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
            seen["response"] = (sender, recipient)
            return message

    chain = InterventionChain([Seeing()])
    for way in WAYS:
        await way(chain, 1)
    assert seen == {"send": (SENDER, RECIPIENT), "publish": TOPIC, "response": (SENDER, RECIPIENT)}


async def test_hooks_that_take_message_and_ctx_are_recognised():
    class Approval(InterventionHandler):
        async def on_send(self, message: Any, ctx: MessageContext) -> Any:
            if not ctx.is_rpc:
                raise DropMessage("Not approved")
            return f"{message} from {ctx.sender}"

        async def on_publish(self, message: Any, ctx: MessageContext) -> Any:
            return f"{message} to {ctx.topic_id}"

    chain = InterventionChain([Approval()])
    assert await sent(chain, "x") == "x from a/1"
    assert await published(chain, "x") == "x to t/s"


async def test_hooks_of_other_shapes_are_recognised_too():
    class Shapes:
        async def on_send(self, message: Any, context: MessageContext, recipient: AgentId, /, limit: int = 3) -> Any:
            return (message, context.message_id, recipient, limit)

        async def on_publish(self, message: Any, **kwargs: Any) -> Any:
            return (message, sorted(kwargs))

        async def on_response(self, message: Any, *args: Any) -> Any:
            return (message, args)

    chain = InterventionChain([Shapes()])
    assert await sent(chain, 1) == (1, "id", RECIPIENT, 3)
    assert await published(chain, 1) == (1, ["message_context"])
    assert await answered(chain, 1) == (1, ())


def test_drop_message_is_a_normal_exception():
    with pytest.raises(DropMessage, match="Message rejected by policy") as caught:
        raise DropMessage("Message rejected by policy")
    assert caught.value.reason == "Message rejected by policy"
    assert str(DropMessage()) == ""
