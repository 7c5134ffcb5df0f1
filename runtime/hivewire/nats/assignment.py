"""Which session should own which shard of a type.

Rendezvous hashing: every session scores every shard, and the best score wins. All processes that see the same sessions
reach the same answer without talking, and a session that joins or leaves moves only what it must. A cap of
ceil(shards / sessions) keeps the load even; shards are dealt in a fixed order, and one whose favourite is full goes to
its next best.
"""

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b


def assign(agent_type: str, shards: int, sessions: Collection[str]) -> dict[int, str]:
    """Return the session that should own each shard, empty without sessions."""
    return dict(_assign(agent_type, shards, tuple(sorted(sessions))))


@lru_cache(maxsize=1_024)
def _assign(agent_type: str, shards: int, sessions: tuple[str, ...]) -> dict[int, str]:
    if not sessions:
        return {}
    cap = -(-shards // len(sessions))
    wanted = sorted(
        ((_score(agent_type, shard, session), shard, session) for shard in range(shards) for session in sessions),
        reverse=True,
    )
    owners: dict[int, str] = {}
    load = dict.fromkeys(sessions, 0)
    for _, shard, session in wanted:
        if shard not in owners and load[session] < cap:
            owners[shard] = session
            load[session] += 1
    return owners


def _score(agent_type: str, shard: int, session: str) -> bytes:
    return blake2b(f"{agent_type}/{shard}/{session}".encode(), digest_size=8).digest()
