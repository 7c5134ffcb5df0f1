"""Values in the headers of frames: ids, subscriptions, schedules, and what is known of a payload.

Reading raises `ValueError`, or a subclass, for whatever is not such a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from hivewire.http.frames import Header
from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule, utc_text
from hivewire.model.schedules import Schedule
from hivewire.model.serializer_registry import Encoded
from hivewire.model.subscriptions import Subscription, TypePrefixSubscription, TypeSubscription
from hivewire.model.topics import TopicId

__all__ = [
    "agent_of",
    "agent_value",
    "answer_head",
    "answer_of",
    "encoded_of",
    "head_of",
    "optional_agent_of",
    "optional_text_of",
    "rule_of",
    "schedule_of",
    "schedule_value",
    "seconds_of",
    "subscriber_of",
    "subscription_of",
    "subscription_value",
    "target_of",
    "target_value",
    "text_of",
    "topic_of",
    "topic_value",
    "trace_of",
]

_NONE: Final = Encoded("NoneType", "application/json", b"null")
_TRACE_HEADERS: Final = ("traceparent", "tracestate")


def agent_value(agent: AgentId | None) -> list[str] | None:
    return None if agent is None else [agent.type, agent.key]


def agent_of(value: object) -> AgentId:
    return AgentId(*_pair(value))


def optional_agent_of(value: object) -> AgentId | None:
    return None if value is None else agent_of(value)


def topic_value(topic: TopicId) -> list[str]:
    return [topic.type, topic.source]


def topic_of(value: object) -> TopicId:
    return TopicId(*_pair(value))


def target_value(target: AgentId | TopicId) -> Header:
    return {"agent": agent_value(target)} if isinstance(target, AgentId) else {"topic": topic_value(target)}


def target_of(header: Mapping[str, Any]) -> AgentId | TopicId:
    return agent_of(header["agent"]) if "agent" in header else topic_of(header.get("topic"))


def subscription_value(subscription: Subscription) -> Header:
    """Return a subscription as JSON.

    Raises:
        ValueError: it is not one of the built-in kinds.
    """
    if isinstance(subscription, TypeSubscription):
        kind, value = "exact", subscription.topic_type
    elif isinstance(subscription, TypePrefixSubscription):
        kind, value = "prefix", subscription.topic_type_prefix
    else:
        raise ValueError(
            f"{type(subscription).__name__} can't be used through a gateway: use TypeSubscription, "
            "TypePrefixSubscription or DefaultSubscription"
        )
    return {"kind": kind, "value": value, "agent": subscription.agent_type, "id": subscription.id}


def subscriber_of(subscription: Subscription) -> str:
    """Return the agent type that a subscription is for; see `subscription_value`."""
    return str(subscription_value(subscription)["agent"])


def subscription_of(value: object) -> TypeSubscription | TypePrefixSubscription:
    if not isinstance(value, dict):
        raise ValueError(f"not a subscription: {value!r:.80}")
    what, agent_type, name = (text_of(value, each) for each in ("value", "agent", "id"))
    if value.get("kind") == "exact":
        return TypeSubscription(what, agent_type, name)
    return TypePrefixSubscription(what, agent_type, name)


def schedule_value(schedule: Schedule) -> Header:
    return {
        "schedule": schedule.id,
        **target_value(schedule.target),
        "type": schedule.message_type,
        "rule": schedule.rule.to_json(),
        "next": utc_text(schedule.next_at),
        "sender": agent_value(schedule.sender),
    }


def schedule_of(value: Mapping[str, Any]) -> Schedule:
    return Schedule(
        id=text_of(value, "schedule"),
        target=target_of(value),
        message_type=text_of(value, "type"),
        rule=rule_of(value.get("rule")),
        next_at=datetime.fromisoformat(text_of(value, "next")),
        sender=optional_agent_of(value.get("sender")),
    )


def rule_of(value: object) -> ScheduleRule:
    if not isinstance(value, dict):
        raise ValueError(f"not the rule of a schedule: {value!r:.80}")
    rule = ScheduleRule.from_json(value)
    return ScheduleRule.of(at=rule.at, after=rule.after, every=rule.every, cron=rule.cron, time_zone=rule.time_zone)


def head_of(message: Encoded) -> Header:
    """Return what goes with a message's payload."""
    return {"type": message.type_name, "content": message.content_type}


def encoded_of(header: Mapping[str, Any], payload: bytes) -> Encoded:
    return Encoded(text_of(header, "type"), text_of(header, "content"), payload)


def answer_head(value: Encoded) -> Header:
    """Return what goes with an answer's payload."""
    return {"none": 1} if value.type_name == _NONE.type_name else head_of(value)


def answer_of(header: Mapping[str, Any], payload: bytes) -> Encoded:
    """Return an answer, which may be None."""
    return _NONE if header.get("none") else encoded_of(header, payload)


def trace_of(header: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of W3C Trace Context, and nothing else."""
    given = header.get("trace")
    if not isinstance(given, dict):
        return {}
    return {name: given[name] for name in _TRACE_HEADERS if isinstance(given.get(name), str)}


def text_of(header: Mapping[str, Any], name: str) -> str:
    value = header.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is to be a text, and not {value!r:.80}")
    return value


def optional_text_of(header: Mapping[str, Any], name: str) -> str | None:
    return None if header.get(name) is None else text_of(header, name)


def seconds_of(header: Mapping[str, Any], name: str) -> float | None:
    """Return a number of seconds, or None when it is left out."""
    value = header.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or value != value:
        raise ValueError(f"{name!r} is to be a number, and not {value!r:.80}")
    return float(value)


def _pair(value: object) -> tuple[str, str]:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value):
        return value[0], value[1]
    raise ValueError(f"not an id: {value!r:.80}")
