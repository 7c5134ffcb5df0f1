"""Where the cluster keeps what it writes, all of it below one folder that goes with the cluster, and its addresses."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/var/lib/hivewire-cluster")

NODE = "hivewire"
NODE_ADDRESS = "10.99.0.1"
NODE_NETWORK = f"{NODE_ADDRESS}/24"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/24"
API_SERVICE_ADDRESS = "10.96.0.1"
API_PORT = 6443
API_URL = f"https://{NODE_ADDRESS}:{API_PORT}"

NETWORK_NAMESPACE = "cluster"
CGROUP = "hivewire-cluster"
PAUSE_IMAGE = "localhost/hivewire-pause:1"


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path = ROOT

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def configuration(self) -> Path:
        return self.root / "configuration"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kubeconfig(self) -> Path:
        """For people and tests: from outside of the cluster's network, as its administrator."""
        return self.root / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd.sock"

    @property
    def api_socket(self) -> Path:
        """The one way in: a Unix socket does not belong to a network namespace."""
        return self.root / "api.sock"

    def certificate(self, name: str) -> Path:
        return self.certificates / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.certificates / f"{name}.key"

    def kubeconfig_of(self, name: str) -> Path:
        return self.configuration / f"{name}.kubeconfig"
