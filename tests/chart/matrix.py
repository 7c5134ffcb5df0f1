"""Values of installations that people have."""

from __future__ import annotations

from typing import Any

EVERYTHING: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "otlpEndpoint": "http://otel-collector.observability.svc:4318",
    "operator": {"replicas": 3, "watchNamespaces": ["agents", "shop"], "logins": ["other"]},
    "gateway": {
        "anonymous": True,
        "tokens": {"existingSecret": "tokens"},
        "env": [{"name": "GITHUB_WEBHOOK_SECRET", "value": "x"}],
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": ["agents.example.com"],
            "tls": [{"secretName": "tls", "hosts": ["agents.example.com"]}],
        },
        "autoscaling": {"enabled": True},
        "tolerations": [{"key": "web", "operator": "Exists"}],
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
    },
    "toolbox": {"enabled": True, "nodeSelector": {"disk": "ssd"}, "priorityClassName": "low"},
    "nats": {
        "nodes": 3,
        "tls": {"existingSecret": "nats-tls"},
        "storage": {"className": "fast"},
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {}},
    },
    "networkPolicies": {
        "enabled": True,
        "gatewayFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "natsFrom": [{"podSelector": {"matchLabels": {"app": "nats-box"}}}],
        "agentEgress": [{"ports": [{"port": 443}]}],
        "gatewayEgress": [{"ports": [{"port": 443}]}],
    },
    "monitoring": {"enabled": True, "additionalLabels": {"release": "prometheus"}},
}

EXTERNAL: dict[str, Any] = {
    "nats": {
        "mode": "external",
        "external": {
            "url": "nats://nats.agents.svc:4222",
            "login": "default",
            "bootstrap": True,
            "replicas": 3,
            "caSecret": "nats-ca",
        },
    },
    "toolbox": {"enabled": True},
    "networkPolicies": {"enabled": True},
}

MATRIX: dict[str, dict[str, Any]] = {
    "default": {},
    "three servers": {"nats": {"nodes": 3}, "networkPolicies": {"enabled": True}},
    "everything": EVERYTHING,
    "external NATS": EXTERNAL,
    "external NATS without a login": {"nats": {"mode": "external", "external": {"url": "tls://a:4222,tls://b:4222"}}},
    "all namespaces": {"operator": {"clusterWide": True}, "networkPolicies": {"enabled": True}},
    "as little as can be": {
        "crds": {"enabled": False},
        "operator": {"replicas": 1},
        "rbac": {"aggregate": False},
        "system": {"create": False},
        "gateway": {"enabled": False},
        "test": {"enabled": False},
    },
    "by digest": {"image": {"digest": f"sha256:{'0' * 64}"}, "gateway": {"replicas": 1}},
}
