"""What the machine must have, said before anything is started."""

import os
import shutil
import subprocess
import sys

from .failure import Failure
from .tools import missing_tools

PACKAGES = (
    "buildah",
    "conntrack",
    "containernetworking-plugins",
    "debootstrap",
    "iproute2",
    "iptables",
    "nftables",
    "openssl",
    "podman",
    "procps",
    "runc",
    "socat",
)


def require_root() -> None:
    if sys.platform != "linux":
        raise Failure("this needs Linux: elsewhere, set KUBECONFIG to a cluster that you have, kind for instance")
    if os.geteuid() != 0:
        raise Failure("this needs root: it makes namespaces, mounts and cgroups")


def require_cluster() -> None:
    require_root()
    missing = [tool.name for tool in missing_tools()] + missing_packages()
    if missing:
        raise Failure(f"missing: {', '.join(missing)}; `make cluster-tools` gets them")


def missing_packages() -> list[str]:
    if shutil.which("dpkg-query") is None:
        raise Failure(f"this needs Debian or one of its kind, or these packages by other means: {', '.join(PACKAGES)}")
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *PACKAGES]
    lines = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout.splitlines()
    installed = {name for status, name in (line.split() for line in lines) if status == "installed"}
    return [package for package in PACKAGES if package not in installed]


def install_packages() -> None:
    missing = missing_packages()
    if not missing:
        return
    print(f"installing {', '.join(missing)} ...", flush=True)
    for arguments in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", *missing]):
        try:
            subprocess.run(
                ["apt-get", *arguments], check=True, timeout=900, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            )
        except subprocess.CalledProcessError as error:
            raise Failure(f"apt-get {arguments[0]} failed") from error
