"""What the broker has to allow each component, and nothing else.

Pure: subjects in, subjects out. Where a right is wider than its use, the broker can't tell the difference, as what
matters is in the body of a request and not in its subject:

- who may make a reader on a stream may read all of it, and may make a consumer that stays. So events and the chunks of
  resumable streams are open to all of a namespace. The consumers of stateless types, which have known names, are denied
  one by one;
- who may cancel one schedule may remove the others. He could replace them just as well;
- the ids of calls that are cancelled, and of resumable streams that are asked for, can be heard by all.

Nobody is allowed to answer wherever it was asked from (``allow_responses``): a caller could aim the answer at any
subject, a login that takes over would not have the right, and the signs of life come over another connection. Answers
go to ``_INBOX.>``, where only their own deployment may listen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hivewire.nats.registry import TypeShape
from hivewire.nats.subjects import Subjects, type_token

GATEWAY: Final = "_gateway"
OPERATOR: Final = "_operator"
ADMINISTRATOR: Final = "_admin"
"""Deployments of the components themselves; no name of a Kubernetes object begins like this."""

_API: Final = "$JS.API"
_REPLIES: Final = "_INBOX.>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a user of the broker may do. A `subscribe` of two words is for a queue group, the second one, alone.

    `inbox_prefix` is what the user's reply subjects begin with; it is among what it may subscribe to.
    """

    publish: tuple[str, ...]
    publish_denied: tuple[str, ...]
    subscribe: tuple[str, ...]
    inbox_prefix: str

    def claims(self) -> dict[str, Any]:
        """Return them as the claims ``pub`` and ``sub`` of a user's JWT."""
        denied = {"deny": list(self.publish_denied)} if self.publish_denied else {}
        return {"pub": {"allow": list(self.publish), **denied}, "sub": {"allow": list(self.subscribe)}}


def worker_permissions(
    subjects: Subjects, *, deployment: str, types: Mapping[str, TypeShape], stateless: Iterable[str] = ()
) -> Permissions:
    """Return what the processes of a deployment may do, which serve these types.

    Args:
        stateless: The stateless types of other deployments in the namespace, to whose consumers these have no right.
    """
    return _permissions(
        subjects,
        [deployment],
        publish=[*_calling(subjects), *_serving(subjects, [deployment], types)],
        denied=_others_consumers(subjects, [*stateless, *_stateless_of(types)], own=types),
        subscribe=[subjects.pulses, *_hearing(subjects, [deployment], types)],
    )


def gateway_permissions(
    subjects: Subjects,
    *,
    deployment: str = GATEWAY,
    types: Mapping[str, TypeShape] | None = None,
    worker_deployments: Collection[str] = ("default",),
    stateless: Iterable[str] = (),
) -> Permissions:
    """Return what a gateway may do, which lets in workers that serve these types.

    Args:
        worker_deployments: What such workers call their deployments.
        stateless: As for `worker_permissions`.
    """
    served, guests = types or {}, worker_deployments if types else ()
    others = [*stateless, *_stateless_of(served)]
    return _permissions(
        subjects,
        [deployment, *guests],
        publish=[
            *_calling(subjects),
            # It may have many readers one after the other, and can't leave them to the server.
            f"{_API}.CONSUMER.DELETE.{subjects.events_stream}.*",
            *(_serving(subjects, guests, served) if served else ()),
        ],
        denied=[
            *_others_consumers(subjects, others, own=served),
            *(f"{_API}.CONSUMER.DELETE.{subjects.events_stream}.{subjects.consumer_of(name)}" for name in others),
        ],
        subscribe=[subjects.pulses, *(_hearing(subjects, guests, served) if served else ())],
    )


def operator_permissions(subjects: Subjects, *, deployment: str = OPERATOR) -> Permissions:
    """Return what the operator may do: provision, register types and subscriptions, send stored events to those that
    subscribe late, remove what all have finished, forward schedules, and see who lives. It neither calls agents nor
    answers for them, nor reads their states."""
    events, schedules = subjects.events_stream, subjects.schedules_stream
    registry, positions, leases, state = map(
        _stream,
        (subjects.registry_bucket, subjects.positions_bucket, subjects.leases_bucket, subjects.state_bucket),
    )
    return _permissions(
        subjects,
        [deployment],
        publish=[
            f"{_API}.INFO",
            f"{_API}.STREAM.NAMES",
            *(f"{_API}.STREAM.{what}.{each}" for what in _ADMINISTRATION for each in _streams(subjects)),
            *(f"{_API}.STREAM.PURGE.{each}" for each in (events, schedules, subjects.dead_stream, state)),
            *(f"{_API}.STREAM.MSG.GET.{each}" for each in (events, registry, positions, leases)),
            *(f"{_API}.CONSUMER.{what}.{events}.*" for what in ("CREATE", "INFO", "DELETE", "MSG.NEXT")),
            f"{_API}.CONSUMER.CREATE.{schedules}.{subjects.forward_consumer}",
            *(right for each in (registry, positions, leases) for right in _reading(each)),
            *(subjects.bucket_subject(each, ">") for each in (subjects.registry_bucket, subjects.positions_bucket)),
            subjects.markers,
            subjects.dead_letters,
            subjects.all_replies,  # to who calls for a process
            *_forwarding(subjects),
        ],
        subscribe=[subjects.wakes],
    )


def admin_permissions(
    subjects: Subjects, *, deployment: str = ADMINISTRATOR, stateless: Iterable[str] = ()
) -> Permissions:
    """Return what it takes to use the command line in a namespace: to call, publish and look at everything, to replay
    and remove dead letters, and to remove states and schedules. It serves no agents, and changes no stream.

    Args:
        stateless: As for `worker_permissions`: all that there are.
    """
    events, dead = subjects.events_stream, subjects.dead_stream
    leases, positions, state = map(_stream, (subjects.leases_bucket, subjects.positions_bucket, subjects.state_bucket))
    return _permissions(
        subjects,
        [deployment],
        publish=[
            *_calling(subjects),
            f"{_API}.STREAM.INFO.{state}",
            *(f"{_API}.STREAM.MSG.GET.{each}" for each in (dead, leases, positions, state)),
            *(right for each in (dead, leases, positions) for right in _reading(each)),
            *(f"{_API}.CONSUMER.DELETE.{each}.*" for each in (events, dead)),
            f"{_API}.STREAM.MSG.DELETE.{dead}",
            subjects.pods,
            subjects.inboxes,
            subjects.bucket_subject(subjects.state_bucket, ">"),
        ],
        denied=[
            *_others_consumers(subjects, stateless, own=()),
            *(f"{_API}.CONSUMER.DELETE.{events}.{subjects.consumer_of(name)}" for name in stateless),
        ],
        subscribe=[subjects.pulses],
    )


_ADMINISTRATION: Final = ("INFO", "CREATE", "UPDATE", "DELETE")


def _permissions(
    subjects: Subjects,
    deployments: Iterable[str],
    *,
    publish: Iterable[str],
    denied: Iterable[str] = (),
    subscribe: Iterable[str],
) -> Permissions:
    inboxes = [subjects.replies(deployment) for deployment in deployments]
    return Permissions(
        publish=tuple(dict.fromkeys(publish)),
        publish_denied=tuple(dict.fromkeys(denied)),
        subscribe=tuple(dict.fromkeys([*(f"{inbox}.>" for inbox in inboxes), *subscribe])),
        inbox_prefix=inboxes[0],
    )


def _stateless_of(types: Mapping[str, TypeShape]) -> list[str]:
    return [name for name, shape in types.items() if shape.kind == "stateless"]


def _calling(subjects: Subjects) -> list[str]:
    """What it takes to call agents, to publish and read events, to make schedules, and to read streams of answers."""
    events, chunks, schedules = subjects.events_stream, subjects.chunks_stream, subjects.schedules_stream
    registry = _stream(subjects.registry_bucket)
    # Who may look at the bucket of states can list all agents that have one.
    looked_at = [each for each in _streams(subjects) if each != _stream(subjects.state_bucket)]
    return [
        subjects.rpcs,
        subjects.wakes,
        subjects.cancels,
        subjects.events,
        subjects.schedules,
        subjects.chunks,
        subjects.pulses,
        _REPLIES,
        f"{_API}.INFO",
        *(f"{_API}.STREAM.INFO.{each}" for each in looked_at),
        *(f"{_API}.STREAM.MSG.GET.{each}" for each in (events, chunks, schedules, registry)),
        *(right for each in (events, chunks, registry) for right in _reading(each)),
        f"{_API}.CONSUMER.INFO.{events}.*",
        f"{_API}.CONSUMER.INFO.{schedules}.{subjects.forward_consumer}",
        f"{_API}.STREAM.PURGE.{schedules}",
    ]


def _serving(subjects: Subjects, deployments: Iterable[str], types: Mapping[str, TypeShape]) -> list[str]:
    """What it takes besides to serve agents of some types."""
    leases = _stream(subjects.leases_bucket)
    return [
        subjects.pods,
        subjects.inboxes,
        *_forwarding(subjects),
        *(f"{_API}.STREAM.MSG.GET.{_stream(each)}" for each in (subjects.leases_bucket, subjects.positions_bucket)),
        *_reading(leases),
        *(subjects.bucket_subject(subjects.leases_bucket, subjects.leases_of(each)) for each in deployments),
        *(right for name, shape in types.items() for right in _of_type(subjects, name, shape)),
    ]


def _of_type(subjects: Subjects, name: str, shape: TypeShape) -> list[str]:
    keys = f"{type_token(name)}.*"
    rights = [
        subjects.bucket_subject(subjects.registry_bucket, keys),
        subjects.marker(name),
        subjects.dead_of(name),
    ]
    if shape.kind == "stateless":
        return rights + _acknowledging(subjects.events_stream, subjects.consumer_of(name))
    state = subjects.bucket_subject(subjects.state_bucket, keys)
    return [
        *rights,
        state,
        f"{_API}.DIRECT.GET.{_stream(subjects.state_bucket)}.{state}",
        subjects.bucket_subject(subjects.positions_bucket, keys),
    ]


def _hearing(subjects: Subjects, deployments: Iterable[str], types: Iterable[str]) -> list[str]:
    """What who serves agents has to subscribe to, its inbox apart."""
    # In the queue group alone, as somebody outside of it would hear each message as well.
    return [
        subjects.cancels,
        *map(subjects.pods_of, deployments),
        *(f"{subjects.rpc_type(name)} {type_token(name)}" for name in types),
    ]


def _forwarding(subjects: Subjects) -> list[str]:
    """What it takes to forward the firings of schedules."""
    schedules, forward = subjects.schedules_stream, subjects.forward_consumer
    return [
        subjects.events,
        subjects.inboxes,
        subjects.schedules,
        f"{_API}.CONSUMER.INFO.{schedules}.{forward}",
        f"{_API}.CONSUMER.MSG.NEXT.{schedules}.{forward}",
        *_acknowledging(schedules, forward),
    ]


def _reading(stream: str) -> list[str]:
    """What it takes to read a stream through consumers of one's own."""
    return [f"{_API}.CONSUMER.CREATE.{stream}.*", f"{_API}.CONSUMER.MSG.NEXT.{stream}.*"]


def _acknowledging(stream: str, consumer: str) -> list[str]:
    # The longer form has domain and account before the stream; servers may use either.
    return [f"$JS.ACK.{stream}.{consumer}.>", f"$JS.ACK.*.*.{stream}.{consumer}.>"]


def _others_consumers(subjects: Subjects, stateless: Iterable[str], *, own: Collection[str]) -> list[str]:
    """The consumers of stateless types are made by who provisions, and read by their own deployments."""
    events = subjects.events_stream
    names = sorted({*stateless})
    return [
        *(f"{_API}.CONSUMER.CREATE.{events}.{subjects.consumer_of(name)}" for name in names),
        *(f"{_API}.CONSUMER.MSG.NEXT.{events}.{subjects.consumer_of(name)}" for name in names if name not in own),
    ]


def _streams(subjects: Subjects) -> list[str]:
    return [
        subjects.events_stream,
        subjects.schedules_stream,
        subjects.dead_stream,
        subjects.chunks_stream,
        _stream(subjects.registry_bucket),
        _stream(subjects.leases_bucket),
        _stream(subjects.positions_bucket),
        _stream(subjects.state_bucket),
    ]


def _stream(bucket: str) -> str:
    return f"KV_{bucket}"
