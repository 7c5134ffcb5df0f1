"""What is there at the end of a run: the ledgers, asked of the agents, and the dead letters, read from their stream."""

import asyncio
import base64
import json
from collections.abc import Iterable
from time import monotonic
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError

from chaos.agents import TYPE, Pages, Read
from chaos.model import Ledger
from hivewire import AgentId, HivewireError, NatsAgentRuntime
from hivewire.nats.dead_letters import STORY_HEADER
from hivewire.nats.subjects import Subjects

READ_TIMEOUT_S = 60.0
_AT_ONCE = 32
_NO_MESSAGE = 10037


async def read_ledgers(runtime: NatsAgentRuntime, keys: Iterable[str]) -> dict[str, Ledger]:
    """Ask each agent for its ledger, which it loads from its persisted state if it is not in memory.

    Asking changes nothing, so an agent that can't answer is asked again; a run that leaves one that never can fails.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def read(key: str) -> tuple[str, Ledger]:
        async with room:
            return key, await _read(runtime, key)

    return dict(await asyncio.gather(*(read(key) for key in keys)))


async def _read(runtime: NatsAgentRuntime, key: str) -> Ledger:
    deadline = monotonic() + READ_TIMEOUT_S
    while True:
        try:
            pages: Pages = await runtime.send_message(Read(), AgentId(TYPE, key), timeout=READ_TIMEOUT_S / 3)
        except HivewireError as error:
            if monotonic() > deadline:
                raise AssertionError(f"the ledger of {key} can't be read: {error!r}") from error
            await asyncio.sleep(0.1)
        else:
            return Ledger(counter=pages.counter, ids=tuple(pages.ids))


async def dead_letters(client: Client, namespace: str) -> list[str]:
    """Return the message ids of all dead letters of the ledgers, each as often as it is there."""
    subjects = Subjects(namespace)
    letters = await _last_of_each(client, subjects.dead_stream, subjects.dead_of(TYPE))
    return [_message_id_of(subject, headers) for subject, headers in letters.items()]


async def live_sessions(client: Client, namespace: str) -> set[str]:
    """Return the keys of the sessions that have neither expired nor been given back."""
    bucket = Subjects(namespace).leases_bucket
    entries = await _last_of_each(client, f"KV_{bucket}", f"$KV.{bucket}.>")
    return {
        subject for subject, headers in entries.items() if not headers.keys() & {"kv-operation", "nats-marker-reason"}
    }


def _message_id_of(subject: str, headers: dict[str, str]) -> str:
    # A dead letter keeps the headers of its event.
    missing = {"ce-id", STORY_HEADER.lower()} - headers.keys()
    assert not missing, f"{subject} has no {missing} but {headers}: it is no dead letter"
    return headers["ce-id"]


async def _last_of_each(client: Client, stream: str, wildcard: str) -> dict[str, dict[str, str]]:
    """Return the headers, by lower-case name, of the last message of each subject."""
    info = await _api(client, f"STREAM.INFO.{stream}", {"subjects_filter": wildcard})
    found = {}
    for subject in info["state"].get("subjects") or {}:
        answer = await _api(client, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        if "message" in answer:  # It may have expired since.
            found[subject] = _headers(answer["message"].get("hdrs", ""))
    return found


def _headers(encoded: str) -> dict[str, str]:
    lines = base64.b64decode(encoded).decode().split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


async def _api(client: Client, operation: str, body: dict[str, object]) -> dict[str, Any]:
    """Ask the JetStream API, again and again while it has no leader."""
    deadline = monotonic() + READ_TIMEOUT_S
    while True:
        try:
            reply = await client.request(f"$JS.API.{operation}", json.dumps(body).encode(), timeout=5)
            answer: dict[str, Any] = json.loads(reply.data)
            error = answer.get("error")
            if not error or error["err_code"] == _NO_MESSAGE:
                return answer
        except (NatsError, TimeoutError) as problem:
            error = problem
        assert monotonic() < deadline, f"{operation} failed: {error}"
        await asyncio.sleep(0.1)
