"""Who sent a request, and what it may do.

Every route asks the principal before it does anything. A principal is made once, when settings are read, so a check
costs a few comparisons of strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from hivewire import AgentId, TopicId
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.patterns import PairPattern, Pattern

_ANY_PAIR = (PairPattern.from_str("*"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What is allowed; what no pattern matches is not.

    Attributes:
        publish: Topics, as `type/source`, that events may be published to.
        read: Topics, as `type/source`, whose events may be read.
        send: Agents, as `type/key`, that messages may be sent to.
        serve: Agent types that a worker may host.
    """

    publish: tuple[PairPattern, ...] = ()
    read: tuple[PairPattern, ...] = ()
    send: tuple[PairPattern, ...] = ()
    serve: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`per_s` requests a second in the long run, `burst` at once."""

    per_s: float
    burst: int


EVERYTHING = Permissions(publish=_ANY_PAIR, read=_ANY_PAIR, send=_ANY_PAIR, serve=(Pattern("*"),))
NOTHING = Permissions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who was recognized, by name, and what it may do.

    `rates` are limits by class of routes; `default` is for the classes without one.
    """

    name: str
    permissions: Permissions
    rates: Mapping[str, Rate] = field(default_factory=dict)

    def rate_of(self, route_class: str) -> Rate | None:
        """Return the limit of a class of routes, if there is one."""
        return self.rates.get(route_class) or self.rates.get("default")

    def check_publish(self, topic: TopicId) -> None:
        """Let events to a topic pass.

        Raises:
            Problem: 403.
        """
        if not any(pattern.matches(topic.type, topic.source) for pattern in self.permissions.publish):
            raise self._refusal(f"publish to {topic}", "publish")

    def check_send(self, agent: AgentId) -> None:
        """Let messages to an agent pass.

        Raises:
            Problem: 403.
        """
        if not any(pattern.matches(agent.type, agent.key) for pattern in self.permissions.send):
            raise self._refusal(f"send to {agent}", "send")

    def check_read(self, topic_type: str, source: str | None) -> None:
        """Let events of a topic type be read, of one source or, with None, of all of them.

        Args:
            topic_type: A type, or a prefix of types with a `*` at its end, which no type has in it.

        Raises:
            Problem: 403.
        """
        allowed = self.permissions.read
        if source is None:
            if not any(pattern.matches_every(topic_type) for pattern in allowed):
                raise self._refusal(f"read {topic_type} of all sources", "read")
        elif not any(pattern.matches(topic_type, source) for pattern in allowed):
            raise self._refusal(f"read {topic_type}/{source}", "read")

    def check_serve(self, agent_type: str) -> None:
        """Let agents of a type be hosted.

        Raises:
            Problem: 403.
        """
        if not any(pattern.matches(agent_type) for pattern in self.permissions.serve):
            raise self._refusal(f"serve agents of type {agent_type}", "serve")

    def _refusal(self, what: str, rule: str) -> Problem:
        return Problem(403, f"The principal {self.name!r} may not {what}: no pattern of its {rule!r} rule allows it.")


UNRESTRICTED = Principal(name="anonymous", permissions=EVERYTHING)


def principal_of(connection: HTTPConnection) -> Principal:
    """Return who sent a request or opened a WebSocket.

    Raises:
        RuntimeError: nobody was recognized before, so nothing may be allowed.
    """
    principal: Principal | None = getattr(connection.state, "principal", None)
    if principal is None:
        raise RuntimeError("a route was reached past the authentication")
    return principal
