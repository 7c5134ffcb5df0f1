"""The NATS library's client, with what it lacks on a single connection."""

from __future__ import annotations

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error as NatsError

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.credentials import Credentials, CredentialsFile

log = logging.getLogger("hivewire.broker")


class BrokerClient(Client):
    """The library's client, which reads the headers of every message in half the time, sends no password in the clear
    where TLS was asked for, pings after what it was to send before, and can be closed in every state.

    It reads its credentials anew at every connect; `login` is what it used at the last one.
    """

    def __init__(self, credentials: CredentialsFile | None = None) -> None:
        super().__init__()
        self._credentials = credentials
        self.login: Credentials | None = None

    def drop_output(self) -> None:
        """Forget what is not written yet: the library would write it to the next connection, however late that comes;
        and it fails to close a broken one with something left."""
        self._pending = []
        self._pending_data_size = 0

    async def close_safely(self) -> None:
        """Close, whatever the state."""
        # Before its first attempt to connect it has nothing to close, and fails.
        if self._flush_queue is not None:
            try:
                await self.close()
            except OSError as error:
                log.debug("closing a connection that broke: %s", error)
            except asyncio.CancelledError:
                # While it reconnects, the library cancels its wait for the end of the old connection, and that future
                # is what it waits for next. Nobody has cancelled who closes.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.debug("closing a connection that is being made again: its old one was not waited for")

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # The library writes the ping past what waits in its buffer: a flush would miss the subscriptions before it.
        if self._pending and self._transport is not None:
            self._transport.writelines(self._pending)
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise NatsError("the server does not ask for TLS: use nats:// to go without, or set up TLS in the server")
        if self._credentials is not None:
            self._log_in(self._credentials)
        return super()._connect_command()

    def _log_in(self, credentials: CredentialsFile) -> None:
        try:
            login = self.login = credentials.read()
        except BrokerUnavailableError as error:
            # The library goes on trying after errors of its own kind only.
            raise NatsError(str(error)) from error
        self._auth_configured = True
        self._signature_cb = login.sign
        self._user_jwt_cb = login.jwt.encode

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers
