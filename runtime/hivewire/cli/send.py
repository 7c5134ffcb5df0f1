"""`hivewire send`: one direct message, and its reply."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import AbstractAsyncContextManager

from hivewire.cli.arguments import agent_id
from hivewire.cli.connection import open_runtime
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.messages import JsonPayload, JsonPayloadSerializer, read_message, reply_as_json
from hivewire.distributed import NatsAgentRuntime
from hivewire.exceptions import AgentNotFoundError, HivewireError
from hivewire.model.ids import AgentId


def send(
    recipient: str,
    message: str,
    *,
    type_name: str,
    timeout: float,
    broker: str,
    namespace: str,
    credentials: str,
) -> None:
    """Send a message to an agent and print its reply.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace or agent, or the handler raised an error.
        HivewireError: there is no broker, or the call failed.
    """
    to = agent_id(recipient)
    if timeout <= 0:
        raise UsageError(f"--timeout {timeout:g}: a call needs a time above zero")
    text, value = read_message(message)
    opening = open_runtime(broker, namespace, name="send", credentials=credentials)
    print(asyncio.run(_send(opening, to, JsonPayload(text) if type_name else value, type_name, timeout)))


async def _send(
    opening: AbstractAsyncContextManager[NatsAgentRuntime],
    to: AgentId,
    message: object,
    type_name: str,
    timeout: float,
) -> str:
    async with opening as runtime:
        if type_name:
            runtime.add_message_serializer(JsonPayloadSerializer(type_name))
        try:
            with warnings.catch_warnings():
                # A reply of a type that this process doesn't know is what it expects.
                warnings.simplefilter("ignore", RuntimeWarning)
                reply = await runtime.send_message(message, to, timeout=timeout)
        except AgentNotFoundError as error:
            raise CommandError(f"{error}. `hivewire ps` shows the types that there are") from error
        except HivewireError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CommandError(f"{to} cancelled the call") from None
        except Exception as error:
            raise CommandError(f"{to} raised {type(error).__name__}: {error}") from error
        return reply_as_json(reply)
