"""AutoGen's distributed runtime: a host, and two workers that reach each other through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, message_handler, try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

from bench.addresses import Addresses
from bench.load import MAX_CALLERS, TEXT, Call


@dataclass
class Echo:
    text: str


class EchoAgent(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("echo")

    @message_handler
    async def on_echo(self, message: Echo, ctx: MessageContext) -> Echo:
        return message


@asynccontextmanager
async def host(addresses: Addresses) -> AsyncIterator[None]:
    running = GrpcWorkerAgentRuntimeHost(addresses.own)
    running.start()
    try:
        yield
    finally:
        await running.stop(grace=1)


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with _worker(addresses) as worker:
        await EchoAgent.register(worker, "echo", EchoAgent)
        yield


@asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[Call]:
    recipients = [AgentId("echo", f"caller-{number}") for number in range(MAX_CALLERS)]
    async with _worker(addresses) as worker:
        worker.add_message_serializer(try_get_known_serializers_for_type(Echo))

        async def call(caller: int) -> None:
            answer = await worker.send_message(Echo(TEXT), recipients[caller])
            assert answer.text == TEXT

        yield call


@asynccontextmanager
async def _worker(addresses: Addresses) -> AsyncIterator[GrpcWorkerAgentRuntime]:
    worker = GrpcWorkerAgentRuntime(addresses.own)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
