"""Secrets that are kept elsewhere and may change at any time.

A file is read again when it is another one than before: Kubernetes replaces the files of a mounted Secret by moving a
symbolic link. What can't be read or understood changes nothing, and is logged, so that half a file locks nobody out.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from hivewire_gateway.security.settings import SecretSource

log = logging.getLogger("hivewire.gateway")

T = TypeVar("T")

CHECK_EVERY_S = 1.0
_Identity = tuple[int, int, int, int]


class WatchedFile(Generic[T]):
    """What a file says, at the most a second ago.

    Args:
        parse: Makes a value of the content. Its `ValueError` must not repeat the content.

    Raises:
        OSError: at the beginning, the file can't be read.
        ValueError: at the beginning, the file is not what it should be.
    """

    def __init__(self, path: Path, parse: Callable[[str], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._identity = _identity(path)
        self._value = parse(path.read_text("utf-8"))
        self._looked_at = clock()
        self._complained = ""

    @property
    def value(self) -> T:
        """What it says; what it said last, if it can't be read."""
        now = self._clock()
        if now - self._looked_at >= CHECK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            # Taken before the content: a change in between is seen at the next look.
            identity = _identity(self._path)
            if identity == self._identity:
                return
            self._value = self._parse(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            self._complain(f"{type(error).__name__}: {_reason(error)}")
            return
        self._identity = identity
        self._complained = ""
        log.info("read %s again, as it has changed", self._path)

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            log.error("can't read %s, so what it said before still holds: %s", self._path, why)


class WatchedSecret(Generic[T]):
    """What a secret says. One in an environment variable is read once.

    Raises:
        OSError: at the beginning, the file can't be read.
        ValueError: at the beginning, there is no such variable, or the secret is not what it should be.
    """

    def __init__(
        self, source: SecretSource, parse: Callable[[str], T], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file: WatchedFile[T] | None = None
        if source.file is not None:
            self._file = WatchedFile(source.file, parse, clock=clock)
            return
        text = os.environ.get(source.env or "")
        if text is None:
            raise ValueError("it is not set")
        self._fixed = parse(text)

    @property
    def value(self) -> T:
        """What it says now."""
        return self._fixed if self._file is None else self._file.value


def _identity(path: Path) -> _Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return error.strerror or "" if isinstance(error, OSError) else str(error)
