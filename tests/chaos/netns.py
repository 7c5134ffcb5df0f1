"""A network of its own for a worker, so that a test can cut it from the broker: packets vanish, nobody is told.

The worker runs in a network namespace, tied to this one by a pair of virtual interfaces; the broker listens on this
end of the pair. A cut makes one end, or both, send to a hardware address that nobody has: silent, without a firewall,
and for each direction by itself. It needs root and iproute2.
"""

import os
import random
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Literal, Self

Direction = Literal["both", "to_broker", "to_worker"]

_NOBODY = "02:00:00:00:00:01"
_NAME = re.compile(r"hivewire-chaos-(\d+)-")


def missing() -> str | None:
    """Say what keeps this machine from network namespaces, and how to get it; None when nothing does."""
    if shutil.which("ip") is None:
        return "there is no `ip`: apt-get install iproute2"
    probe = Network()
    try:
        probe.open()
    except (subprocess.CalledProcessError, OSError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        return f"no network namespace can be made (run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN): {detail.strip()}"
    finally:
        probe.close()
    return None


class Network:
    """A namespace and its link: ``with Network() as network:``, start a worker with `network.prefix`.

    `broker_host` is the address of this end, for the broker to listen on; it exists only while the network is open.
    """

    def __init__(self) -> None:
        unique = secrets.token_hex(4)
        self.name = f"hivewire-chaos-{os.getpid()}-{unique}"
        # Interface names have at most 15 characters.
        self._here, self._there = f"hwc{unique}0", f"hwc{unique}1"
        subnet = f"10.{random.randint(200, 250)}.{random.randint(0, 255)}"
        quad = 4 * random.randint(0, 63)
        self.broker_host, self.worker_host = f"{subnet}.{quad + 1}", f"{subnet}.{quad + 2}"

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs inside; `ip` becomes the command, so its pid is the same."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the namespace and the link.

        Raises:
            subprocess.CalledProcessError: this machine does not allow it.
        """
        _remove_those_of_the_dead()
        _ip("netns", "add", self.name)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.name)
        _ip("address", "add", f"{self.broker_host}/30", "dev", self._here)
        _ip("link", "set", self._here, "up")
        self._inside("address", "add", f"{self.worker_host}/30", "dev", self._there)
        self._inside("link", "set", self._there, "up")
        self._inside("link", "set", "lo", "up")

    def close(self) -> None:
        """Remove both; the link goes with the namespace."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        # The kernel takes a namespace apart later, and not while a process is in it.
        subprocess.run(["ip", "link", "delete", self._here], capture_output=True, check=False)

    def cut(self, direction: Direction = "both") -> None:
        """Let what is sent in this direction vanish."""
        if direction in ("both", "to_broker"):
            address = (self.broker_host, "lladdr", _NOBODY, "dev", self._there, "nud", "permanent")
            self._inside("neighbour", "replace", *address)
        if direction in ("both", "to_worker"):
            address = (self.worker_host, "lladdr", _NOBODY, "dev", self._here, "nud", "permanent")
            _ip("neighbour", "replace", *address)

    def mend(self) -> None:
        """Let both directions through again."""
        for run, host, device in (
            (self._inside, self.broker_host, self._there),
            (_ip, self.worker_host, self._here),
        ):
            try:
                run("neighbour", "delete", host, "dev", device)
            except subprocess.CalledProcessError:
                pass  # This direction was not cut.

    def _inside(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


def _remove_those_of_the_dead() -> None:
    """A test run that was killed could not tidy up."""
    directory = Path("/run/netns")
    for path in directory.glob("hivewire-chaos-*") if directory.exists() else ():
        match = _NAME.match(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, check=False)
