"""The operator's own logins: for each namespace a file that only this process reads, and that ends with its folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hivewire.provisioning import Subjects, operator_permissions
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.login_sources import Minting, Shared
from hivewire_operator.logins import Kept, decide, due_at

__all__ = ["OwnLogins"]


class OwnLogins:
    """Keeps the files.

    Args:
        folder: Where they are: for this process alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logins: dict[str, Login] = {}

    def ensure(self, namespace: str, source: Minting | Shared, *, now: float) -> tuple[Path, float | None]:
        """See to it that the file for a namespace is right. Returns its path, and when it is next due; None: never.

        A file that changes is taken up by those that are connected with it.

        Raises:
            OSError: it can't be written.
        """
        path = self._folder / f"{namespace}.creds"
        permissions = operator_permissions(Subjects(namespace))
        current = self._logins.get(namespace)
        issued = () if current is None else (current.user,)
        if isinstance(decide(current, source, permissions, issued=issued, now=now), Kept) and path.exists():
            assert current is not None
            return path, due_at(current, source)
        login = source.login if isinstance(source, Shared) else self._minted(namespace, source, now=now)
        _replace(path, login.file)
        self._logins[namespace] = login
        return path, due_at(login, source)

    def forget(self, namespace: str) -> None:
        """Remove the file for a namespace."""
        self._logins.pop(namespace, None)
        (self._folder / f"{namespace}.creds").unlink(missing_ok=True)

    def _minted(self, namespace: str, source: Minting, *, now: float) -> Login:
        return new_login(
            source.signer,
            name=f"{namespace}/operator",
            permissions=operator_permissions(Subjects(namespace)),
            now=now,
            lives_s=source.life_s,
            entropy=secrets.token_bytes(32),
            account=source.account,
        )


def _replace(path: Path, text: str) -> None:
    """Put a file in place at once, so that nobody reads half of one."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    beside.rename(path)
