"""The first process of the cluster: all others are its children, and its end is theirs.

It runs as process 1 of a process namespace and in a mount namespace of its own, so the kernel itself ends every
program, container and shim with it, and gives up every mount, however the cluster came to its end. That is why nothing
here cleans up. A service that ends is started again, which makes the order of the starts unimportant.

Started by `cluster.up` as `python -m cluster.machine.supervisor ROOT PORT`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from .layout import CGROUP, NETWORK_NAMESPACE, NODE_NETWORK, Layout
from .services import Service, services
from .tools import tools_folder

CGROUPS = Path("/sys/fs/cgroup")
RESTART_PAUSE_S = 0.5
# The kubelet ends when it cannot set these, and they belong to the whole machine: it sets files in their place.
KUBELET_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def main() -> None:
    layout, api_port = Layout(Path(sys.argv[1])), int(sys.argv[2])
    _hide_the_machine(layout)
    _make_network()
    _make_cgroup()
    _run(layout, services(layout, api_port=api_port))


def _hide_the_machine(layout: Layout) -> None:
    """Keep from the machine what the cluster's programs would write to fixed places, kernel settings included."""
    for path in ("/run", "/var/log"):
        _call("mount", "-t", "tmpfs", "tmpfs", path)
    kept = Path("/run/kept")
    kept.mkdir()
    _call("mount", "--bind", str(layout.root), str(kept))
    _call("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    layout.root.mkdir(parents=True)
    _call("mount", "--move", str(kept), str(layout.root))
    # Images are loaded and removed much faster in memory, where they take 0.6 GB.
    (layout.data / "containerd").mkdir()
    _call("mount", "-t", "tmpfs", "tmpfs", str(layout.data / "containerd"))
    for setting in KUBELET_SETTINGS:
        changed = Path("/run", setting.replace("/", "."))
        changed.write_text(Path("/proc/sys", setting).read_text())
        _call("mount", "--bind", str(changed), f"/proc/sys/{setting}")
    # Volumes that the kubelet mounts have to be seen by containerd, in whichever order they are made.
    _call("mount", "--make-rshared", "/")


def _make_network() -> None:
    """Make a network without a way out: the default route leads to a bridge that has no ports."""
    _call("ip", "netns", "add", NETWORK_NAMESPACE)
    for command in (
        "ip link set lo up",
        "ip link add node type bridge",
        f"ip address add {NODE_NETWORK} dev node",
        "ip link set node up",
        "ip route add default dev node",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        _call("nsenter", f"--net=/run/netns/{NETWORK_NAMESPACE}", *command.split())


def _make_cgroup() -> None:
    """Make the cgroup below which all pods are, in each of cgroup v1's hierarchies, or in the only one of v2."""
    if (CGROUPS / "cgroup.controllers").exists():
        (CGROUPS / CGROUP).mkdir(exist_ok=True)
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        for group in (CGROUPS, CGROUPS / CGROUP):
            (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        return
    for hierarchy in CGROUPS.iterdir():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def _run(layout: Layout, remaining: list[Service]) -> None:
    running: dict[int, Service] = {}
    while True:
        for service in remaining:
            running[_start(layout, service)] = service
        # Orphans end up here too, and are no service.
        pid, status = os.wait()
        remaining = [running.pop(pid)] if pid in running else []
        if remaining:
            print(f"{remaining[0].name} ended with {os.waitstatus_to_exitcode(status)}", flush=True)
            time.sleep(RESTART_PAUSE_S)


def _start(layout: Layout, service: Service) -> int:
    environment = os.environ | {"PATH": f"{tools_folder() / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(layout.data)}
    with (layout.logs / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(service.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    # `os.wait` reaps it: Popen must not, nor complain that nobody did.
    process.returncode = 0
    return process.pid


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


if __name__ == "__main__":
    main()
