"""What stands in two places is the same in both."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from chart.conftest import CHART, ROOT, Manifest, Render
from chart.matrix import EXTERNAL
from chart.schemas import check_custom, is_custom
from hivewire import __version__
from k8s.manifests import COPIES, files

SAMPLES = sorted((ROOT / "k8s" / "samples").iterdir())
IMAGE = ROOT / "examples" / "image"


def test_copies_and_manifests_are_as_they_are_made() -> None:
    texts = files(ROOT)
    assert {path: (ROOT / path).read_text() for path in texts} == texts, "run `make manifests`"
    there = {path.relative_to(ROOT) for folder in COPIES.values() for path in (CHART / "files" / folder).iterdir()}
    assert there <= texts.keys()


def test_the_chart_has_the_version_of_the_project() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert metadata["version"] == metadata["appVersion"] == __version__
    assert "dependencies" not in metadata, "a chart with dependencies does not install from a clone"


def test_the_manifests_are_of_one_namespace_and_what_kubernetes_knows() -> None:
    manifests = list(yaml.safe_load_all((ROOT / "k8s" / "install.yaml").read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.36", strict=True)
        assert manifest["metadata"].get("namespace", "hivewire") == "hivewire"
    assert "Secret" not in {each["kind"] for each in manifests}, "a Secret that is public is none"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_what_its_definition_says(path: Path) -> None:
    manifest: Manifest = yaml.safe_load(path.read_text())
    assert is_custom(manifest)
    check_custom(manifest)
    if manifest["kind"] == "AgentDeployment":
        module, setup = manifest["spec"]["module"].split(":")
        program = (IMAGE / f"{module}.py").read_text()
        assert f"def {setup}(" in program
        assert all(f'"{each["name"]}"' in program for each in manifest["spec"]["agentTypes"])


def test_the_values_for_nats_own_chart_fit_those_for_ours(render: Render) -> None:
    theirs = yaml.safe_load((CHART / "nats-values.yaml").read_text())
    manifests = render(EXTERNAL)
    (system,) = [
        yaml.safe_load(each["data"]["system.yaml"]) for each in manifests if "system.yaml" in each.get("data", {})
    ]
    (job,) = [each for each in manifests if each["kind"] == "Job" and each["metadata"]["name"] == "hivewire-bootstrap"]
    assert theirs["config"]["cluster"]["replicas"] == system["spec"]["streams"]["replicas"]
    assert theirs["config"]["merge"]["max_control_line"] == 262144
    assert theirs["config"]["merge"]["jetstream"]["sync_interval"] == "always"
    assert theirs["podTemplate"]["patch"][0]["value"]["secret"]["secretName"] == "hivewire-nats-auth"
    mounted = theirs["container"]["patch"][0]["value"]["mountPath"]
    # NATS looks for it from the folder of its configuration.
    assert Path("/etc/nats-config", theirs["config"]["merge"]["00$include"]).as_posix().replace(
        "nats-config/../", ""
    ) == (f"{mounted}/resolver.conf")
    assert "--broker=nats://nats.agents.svc:4222" in job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert system["spec"]["nats"]["login"] == "default"
