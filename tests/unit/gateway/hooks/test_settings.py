"""What can't work is told when the settings are read, or when the gateway is made."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hivewire_gateway import ConfigurationError, load_settings
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.hooks.hooks import Hooks

GOOD = """
[hooks.forge]
scheme = "github"
secrets = [{env = "FORGE_SECRET"}, {file = "forge.secret"}]
topic_type = "github.{header.X-GitHub-Event}"
source = "{body.repository.full_name}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def hooks(file: Path) -> Hooks:
    relay: Any = SimpleNamespace(namespace="test")
    return Hooks(Gateway(relay=relay, settings=load_settings(file)))


def test_a_hook_may_be_as_short_as_this(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_SECRET", "1")
    file.with_name("forge.secret").write_text("2\n\n3\n")
    file.write_text(GOOD)
    settings = load_settings(file).hooks["forge"]
    assert (str(settings.topic_type), settings.window_s) == ("github.{header.X-GitHub-Event}", 300)
    assert settings.secrets[1].file == file.with_name("forge.secret")
    hooks(file)


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ('"github"', '"gitlab"', "hooks.forge.scheme: "),
        ("{body.repository.full_name}", "{body}", "hooks.forge.source: {body} is no place"),
        ("{body.repository.full_name}", "{body.a", "hooks.forge.source: '{body.a' has a brace without its partner"),
        ('"github.{header.X-GitHub-Event}"', '"git hub"', "hooks.forge.topic_type: Invalid topic type 'git hub'"),
        ('"github.{header.X-GitHub-Event}"', "1", "hooks.forge.topic_type: must be a string"),
        ('"github.{header.X-GitHub-Event}"', '""', "hooks.forge.topic_type: a template must not be empty"),
        ('[{env = "FORGE_SECRET"}, {file = "forge.secret"}]', "[]", "hooks.forge.secrets: "),
        ('[{env = "FORGE_SECRET"}, {file = "forge.secret"}]', '["sesame"]', "hooks.forge.secrets.0: "),
        ("hooks.forge", 'hooks."a/b"', "the name of a hook is part of its address"),
        ("source", "sauce", "no key hooks.forge.sauce: did you mean source?"),
        ("source", "window_s = 0\nsource", "hooks.forge.window_s: "),
        ("source", "window_s = inf\nsource", "hooks.forge.window_s: "),
    ],
)
def test_what_is_wrong_is_named(file: Path, good: str, bad: str, says: str) -> None:
    assert good in GOOD
    file.write_text(GOOD.replace(good, bad))
    with pytest.raises(ConfigurationError) as error:
        load_settings(file)
    assert says in str(error.value)
    assert "sesame" not in str(error.value)


def test_a_secret_that_is_not_there_or_makes_no_sense_is_named_and_not_shown(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(GOOD)
    monkeypatch.delenv("FORGE_SECRET", raising=False)
    with pytest.raises(ConfigurationError, match=r"hooks\.forge\.secrets: can't use the environment variable FORGE_SE"):
        hooks(file)
    monkeypatch.setenv("FORGE_SECRET", "  \n")
    with pytest.raises(ConfigurationError, match=r"FORGE_SECRET: it holds no secret"):
        hooks(file)
    monkeypatch.setenv("FORGE_SECRET", "1")
    with pytest.raises(ConfigurationError, match=r"can't use the file .*forge\.secret: .*No such file"):
        hooks(file)
    file.write_text(GOOD.replace("github", "standard"))
    monkeypatch.setenv("FORGE_SECRET", "whsec_open sesame")
    with pytest.raises(ConfigurationError) as error:
        hooks(file)
    assert "is whsec_ and base64" in str(error.value) and "sesame" not in str(error.value)
