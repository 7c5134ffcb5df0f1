"""The cluster's certificate authority, made anew with each cluster, and the certificates that its programs show."""

import subprocess
from dataclasses import dataclass

from .layout import API_SERVICE_ADDRESS, NODE, NODE_ADDRESS, Layout

DAYS = "30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a certificate names: the API server takes the organization for the user's group."""

    name: str
    user: str
    group: str | None = None
    hosts: str | None = None

    @property
    def subject(self) -> str:
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"


_API_HOSTS = ",".join(
    ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost"]
    + [f"IP:{address}" for address in (API_SERVICE_ADDRESS, NODE_ADDRESS, "127.0.0.1")]
)

IDENTITIES = (
    Identity(name="api", user="kube-apiserver", hosts=_API_HOSTS),
    Identity(name="api-to-kubelet", user="kube-apiserver-kubelet-client", group="system:masters"),
    Identity(name="admin", user="admin", group="system:masters"),
    Identity(name="controllers", user="system:kube-controller-manager"),
    Identity(name="scheduler", user="system:kube-scheduler"),
    Identity(name="proxy", user="system:kube-proxy"),
    Identity(name="kubelet", user=f"system:node:{NODE}", group="system:nodes"),
)


def make_certificates(layout: Layout) -> None:
    layout.certificates.mkdir(parents=True)
    _openssl(layout, "ca", "/CN=hivewire-cluster", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl(layout, "service-accounts", "/CN=service-accounts")
    for identity in IDENTITIES:
        hosts = ["-addext", f"subjectAltName={identity.hosts}"] if identity.hosts else []
        signed_by = ["-CA", str(layout.certificate("ca")), "-CAkey", str(layout.key("ca"))]
        constraints = ["-addext", "basicConstraints=critical,CA:FALSE"]
        _openssl(layout, identity.name, identity.subject, *signed_by, *constraints, *hosts)


def _openssl(layout: Layout, name: str, subject: str, *options: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(layout.key(name))]
    command = ["openssl", "req", "-x509", *key, "-days", DAYS, "-subj", subject, "-out", str(layout.certificate(name))]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=60)
