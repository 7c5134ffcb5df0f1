"""The CustomResourceDefinitions, made from the models: `python -m hivewire_operator.resources.definitions FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from hivewire_operator.resources.agent_deployment import AgentDeployment
from hivewire_operator.resources.agent_subscription import AgentSubscription
from hivewire_operator.resources.agent_system import AgentSystem
from hivewire_operator.resources.fields import GROUP, VERSION
from hivewire_operator.resources.structural import structural_schema

Column = dict[str, Any]


def column(name: str, path: str, kind: str = "string", *, priority: int = 0) -> Column:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}


READY = column("Ready", '.status.conditions[?(@.type=="Ready")].status')
AGE = column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One kind of resource."""

    model: type[BaseModel]
    kind: str
    plural: str
    short: str
    columns: Sequence[Column]
    scale: bool = False

    def manifest(self) -> dict[str, Any]:
        """Return the CustomResourceDefinition."""
        subresources: dict[str, Any] = {"status": {}}
        if self.scale:
            subresources["scale"] = {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": self.kind,
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "shortNames": [self.short],
                    "categories": ["hivewire"],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "subresources": subresources,
                        "additionalPrinterColumns": [*self.columns, AGE],
                        "schema": {"openAPIV3Schema": structural_schema(self.model)},
                    }
                ],
            },
        }


DEFINITIONS = (
    Definition(
        model=AgentSystem,
        kind="AgentSystem",
        plural="agentsystems",
        short="agsys",
        columns=[
            READY,
            column("Types", ".status.agentTypes", "integer"),
            column("Processes", ".status.sessions", "integer"),
            column("NATS", ".spec.nats.url", priority=1),
        ],
    ),
    Definition(
        model=AgentDeployment,
        kind="AgentDeployment",
        plural="agentdeployments",
        short="agd",
        columns=[
            column("Phase", ".status.phase"),
            column("Desired", ".spec.replicas", "integer"),
            column("Ready", ".status.readyReplicas", "integer"),
            column("Lag", ".status.lag", "integer"),
            column("Load", ".status.load", "integer", priority=1),
            column("Image", ".spec.image", priority=1),
        ],
        scale=True,
    ),
    Definition(
        model=AgentSubscription,
        kind="AgentSubscription",
        plural="agentsubscriptions",
        short="agsub",
        columns=[
            READY,
            column("Topic", ".spec.topicType"),
            column("Prefix", ".spec.topicPrefix"),
            column("Agent-Type", ".spec.agentType"),
        ],
    ),
)


def main(folder: Path) -> None:
    """Write each definition as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in DEFINITIONS:
        (folder / f"{each.plural}.yaml").write_text(yaml.safe_dump(each.manifest(), sort_keys=False, width=120))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
