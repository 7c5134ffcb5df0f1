import sys
from pathlib import Path

import pytest

import hivewire
from hivewire.model.function_call import FunctionCall
from hivewire.model.providers import provider_of, resolve_provider


class Outer:
    class Inner:
        pass

    not_a_class = 1


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package outside the trusted namespaces; importing it leaves it in sys.modules."""
    name = "hivewire_test_plugin"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("class Thing: pass\n")
    (package / "sub.py").write_text("class Other: pass\n")
    (package / "broken.py").write_text("import a_module_that_does_not_exist\n")
    (tmp_path / f"{name}_neighbour.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in (name, f"{name}.sub", f"{name}.broken", f"{name}_neighbour"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, module)
    return name


@pytest.fixture(autouse=True)
def nothing_else_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", raising=False)
    monkeypatch.delenv("AUTOGEN_ALLOWED_PROVIDER_NAMESPACES", raising=False)


def test_hivewires_own_classes_are_trusted() -> None:
    assert provider_of(FunctionCall) == "hivewire.model.function_call.FunctionCall"
    assert resolve_provider(provider_of(FunctionCall)) is FunctionCall


def test_classes_of_test_modules_are_trusted_nested_ones_too() -> None:
    assert resolve_provider(provider_of(Outer)) is Outer
    assert resolve_provider(provider_of(Outer.Inner)) is Outer.Inner


@pytest.mark.parametrize("provider", ["autogen_core.FunctionCall", "autogen_core._types.FunctionCall"])
def test_autogen_core_leads_to_the_hivewire_class_of_that_name(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setattr(hivewire, "FunctionCall", FunctionCall, raising=False)
    assert resolve_provider(provider) is FunctionCall


@pytest.mark.parametrize("provider", ["os.path.join", "subprocess.Popen", "builtins.eval", "hivewire_evil.Thing"])
def test_other_namespaces_are_refused(provider: str) -> None:
    with pytest.raises(ValueError, match="trusted"):
        resolve_provider(provider)


def test_a_refused_module_is_not_imported(plugin: str) -> None:
    with pytest.raises(ValueError, match="HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES"):
        resolve_provider(f"{plugin}.Thing")
    assert plugin not in sys.modules


@pytest.mark.parametrize("variable", ["HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", "AUTOGEN_ALLOWED_PROVIDER_NAMESPACES"])
@pytest.mark.parametrize("entry", ["{}", "{}.", "other, {} ,"])
def test_the_environment_trusts_further_packages(
    monkeypatch: pytest.MonkeyPatch, plugin: str, variable: str, entry: str
) -> None:
    monkeypatch.setenv(variable, entry.format(plugin))
    assert resolve_provider(f"{plugin}.Thing").__module__ == plugin
    assert resolve_provider(f"{plugin}.sub.Other").__module__ == f"{plugin}.sub"
    with pytest.raises(ValueError, match="trusted"):
        resolve_provider(f"{plugin}_neighbour.Thing")


@pytest.mark.parametrize("entry", ["", ",", " . ,.", "*"])
def test_an_empty_entry_trusts_nothing(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", entry)
    with pytest.raises(ValueError, match="trusted"):
        resolve_provider("subprocess.Popen")


@pytest.mark.parametrize(
    "provider", ["", "Thing", ".", "a..b", ".hivewire.X", "hivewire.X.", "hive wire.X", "hivewire:X"]
)
def test_malformed_paths_are_refused(provider: str) -> None:
    with pytest.raises(ValueError, match="dotted path"):
        resolve_provider(provider)


@pytest.mark.parametrize(
    "provider",
    [
        "hivewire.no_such_module.Thing",
        "hivewire.model.function_call.Nothing",
        "hivewire.model.function_call.json.JSONDecoder",
        "hivewire.model.images.Image.allow_urls",
        f"{__name__}.Outer.not_a_class",
    ],
)
def test_paths_that_lead_to_no_class_of_the_module_are_refused(provider: str) -> None:
    with pytest.raises(ValueError):
        resolve_provider(provider)


def test_a_module_that_cannot_be_imported_raises_its_own_error(monkeypatch: pytest.MonkeyPatch, plugin: str) -> None:
    monkeypatch.setenv("HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", plugin)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_does_not_exist"):
        resolve_provider(f"{plugin}.broken.Thing")
