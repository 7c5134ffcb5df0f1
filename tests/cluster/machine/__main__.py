"""The command line: `python -m cluster.machine TARGET`, with `tests` on the path. The Makefile has the same targets."""

import argparse
import sys
import time

from .cluster import down, is_ready, up
from .failure import Failure
from .images import build, build_base, load, project_images
from .layout import PAUSE_IMAGE, ROOT, Layout
from .requirements import install_packages, require_root
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
    parser.add_argument("command", choices=commands)
    command = parser.parse_args().command
    started = time.monotonic()
    try:
        commands[command]()
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    print(f"{command}: done after {time.monotonic() - started:.1f} s")
    return 0


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
