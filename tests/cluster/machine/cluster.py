"""Brings the cluster up and takes it down. Both may be called again at any time, also after a crash half way."""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .certificates import make_certificates
from .configuration import write_configuration
from .failure import Failure
from .layout import CGROUP, NODE, Layout
from .requirements import require_cluster
from .supervisor import CGROUPS
from .tools import binary
from .volumes import is_given_up, make_folders, offered_again, volume_objects, wipe

READY_TIMEOUT_S = 180
END_TIMEOUT_S = 60
SUPERVISOR = "cluster.machine.supervisor"


def up(layout: Layout) -> None:
    """Return when the node is ready; a cluster that is, is left as it is.

    Raises:
        Failure: the machine lacks something, or the node was not ready in time.
    """
    require_cluster()
    if not is_ready(layout):
        down(layout)
        _start(layout)
        _wait_until_ready(layout)
    _call(layout, "apply", "--filename=-", objects=volume_objects(layout))


def down(layout: Layout) -> None:
    """End the supervisor, which ends all else, and remove what the cluster wrote.

    Raises:
        Failure: a process did not end in time, or something is mounted where nothing should be.
    """
    for pid in _supervisors(layout):
        _end(pid)
    _remove_cgroups()
    if any(f" {layout.root}/" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        raise Failure(f"something is mounted below {layout.root}, and the cluster did not mount it: unmount it first")
    if layout.root.exists():
        shutil.rmtree(layout.root)


def restart(layout: Layout, name: str) -> None:
    """End a program of the cluster, kube-apiserver for instance; the supervisor starts it again.

    Raises:
        Failure: it does not run, or did not end in time.
    """
    program = str(binary(name))
    found = _processes(lambda command: command[0:1] == [program] and any(str(layout.root) in word for word in command))
    if not found:
        raise Failure(f"{name} does not run")
    for pid in found:
        _end(pid)


def offer_volumes_again(layout: Layout) -> None:
    """Wipe the volumes whose claims are gone, and offer them to other claims. May be called at any time.

    Raises:
        Failure: the cluster refused it.
    """
    # Of two that do this at once, the second one would wipe what already has another claim.
    with (layout.root / "volumes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        volumes = json.loads(_call(layout, "get", "persistentvolumes", "--output=json"))["items"]
        given_up = [volume for volume in volumes if is_given_up(layout, volume)]
        for volume in given_up:
            wipe(volume)
        if given_up:
            _call(layout, "replace", "--filename=-", objects=map(offered_again, given_up))


def is_ready(layout: Layout) -> bool:
    if not layout.kubeconfig.exists() or not _supervisors(layout):
        return False
    condition = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    command = [*_kubectl(layout), "--request-timeout=5s", "get", "node", NODE, "-o", condition]
    answer = subprocess.run(command, check=False, capture_output=True, timeout=30, text=True)
    return answer.stdout == "True"


def _kubectl(layout: Layout) -> list[str]:
    # Its cache would stay in the home folder, one for each cluster that there ever was.
    cache = f"--cache-dir={layout.data}/kubectl"
    return [str(binary("kubectl")), f"--kubeconfig={layout.kubeconfig}", cache]


def _start(layout: Layout) -> None:
    layout.root.mkdir(mode=0o700)
    for folder in (layout.data, layout.logs):
        folder.mkdir()
    make_folders(layout)
    make_certificates(layout)
    api_port = _free_port()
    write_configuration(layout, api_port=api_port)
    _start_supervisor(layout, api_port)


def _start_supervisor(layout: Layout, api_port: int) -> None:
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
    with (layout.logs / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [*namespaces, sys.executable, "-m", SUPERVISOR, str(layout.root), str(api_port)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_ready(layout: Layout) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_ready(layout):
        if not _supervisors(layout):
            raise Failure(f"the cluster ended as it started; {layout.logs}/supervisor.log says why")
        if time.monotonic() > deadline:
            raise Failure(f"the node was not ready within {READY_TIMEOUT_S} s; the logs are in {layout.logs}")
        time.sleep(0.2)


def _call(layout: Layout, *arguments: str, objects: Iterable[dict[str, Any]] = ()) -> str:
    """Call kubectl, with objects as its input. Returns what it printed."""
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    command = [*_kubectl(layout), *arguments]
    done = subprocess.run(command, check=False, input=given, text=True, capture_output=True, timeout=60)
    if done.returncode != 0:
        raise Failure(f"kubectl {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def _supervisors(layout: Layout) -> list[int]:
    """The processes that were started for this folder, known by their command line: no file can be stale."""
    return _processes(lambda command: command[-4:-1] == ["-m", SUPERVISOR, str(layout.root)])


def _processes(is_meant: Callable[[list[str]], bool]) -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_meant(_command_line(pid))]


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        # Process 1 of a namespace has ended when all others of the namespace have.
        if not select.select([process], [], [], END_TIMEOUT_S)[0]:
            raise Failure(f"process {pid} did not end within {END_TIMEOUT_S} s")
    except ProcessLookupError:
        pass
    finally:
        os.close(process)


def _remove_cgroups() -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    for top in [CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")]:
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_cgroup(Path(folder), deadline)


def _remove_cgroup(group: Path, deadline: float) -> None:
    while True:
        try:
            return group.rmdir()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failure(f"{group} is still in use: {error}") from error
            # The last process of a cgroup leaves it a moment after its end.
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
