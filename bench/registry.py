"""What is compared with what.

A side is one module in `bench.sides` and the processes that it consists of. Each of these is an async context manager
of the module, named as the process; that of `client`, the last one, gives a `Call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CLIENT: Final = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to send a message. `processes` are started in this order."""

    name: str
    module: str
    processes: tuple[str, ...] = ("server", CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Hivewire's side, and the peers that do the same."""

    name: str
    title: str
    hivewire: Side
    peers: tuple[Side, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.hivewire, *self.peers)


COMPARISONS: Final = (
    Comparison(
        name="direct",
        title="Direct messages between processes",
        hivewire=Side(name="hivewire-nats", module="hivewire_nats"),
        peers=(
            Side(name="raw-nats", module="raw_nats"),
            Side(name="autogen-grpc", module="autogen_grpc", processes=("host", "server", CLIENT)),
            Side(name="faststream", module="faststream_nats"),
        ),
    ),
    Comparison(
        name="nested",
        title="Direct messages within direct messages, three processes",
        hivewire=Side(name="hivewire-nested", module="hivewire_nested", processes=("inner", "server", CLIENT)),
        peers=(Side(name="raw-nested", module="raw_nested", processes=("inner", "server", CLIENT)),),
    ),
    Comparison(
        name="chunks",
        title="Chunks of streams between processes",
        hivewire=Side(name="hivewire-chunks", module="hivewire_chunks"),
        peers=(Side(name="raw-chunks", module="raw_chunks"),),
    ),
    Comparison(
        name="first-chunk",
        title="Streams of one chunk between processes",
        hivewire=Side(name="hivewire-first", module="hivewire_first_chunk"),
        peers=(Side(name="raw-first", module="raw_first_chunk"),),
    ),
    Comparison(
        name="metrics-direct",
        title="What the metrics cost direct messages",
        hivewire=Side(name="hivewire-measured", module="hivewire_nats"),
        peers=(Side(name="unmeasured", module="unmeasured_nats"),),
    ),
    Comparison(
        name="metrics-events",
        title="What the metrics cost events",
        hivewire=Side(name="hivewire-events", module="hivewire_events", processes=(CLIENT,)),
        peers=(Side(name="unmeasured-events", module="unmeasured_events", processes=(CLIENT,)),),
    ),
    Comparison(
        name="gateway",
        title="Events over HTTP, each stored before it is answered",
        hivewire=Side(name="hivewire-gateway", module="hivewire_gateway"),
        peers=(
            Side(name="starlette-jetstream", module="starlette_jetstream"),
            Side(name="bare-starlette", module="bare_starlette"),
            Side(name="raw-jetstream", module="raw_jetstream", processes=(CLIENT,)),
        ),
    ),
    Comparison(
        name="local",
        title="Direct messages within one process",
        hivewire=Side(name="hivewire-local", module="hivewire_local", processes=(CLIENT,)),
        peers=(Side(name="autogen-local", module="autogen_local", processes=(CLIENT,)),),
    ),
)


def chosen(names: Sequence[str]) -> list[Comparison]:
    """Return the comparisons of these names, and of those in which only sides are named, these and Hivewire's.

    Without names: all of them.

    Raises:
        ValueError: a name is neither a comparison's nor a side's.
    """
    known = {name for each in COMPARISONS for name in (each.name, *(side.name for side in each.sides))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    found = []
    for each in COMPARISONS:
        whole = not names or each.name in names
        peers = tuple(side for side in each.peers if whole or side.name in names)
        if whole or peers or each.hivewire.name in names:
            found.append(Comparison(name=each.name, title=each.title, hivewire=each.hivewire, peers=peers))
    return found
