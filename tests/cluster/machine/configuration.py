"""The configuration files of the cluster's programs. JSON where YAML is read: it is YAML."""

import base64
import json
from pathlib import Path
from typing import Any

from .certificates import IDENTITIES
from .layout import API_URL, CGROUP, NODE_ADDRESS, PAUSE_IMAGE, POD_NETWORK, Layout


def write_configuration(layout: Layout, *, api_port: int) -> None:
    """Write all files; `api_port` is the port of this machine's loopback address that leads to the API server."""
    layout.configuration.mkdir(parents=True)
    for identity in IDENTITIES:
        _write_json(layout.kubeconfig_of(identity.name), _kubeconfig(layout, identity.name, API_URL))
    write_kubeconfig(layout, api_port=api_port)
    _write_json(layout.configuration / "kubelet.json", _kubelet(layout))
    _write_json(layout.configuration / "cni/10-hivewire.conflist", _pod_network(layout))
    (layout.configuration / "containerd.toml").write_text(_containerd(layout))
    (layout.configuration / "Corefile").write_text(_names(layout))


def write_kubeconfig(layout: Layout, *, api_port: int) -> None:
    """Write the file with which the administrator reaches the API server from this machine."""
    _write_json(layout.kubeconfig, _kubeconfig(layout, "admin", f"https://127.0.0.1:{api_port}"))


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def _kubeconfig(layout: Layout, identity: str, server: str) -> dict[str, Any]:
    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    user = {
        "client-certificate-data": encoded(layout.certificate(identity)),
        "client-key-data": encoded(layout.key(identity)),
    }
    cluster = {"server": server, "certificate-authority-data": encoded(layout.certificate("ca"))}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hivewire", "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": "hivewire", "context": {"cluster": "hivewire", "user": identity}}],
        "current-context": "hivewire",
    }


def _kubelet(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        # Root on a machine that is itself in a sandbox may lack what the kubelet wants to set in the kernel.
        "featureGates": {"KubeletInUserNamespace": True},
        # Nothing could be pulled again.
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": str(layout.data / "pod-logs"),
        "resolvConf": "",
        "seccompDefault": True,
        "volumePluginDir": str(layout.data / "volume-plugins"),
    }


def _pod_network(layout: Layout) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(layout.data / "pod-addresses"),
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _containerd(layout: Layout) -> str:
    return f"""\
version = 3
root = "{layout.data}/containerd"
state = "/run/containerd"

[grpc]
address = "{layout.containerd_socket}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{layout.configuration}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false
"""


def _names(layout: Layout) -> str:
    # What is not of the cluster does not exist: a refusal would let resolvers try again and wait.
    return f"""\
cluster.local in-addr.arpa {{
    bind {NODE_ADDRESS}
    kubernetes {{
        kubeconfig {layout.kubeconfig_of("admin")}
        ttl 1
    }}
}}
. {{
    bind {NODE_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
