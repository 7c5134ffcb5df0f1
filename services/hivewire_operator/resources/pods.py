"""The part of a pod that users may say something about. Nothing in it gives a pod more rights than others have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hivewire_operator.resources.fields import SECRET_PREFIX, ConfigMapKey, Name, Part, SecretKey, list_map, ruled

Quantities = Annotated[dict[str, int | str], Field(max_length=16)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]

RESERVED_VARIABLES = (
    "BROKER_URL",
    "HIVEWIRE_DEPLOYMENT",
    "HIVEWIRE_HEALTH_HOST",
    "HIVEWIRE_HEALTH_PORT",
    "HIVEWIRE_NAMESPACE",
    "INSTANCE_ID",
    "NATS_CREDS",
)


class Resources(Part):
    """What a pod asks for, and may use at most."""

    requests: Quantities = Field(default={}, description="What is kept for it, such as cpu: 100m.")
    limits: Quantities = Field(default={}, description="What it may use at most, such as memory: 512Mi.")


class VariableSource(Part):
    """Where the value of a variable comes from."""

    model_config = ruled(
        ("has(self.secretKeyRef) != has(self.configMapKeyRef)", "give either secretKeyRef or configMapKeyRef")
    )
    secret_key_ref: SecretKey | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: ConfigMapKey | None = Field(default=None, description="A key of a ConfigMap.")


class Variable(Part):
    """A variable in the environment of the agents."""

    model_config = ruled(
        ("!(has(self.value) && has(self.valueFrom))", "give either value or valueFrom"),
        (
            f"!(self.name in [{', '.join(map(repr, RESERVED_VARIABLES))}])",
            "the operator sets this variable itself",
        ),
    )
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Its name."
    )
    value: Annotated[str, Field(max_length=8192)] | None = Field(default=None, description="Its value.")
    value_from: VariableSource | None = Field(default=None, description="Where its value comes from.")


class NamedSecret(Part):
    """A Secret in the same namespace."""

    model_config = ruled(
        (f"!self.name.startsWith('{SECRET_PREFIX}')", f"Secrets named {SECRET_PREFIX}* belong to the operator")
    )
    name: Name = Field(description="Name of the Secret.")


class SecretFiles(Part):
    """A Secret whose keys the agents find as files."""

    model_config = ruled(
        (f"!self.secretName.startsWith('{SECRET_PREFIX}')", f"Secrets named {SECRET_PREFIX}* belong to the operator"),
        # In the one way of writing each path, so that the next rule can't be got round.
        (
            "self.mountPath.matches('^(/[.]*[A-Za-z0-9_-][A-Za-z0-9._-]*)+$')",
            "mountPath is an absolute path: a / before each name, and no name is . or ..",
        ),
        (
            "!self.mountPath.matches('^/(var$|(var/)?(run|tmp)(/|$))')",
            "/run, /tmp and the same in /var are the pod's own: mount it elsewhere",
        ),
    )
    secret_name: Name = Field(description="Name of the Secret.")
    mount_path: Annotated[str, Field(min_length=2, max_length=512)] = Field(description="The folder of the files.")


class Toleration(Part):
    """A taint of nodes that the pods put up with."""

    key: Annotated[str, Field(max_length=316)] | None = Field(default=None, description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How key and value are compared.")
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; left out, every one."
    )
    toleration_seconds: int | None = Field(default=None, description="For how long NoExecute is put up with.")


class PodTemplate(Part):
    """What may be said about the pods."""

    resources: Resources = Field(default=Resources(), description="What a pod asks for, and may use at most.")
    env: Annotated[list[Variable], Field(max_length=64)] = Field(
        default=[], description="Variables in the environment of the agents.", json_schema_extra=list_map("name")
    )
    secrets: Annotated[list[SecretFiles], Field(max_length=16)] = Field(
        default=[],
        description="Secrets that the agents find as files.",
        json_schema_extra=list_map("mountPath"),
    )
    image_pull_secrets: Annotated[list[NamedSecret], Field(max_length=8)] = Field(
        default=[], description="Secrets to pull the image with.", json_schema_extra=list_map("name")
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the image is pulled."
    )
    node_selector: Labels = Field(default={}, description="Labels that a node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(
        default=[], description="Taints of nodes that the pods put up with."
    )
    affinity: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = (
        Field(default={}, description="As in a pod's spec.")
    )
    priority_class_name: Name | None = Field(default=None, description="The PriorityClass of the pods.")
    termination_grace_period_seconds: Annotated[int, Field(ge=5, le=86_400)] = Field(
        default=60,
        description="How long a pod may take to finish the turns that run when it is stopped. What is not finished then"
        " is handled again elsewhere.",
    )
    labels: Labels = Field(default={}, description="More labels of the pods.")
    annotations: Labels = Field(default={}, description="More annotations of the pods.")
