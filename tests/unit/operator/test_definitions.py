"""The custom resources, as they are applied to a cluster."""

from pathlib import Path

from hivewire_operator.resources.definitions import main

FOLDER = Path(__file__).parents[3] / "k8s" / "crds"


def test_the_definitions_are_what_the_models_say(tmp_path: Path) -> None:
    main(tmp_path)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    there = {file.name: file.read_text() for file in FOLDER.iterdir()}
    assert made == there, "run: python -m hivewire_operator.resources.definitions k8s/crds"
