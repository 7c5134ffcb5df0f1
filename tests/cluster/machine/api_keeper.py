"""Runs etcd and an API server for as long as anybody uses them, and no longer, however the users end.

Each user holds a shared lock on one file, which the kernel takes back with the user's process; whoever gets the file
for itself knows that nobody is left. So there is no count that a crash could leave wrong.

Started by `api_only.use` as `python -m cluster.machine.api_keeper ROOT USERS PORT ETCD_PORT ETCD_PEER_PORT`.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .layout import Layout
from .services import Service, api_server, etcd


def main() -> None:
    layout, users = Layout(Path(sys.argv[1])), Path(sys.argv[2])
    port, etcd_port, etcd_peer_port = map(int, sys.argv[3:])
    processes = [
        _start(layout, etcd(layout.data / "etcd", port=etcd_port, peer_port=etcd_peer_port)),
        _start(layout, api_server(layout, etcd_port=etcd_port, bind_address="127.0.0.1", port=port)),
    ]
    with users.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        # Who comes from now on waits for the lock, and has to see that nothing is there any more.
        layout.kubeconfig.unlink(missing_ok=True)
        for process in reversed(processes):
            process.kill()
            process.wait()
        shutil.rmtree(layout.data)


def _start(layout: Layout, service: Service) -> subprocess.Popen[bytes]:
    with (layout.logs / f"{service.name}.log").open("ab") as log:
        return subprocess.Popen(
            # They don't outlive this process, even if it is killed.
            ["setpriv", "--pdeathsig=KILL", *service.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"TMPDIR": str(layout.data)},
        )


if __name__ == "__main__":
    main()
