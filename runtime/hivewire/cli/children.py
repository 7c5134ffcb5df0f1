"""Processes that this one starts, and that end with it, however it ends. See `lifeline` for their side."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from hivewire.cli.lifeline import VARIABLE

_TAIL_BYTES = 4_000


class Child:
    """A `hivewire` command in a process of its own. Made by `start`; `stop` has to be called at the end."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, output: IO[bytes] | None) -> None:
        self._process = process
        self._lifeline = lifeline
        self._output = output

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        capture: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start it.

        Args:
            arguments: Those of the `hivewire` command.
            environment: Added to that of this process.
            capture: Keep what it writes for `output`, instead of showing it.
            pass_fds: File descriptors that it gets under the same numbers.
        """
        reading, lifeline = os.pipe()
        output = tempfile.TemporaryFile() if capture else None  # noqa: SIM115  # it lives as long as the child
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                # The working directory may hold a file that is named like a standard module.
                "-P",
                "-m",
                "hivewire",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL if capture else None,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {}), VARIABLE: str(reading)},
                pass_fds=[reading, *pass_fds],
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(reading)
        return cls(process, lifeline, output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    def output(self) -> str:
        """Return the end of what it wrote, if that is captured and it was not stopped yet."""
        if self._output is None or self._output.closed:
            return ""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(self._output.tell() - _TAIL_BYTES, 0))
        return self._output.read().decode(errors="replace")

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> int:
        """Ask it to drain, kill it after `timeout_s` seconds, and return its exit code."""
        try:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(timeout_s):
                    return await self.ended()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._process.kill()
                return await self.ended()
        finally:
            # Whatever interrupted this, the child sees the end of its lifeline now.
            os.close(self._lifeline)
            if self._output is not None:
                self._output.close()
