"""The API of a cluster that has no nodes and no controllers: etcd and kube-apiserver, on loopback, within seconds.

It stores, validates, authorizes and watches like any cluster's. Nothing comes of the objects: no pod starts, nothing is
collected with its owner, and a namespace that is deleted stays.
"""

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .certificates import make_certificates
from .configuration import write_kubeconfig
from .failure import Failure
from .layout import Layout
from .tools import TOOLS, binary

KEEPER = "cluster.machine.api_keeper"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
READY_TIMEOUT_S = 60
_KUBECTL_TIMEOUT_S = 30


def missing_programs() -> list[str]:
    """What `make cluster-tools` would have to build."""
    return [tool.name for tool in TOOLS if tool.name in PROGRAMS and not tool.is_built()]


@contextmanager
def use(shared: Path, definitions: Path) -> Iterator[Layout]:
    """Use the API server of a folder, which processes may share; the first one starts it, and it ends with the last.

    Args:
        definitions: A folder with CustomResourceDefinitions that it is to know.

    Raises:
        Failure: it was not ready in time, or refused the definitions.
    """
    with (shared / "users").open("a") as users, (shared / "current").open("a+") as current:
        # In this order with whoever starts: it must be a user before the keeper looks for users.
        fcntl.flock(current, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        current.seek(0)
        layout = Layout(Path(current.read() or shared / "none"))
        if not layout.kubeconfig.exists():
            layout = _start(shared, definitions)
            current.truncate(0)
            current.write(str(layout.root))
            current.flush()
        fcntl.flock(current, fcntl.LOCK_UN)
        yield layout


def _start(shared: Path, definitions: Path) -> Layout:
    layout = Layout(Path(tempfile.mkdtemp(prefix="api-", dir=shared)))
    for folder in (layout.data, layout.logs):
        folder.mkdir()
    make_certificates(layout)
    ports = _free_ports(3)
    words = [sys.executable, "-m", KEEPER, str(layout.root), str(shared / "users"), *map(str, ports)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # It outlives this process if others still use what it keeps, so it is nobody's child to wait for.
    os.posix_spawn(words[0], words, environment, setsid=True)
    write_kubeconfig(layout, api_port=ports[0])
    try:
        _wait_until_ready(layout)
        kubectl(layout, "apply", f"--filename={definitions}")
        kubectl(layout, "wait", "--for=condition=Established", f"--filename={definitions}", "--timeout=20s")
    except Failure:
        layout.kubeconfig.unlink()
        raise
    return layout


def kubectl(layout: Layout, *arguments: str) -> str:
    """Call `kubectl` as the administrator.

    Raises:
        Failure: it failed.
    """
    where = [f"--kubeconfig={layout.kubeconfig}", f"--cache-dir={layout.root}/kubectl"]
    command = [str(binary("kubectl")), *where, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_KUBECTL_TIMEOUT_S)
    if done.returncode != 0:
        raise Failure(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _wait_until_ready(layout: Layout) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            kubectl(layout, "get", "--raw=/readyz")
            return
        except Failure as failure:
            if time.monotonic() > deadline:
                raise Failure(f"no API server within {READY_TIMEOUT_S} s ({layout.logs} says why): {failure}") from None
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
