"""`hivewire top`: what agent types and processes do, drawn anew every few seconds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console
from rich.live import Live

from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.errors import CommandError
from hivewire.cli.keys import key_pressed
from hivewire.cli.top_text import as_text
from hivewire.cli.top_view import Sample, StreamSize, View, view_of
from hivewire.exceptions import BrokerUnavailableError, HivewireError
from hivewire.nats.broker import JetStreamError
from hivewire.nats.event_stream import EventStream
from hivewire.nats.observer import Observer
from hivewire.nats.pod_numbers import QUESTION, PodNumbers
from hivewire.nats.session import SessionRecord

_ANSWER_S = 1.0
_OBSERVE_S = 10.0
_PIPED_WIDTH = 200


def top(*, once: bool, as_json: bool, interval: float, broker: str, namespace: str, credentials: str) -> None:
    """Show what there is and what happens, until interrupted or, with `once`, one time after one interval.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace, or it can't be read at the start.
        HivewireError: there is no broker.
    """
    try:
        asyncio.run(_top(once, as_json, interval, broker, namespace, credentials))
    except KeyboardInterrupt:
        if once:
            raise
        # This is how it is meant to end.


class _Sampler:
    """Looks at a namespace and asks its pods."""

    def __init__(self, namespace: Namespace) -> None:
        self._broker = namespace.broker
        self._subjects = subjects = namespace.subjects
        self._streams = (
            subjects.events_stream,
            subjects.schedules_stream,
            subjects.dead_stream,
            subjects.chunks_stream,
        )
        stream = EventStream(namespace.broker, namespace.subjects.events_stream, namespace.stream_created)
        self._observer = Observer(namespace.broker, namespace.subjects, stream)

    async def sample(self) -> Sample:
        """Return the system as it is now.

        Raises:
            CommandError: it can't be read.
        """
        try:
            observation = await self._observer.observe(timeout=_OBSERVE_S)
            streams = await asyncio.gather(*map(self._size, self._streams))
        except (JetStreamError, TimeoutError, BrokerUnavailableError) as error:
            why = str(error) or "no answer in time"
            raise CommandError(f"NATS at {self._broker.address} does not tell what there is: {why}") from error
        answers = await asyncio.gather(*map(self._ask, observation.sessions))
        asked = zip(observation.sessions, answers, strict=True)
        return Sample(
            observation=observation,
            numbers={each.session: answer for each, answer in asked if answer is not None},
            streams=tuple(streams),
        )

    async def _ask(self, session: SessionRecord) -> PodNumbers | None:
        subject = self._subjects.pod(session.deployment, session.session)
        try:
            answer = await self._broker.request(subject, QUESTION, timeout=_ANSWER_S)
            return PodNumbers.from_json(answer.data)
        except (TimeoutError, HivewireError, ValueError, KeyError, TypeError, AttributeError):
            # It is of an earlier version, is busy, or has just ended.
            return None

    async def _size(self, stream: str) -> StreamSize:
        state = (await self._broker.api(f"STREAM.INFO.{stream}"))["state"]
        name = stream.rpartition("_")[2].lower()
        return StreamSize(name=name, messages=int(state["messages"]), size_bytes=int(state["bytes"]))


async def _top(once: bool, as_json: bool, interval: float, broker: str, namespace: str, credentials: str) -> None:
    async with open_namespace(broker, namespace, name="top", credentials=credentials) as opened:
        sampler, console = _Sampler(opened), Console()
        where = f"namespace {namespace} at {opened.broker.address}"
        if as_json:
            await _print(sampler, lambda view: _print_json(view, namespace), interval=interval, once=once)
        elif once or not console.is_terminal:
            if not console.is_terminal:
                console = Console(width=_PIPED_WIDTH)
            await _print(
                sampler,
                lambda view: console.print(as_text(view, where, width=console.width)),
                interval=interval,
                once=once,
            )
        else:
            await _draw(sampler, console, where, interval=interval)


def _print_json(view: View, namespace: str) -> None:
    print(json.dumps({"namespace": namespace, **asdict(view)}), flush=True)


async def _print(sampler: _Sampler, show: Callable[[View], None], *, interval: float, once: bool) -> None:
    before = await sampler.sample()
    while True:
        await asyncio.sleep(interval)
        now = await sampler.sample()
        show(view_of(before, now))
        if once:
            return
        before = now


async def _draw(sampler: _Sampler, console: Console, where: str, *, interval: float) -> None:
    """Draw until q is pressed. A broker that goes away may come back."""
    # What connections complain of would be written across the table, which tells it too.
    logging.getLogger("hivewire").addHandler(logging.NullHandler())
    before = await sampler.sample()
    view = view_of(None, before)
    with key_pressed("q") as quit_, Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(as_text(view, where, width=console.width), refresh=True)
        while not await _is_set_within(quit_, interval):
            note = ""
            try:
                now = await sampler.sample()
                before, view = now, view_of(before, now)
            except CommandError as error:
                note = str(error)
            live.update(as_text(view, where, width=console.width, note=note), refresh=True)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
