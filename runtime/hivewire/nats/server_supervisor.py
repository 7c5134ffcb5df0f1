"""Runs a server for another process, and ends it when that process ends, in whatever way.

Started by its path, as a script of its own: nothing runs in a process that dies by SIGKILL, so another one has to
watch. It holds the read end of a pipe: a byte in it means that the owner lets go, end of file that the owner is gone.
A child that the owner forked may keep the other end open, so the parent's id is watched too. What it ends it kills: a
server that was stopped by SIGSTOP heeds nothing else. An owner that is gone can't tidy up, so its temporary directory
is removed here.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

OWNER_CHECK_S = 0.5


def supervise(owner_pid: int, temporary_dir: str, command: Sequence[str]) -> int:
    """Run a command until it ends or its owner is gone, and return its exit code."""
    # A child's death interrupts `select` by a byte in this pipe: no polling, and no race with a death before it.
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while server.poll() is None:
        readable = select.select([sys.stdin.fileno(), woken], [], [], OWNER_CHECK_S)[0]
        if woken in readable:
            os.read(woken, 64)
        let_go = sys.stdin.fileno() in readable and os.read(sys.stdin.fileno(), 1) != b""
        orphaned = not let_go and (sys.stdin.fileno() in readable or os.getppid() != owner_pid)
        if let_go or orphaned:
            server.kill()
            server.wait()
        if orphaned and temporary_dir:
            shutil.rmtree(temporary_dir, ignore_errors=True)
    return server.returncode


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
