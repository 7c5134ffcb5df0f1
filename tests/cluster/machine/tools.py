"""Builds the programs of a Kubernetes cluster from their pinned Go modules.

Each folder of `modules/` is a Go module of its own: what it requires is pinned in its `go.mod`, and the hashes of all
that it is built from in its `go.sum`. A binary is built again only when its folder or its flags changed.
"""

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure

MODULES = Path(__file__).parent / "modules"
BUILD_TIMEOUT_S = 3600


def tools_folder() -> Path:
    """The folder that outlives the checkout; `HIVEWIRE_CLUSTER_TOOLS` names another one."""
    return Path(os.environ.get("HIVEWIRE_CLUSTER_TOOLS") or Path.home() / ".cache/hivewire/cluster-tools")


def binary(name: str) -> Path:
    return tools_folder() / "bin" / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program, the folder of `modules/` that pins it, and the Go package of its main function."""

    name: str
    module: str
    package: str
    tags: str = ""
    ldflags: str = "-s -w"

    @property
    def flags(self) -> list[str]:
        return ["-trimpath", f"-ldflags={self.ldflags}", f"-tags={self.tags}"]

    def stamp(self) -> str:
        """What the binary is built from, as a hash."""
        parts = [path.read_bytes() for path in sorted((MODULES / self.module).iterdir())]
        return hashlib.sha256(b"\0".join([*parts, self.package.encode(), *map(str.encode, self.flags)])).hexdigest()

    def is_built(self) -> bool:
        return (
            binary(self.name).exists() and _stamp_file(self).exists() and _stamp_file(self).read_text() == self.stamp()
        )


def _kubernetes(name: str) -> Tool:
    # Without its version the API server calls itself v0.0.0, which Helm and the kubelet refuse.
    version = "k8s.io/component-base/version"
    ldflags = f"-s -w -X {version}.gitVersion=v1.36.3 -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    return Tool(name=name, module="kubernetes", package=f"k8s.io/kubernetes/cmd/{name}", ldflags=ldflags)


def _containerd(name: str) -> Tool:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    return Tool(name=name, module="containerd", package=package, tags="no_btrfs,no_devmapper,no_zfs,no_aufs")


TOOLS = (
    *map(
        _kubernetes, ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy")
    ),
    Tool(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3"),
    *map(_containerd, ("containerd", "containerd-shim-runc-v2", "ctr")),
    Tool(name="coredns", module="coredns", package="hivewire.dev/cluster-tools/coredns"),
    Tool(name="helm", module="helm", package="helm.sh/helm/v4/cmd/helm"),
    Tool(name="pause", module="pause", package="hivewire.dev/cluster-tools/pause"),
)


def missing_tools() -> list[Tool]:
    return [tool for tool in TOOLS if not tool.is_built()]


def build_tools() -> None:
    """Build what is missing, and tell what and how long.

    Raises:
        Failure: there is no Go, or a build failed.
    """
    missing = missing_tools()
    if missing and shutil.which("go") is None:
        raise Failure("there is no `go` on PATH; the cluster's programs are built with Go 1.26 or later")
    for tool in missing:
        _build(tool)
    print(f"{len(TOOLS)} programs in {tools_folder() / 'bin'}, {len(missing)} of them built now")


def _build(tool: Tool) -> None:
    print(f"building {tool.name} ...", end=" ", flush=True)
    started = time.monotonic()
    path = binary(tool.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["go", "build", *tool.flags, "-o", path, tool.package],
            cwd=MODULES / tool.module,
            env=os.environ | {"CGO_ENABLED": "0"},
            check=True,
            timeout=BUILD_TIMEOUT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{tool.name} was not built: {error}") from error
    _stamp_file(tool).write_text(tool.stamp())
    print(f"{time.monotonic() - started:.0f} s")


def _stamp_file(tool: Tool) -> Path:
    return binary(tool.name).with_suffix(".stamp")
