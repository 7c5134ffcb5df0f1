"""The programs that make up the cluster, and their command lines."""

from dataclasses import dataclass
from pathlib import Path

from .layout import (
    API_PORT,
    NETWORK_NAMESPACE,
    NODE,
    NODE_ADDRESS,
    SERVICE_NETWORK,
    Layout,
)
from .tools import binary

ETCD_PORT = 2379
ETCD_PEER_PORT = 2380


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that runs as long as the cluster, in its network unless it is the way into it."""

    name: str
    command: tuple[str, ...]
    is_in_cluster_network: bool = True

    @property
    def argv(self) -> list[str]:
        # `ip netns exec` would hide /sys/fs/cgroup.
        enter = ["nsenter", f"--net=/run/netns/{NETWORK_NAMESPACE}"] if self.is_in_cluster_network else []
        return [*enter, *self.command]


def services(layout: Layout, *, api_port: int) -> list[Service]:
    return [
        etcd(layout.data / "etcd"),
        api_server(layout),
        _controllers(layout),
        _scheduler(layout),
        _containerd(layout),
        _kubelet(layout),
        _proxy(layout),
        _names(layout),
        *_way_in(layout, api_port),
    ]


def _service(name: str, *options: str) -> Service:
    return Service(name=name, command=(str(binary(name)), *options))


def etcd(data: Path, *, port: int = ETCD_PORT, peer_port: int = ETCD_PEER_PORT) -> Service:
    clients, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return _service(
        "etcd",
        f"--data-dir={data}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        # The data is worth nothing after the cluster.
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def api_server(
    layout: Layout, *, etcd_port: int = ETCD_PORT, bind_address: str = "0.0.0.0", port: int = API_PORT
) -> Service:
    return _service(
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--tls-cert-file={layout.certificate('api')}",
        f"--tls-private-key-file={layout.key('api')}",
        f"--cert-dir={layout.data}/kube-apiserver",
        f"--bind-address={bind_address}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={layout.key('service-accounts')}",
        f"--service-account-key-file={layout.certificate('service-accounts')}",
        f"--client-ca-file={layout.certificate('ca')}",
        f"--kubelet-client-certificate={layout.certificate('api-to-kubelet')}",
        f"--kubelet-client-key={layout.key('api-to-kubelet')}",
        # The node's name is in no DNS: `kubectl logs` and `exec` would look it up.
        "--kubelet-preferred-address-types=InternalIP",
    )


def _controllers(layout: Layout) -> Service:
    return _service(
        "kube-controller-manager",
        f"--kubeconfig={layout.kubeconfig_of('controllers')}",
        f"--service-account-private-key-file={layout.key('service-accounts')}",
        f"--root-ca-file={layout.certificate('ca')}",
        f"--cert-dir={layout.data}/kube-controller-manager",
        f"--flex-volume-plugin-dir={layout.data}/volume-plugins",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
    )


def _scheduler(layout: Layout) -> Service:
    kubeconfig = f"--kubeconfig={layout.kubeconfig_of('scheduler')}"
    return _service("kube-scheduler", kubeconfig, f"--cert-dir={layout.data}/kube-scheduler", "--leader-elect=false")


def _containerd(layout: Layout) -> Service:
    return _service("containerd", f"--config={layout.configuration}/containerd.toml")


def _kubelet(layout: Layout) -> Service:
    return _service(
        "kubelet",
        f"--config={layout.configuration}/kubelet.json",
        f"--kubeconfig={layout.kubeconfig_of('kubelet')}",
        f"--root-dir={layout.data}/kubelet",
        f"--cert-dir={layout.data}/kubelet/pki",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    )


def _proxy(layout: Layout) -> Service:
    return _service(
        "kube-proxy",
        f"--kubeconfig={layout.kubeconfig_of('proxy')}",
        f"--hostname-override={NODE}",
        "--proxy-mode=nftables",
        # These would change the machine, not only the cluster's network.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    )


def _names(layout: Layout) -> Service:
    return _service("coredns", f"-conf={layout.configuration}/Corefile")


def _way_in(layout: Layout, api_port: int) -> list[Service]:
    """Two relays lead from this machine's loopback address to the API server; none leads out."""
    inner = ("socat", f"UNIX-LISTEN:{layout.api_socket},fork,unlink-early,mode=600", f"TCP:{NODE_ADDRESS}:{API_PORT}")
    listen = f"TCP-LISTEN:{api_port},bind=127.0.0.1,reuseaddr,fork"
    return [
        Service(name="way-in-cluster", command=inner),
        Service(
            name="way-in-machine",
            command=("socat", listen, f"UNIX-CONNECT:{layout.api_socket}"),
            is_in_cluster_network=False,
        ),
    ]
