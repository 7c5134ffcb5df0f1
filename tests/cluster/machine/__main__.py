"""The command line: `python -m cluster.machine TARGET`, with `tests` on the path. The Makefile has the same targets."""

import argparse
import os
import subprocess
import sys
import time

from .cluster import down, is_ready, up
from .failure import Failure
from .images import build, build_base, load, project_images
from .layout import PAUSE_IMAGE, ROOT, Layout
from .requirements import install_packages, require_cluster, require_root
from .tools import build_tools


def main() -> int:
    commands = {
        "cluster-tools": _tools,
        "cluster-up": _up,
        "cluster-down": _down,
        "image": _image,
        "cluster-image": _load,
    }
    parser = argparse.ArgumentParser(prog="python -m cluster.machine", description="A Kubernetes cluster for tests.")
    parser.add_argument("command", choices=[*commands, "run"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what `run` runs")
    given = parser.parse_args()
    command = given.command
    started = time.monotonic()
    try:
        if command == "run":
            return _run(given.arguments)
        commands[command]()
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    print(f"{command}: done after {time.monotonic() - started:.1f} s")
    return 0


def _run(command: list[str]) -> int:
    """Run a command while there is a cluster with the project's images, if there can be one."""
    is_ours = "KUBECONFIG" not in os.environ
    try:
        if is_ours:
            require_cluster()
    except Failure as failure:
        print(f"without a cluster of its own: {failure}", file=sys.stderr)
        is_ours = False
    try:
        if is_ours:
            _up()
            _load()
        return subprocess.run(command, check=False).returncode
    finally:
        if is_ours:
            _down()


def _tools() -> None:
    require_root()
    install_packages()
    build_tools()
    build_base()


def _up() -> None:
    layout = Layout(ROOT)
    up(layout)
    load(layout, PAUSE_IMAGE)
    print(f"export KUBECONFIG={layout.kubeconfig}")


def _down() -> None:
    require_root()
    down(Layout(ROOT))


def _image() -> None:
    require_root()
    build_base()
    for image in project_images():
        build(image)


def _load() -> None:
    layout = Layout(ROOT)
    if not is_ready(layout):
        raise Failure("there is no cluster to load the images into; `make cluster-up` makes one")
    _image()
    load(layout, *(image.name for image in project_images()))


if __name__ == "__main__":
    sys.exit(main())
