import json
import warnings
from collections.abc import Iterator
from typing import Any, Self

import pytest
from pydantic import BaseModel, ValidationError

from hivewire.model import components
from hivewire.model.components import (
    Component,
    ComponentBase,
    ComponentFromConfig,
    ComponentLoader,
    ComponentModel,
    ComponentToConfig,
    is_component_class,
    is_component_instance,
)


class Config(BaseModel):
    value: str
    note: str | None = None


class Interface(ComponentBase[BaseModel]):
    """What several components have in common."""


class Thing(Interface, Component[Config]):
    """Hold a value.

    And say nothing more about it.
    """

    component_type = "thing"
    component_config_schema = Config

    def __init__(self, value: str) -> None:
        self.value = value

    def _to_config(self) -> Config:
        return Config(value=self.value)

    @classmethod
    def _from_config(cls, config: Config) -> Self:
        return cls(config.value)


class Versioned(Thing):
    component_version = 3

    @classmethod
    def _from_config_past_version(cls, config: dict[str, Any], version: int) -> Self:
        return cls(f"{config['old']} from {version}")


class NewVersionOnly(Thing):
    component_version = 2


class Described(Thing):
    component_description = "described"
    component_label = "labelled"
    component_provider_override = "hivewire.Described"


class Outer:
    class Nested(Thing):
        pass


@Component
class Decorated:
    """A class that takes one dictionary."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.value = config["value"]

    def to_config(self) -> ComponentModel:
        return ComponentModel(component_type=self.__class__.__name__, config={"value": self.value})


@Component
class DecoratedWithFacts:
    component_type = "facts"
    component_version = 2

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def to_config(self) -> ComponentModel:
        return ComponentModel(config=self.config, label="own label")


@pytest.fixture(autouse=True)
def registrations_end_with_the_test() -> Iterator[None]:
    registries = (components._decorated_by_type, components._decorated_by_provider)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def test_a_component_is_dumped_with_everything_that_loading_needs() -> None:
    model = Thing("v").dump_component()
    assert model.model_dump() == {
        "provider": f"{__name__}.Thing",
        "component_type": "thing",
        "version": 1,
        "component_version": 1,
        "description": "Hold a value.",
        "label": "Thing",
        "config": {"value": "v"},
    }


def test_a_dump_loads_from_its_model_and_from_its_json() -> None:
    model = Thing("v").dump_component()
    for form in (model, model.model_dump(), json.loads(model.model_dump_json())):
        thing = Thing.load_component(form)
        assert isinstance(thing, Thing)
        assert thing.value == "v"


def test_loading_does_not_change_the_model() -> None:
    model = Thing("v").dump_component()
    before = model.model_copy(deep=True)
    Thing.load_component(model)
    assert model == before


def test_a_component_loads_through_its_interface_and_through_the_loader() -> None:
    model = Thing("v").dump_component()
    assert isinstance(Interface.load_component(model), Thing)
    assert isinstance(ComponentLoader.load_component(model), Thing)
    assert isinstance(ComponentLoader.load_component(model, Interface), Thing)


def test_a_nested_class_loads() -> None:
    assert isinstance(ComponentLoader.load_component(Outer.Nested("v").dump_component()), Outer.Nested)


def test_class_variables_override_provider_description_and_label() -> None:
    model = Described("v").dump_component()
    assert (model.provider, model.description, model.label) == ("hivewire.Described", "described", "labelled")


def test_a_class_without_docstring_has_no_description() -> None:
    assert Outer.Nested("v").dump_component().description is None


@pytest.mark.parametrize("version", [3, None, 4])
def test_a_configuration_of_the_present_version_is_read_by_its_schema(version: int | None) -> None:
    model = Versioned("v").dump_component().model_copy(update={"component_version": version})
    assert Versioned.load_component(model).value == "v"


def test_a_configuration_of_a_past_version_goes_through_its_hook() -> None:
    model = Versioned("v").dump_component()
    old = model.model_copy(update={"component_version": 1, "config": {"old": "v"}})
    assert Versioned.load_component(old).value == "v from 1"


def test_a_past_version_without_a_hook_is_refused() -> None:
    model = NewVersionOnly("v").dump_component().model_copy(update={"component_version": 1})
    with pytest.raises(NotImplementedError, match="version 1"):
        NewVersionOnly.load_component(model)


def test_a_configuration_that_does_not_fit_the_schema_is_refused() -> None:
    model = Thing("v").dump_component().model_copy(update={"config": {"value": [1]}})
    with pytest.raises(ValidationError):
        Thing.load_component(model)
    with pytest.raises(ValueError):
        Thing.load_component({"config": "none"})


def test_an_unexpected_class_is_refused() -> None:
    model = Thing("v").dump_component()
    with pytest.raises(TypeError, match="Thing"):
        Versioned.load_component(model)
    with pytest.raises(TypeError, match="Thing"):
        ComponentLoader.load_component(model, Versioned)


@pytest.mark.parametrize("provider", [f"{__name__}.Config", "hivewire.model.function_call.FunctionCall"])
def test_a_class_that_is_no_component_is_refused(provider: str) -> None:
    with pytest.raises(TypeError, match="not a component"):
        ComponentLoader.load_component({"provider": provider, "config": {}})


@pytest.mark.parametrize("provider", ["subprocess.Popen", "builtins.eval", "Thing", "a..b"])
def test_an_untrusted_or_malformed_provider_is_refused(provider: str) -> None:
    with pytest.raises(ValueError):
        ComponentLoader.load_component({"provider": provider, "config": {}})


def test_a_local_class_cannot_be_dumped() -> None:
    class Local(Thing):
        pass

    with pytest.raises(TypeError, match="local"):
        Local("v").dump_component()


def test_a_private_path_in_a_dump_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thing, "__module__", "package._private")
    with pytest.warns(UserWarning, match="component_provider_override") as caught:
        Thing("v").dump_component()
    assert caught[0].filename == __file__


def test_missing_class_variables_warn_at_definition() -> None:
    with pytest.warns(UserWarning, match="component_type") as caught:

        class NoType(ComponentBase[Config], Component[Config]):
            component_config_schema = Config

            def _to_config(self) -> Config:
                return Config(value="v")

    assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match="component_type"):
        NoType().dump_component()

    with pytest.warns(UserWarning, match="component_config_schema"):

        class NoSchema(ComponentBase[Config], Component[Config]):
            component_type = "thing"


def test_a_component_without_schema_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Thing("v").dump_component()
    monkeypatch.delattr(Thing, "component_config_schema")
    with pytest.raises(AttributeError, match="component_config_schema"):
        Thing.load_component(model)


def test_a_component_that_lacks_a_base_class_warns_at_definition() -> None:
    with pytest.warns(UserWarning, match="ComponentBase"):

        class Half(Component[Config]):
            component_type = "half"
            component_config_schema = Config


def test_a_complete_definition_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Complete(ComponentBase[Config], Component[Config]):
            component_type = "complete"
            component_config_schema = Config


def test_both_halves_refuse_what_a_class_does_not_define() -> None:
    with pytest.raises(NotImplementedError, match="_to_config"):
        ComponentToConfig[Config]()._to_config()
    with pytest.raises(NotImplementedError, match="_from_config"):
        ComponentFromConfig[Config]._from_config(Config(value="v"))
    with pytest.raises(NotImplementedError, match="_from_config_past_version"):
        ComponentFromConfig[Config]._from_config_past_version({}, 0)


def test_components_are_told_from_other_things() -> None:
    assert is_component_class(Thing)
    assert is_component_class(Decorated)
    assert not is_component_class(Interface)
    assert not is_component_class(Config)
    assert is_component_instance(Thing("v"))
    assert is_component_instance(Decorated({"value": 1}))
    assert not is_component_instance(Config(value="v"))
    assert not is_component_instance(Thing)


def test_a_component_may_have_a_base_class_with_its_own_construction() -> None:
    class Text(ComponentBase[Config], Component[Config], str):
        component_type = "text"
        component_config_schema = Config

    assert Text("abc") == "abc"


def test_a_component_without_constructor_refuses_arguments() -> None:
    class Plain(ComponentBase[Config], Component[Config]):
        component_type = "plain"
        component_config_schema = Config

    assert isinstance(Plain(), Plain)
    with pytest.raises(TypeError, match="takes no arguments"):
        Plain(1)


def test_a_decorated_class_stays_the_class_that_it_was() -> None:
    assert isinstance(Decorated, type)
    assert (Decorated.__name__, Decorated.__module__) == ("Decorated", __name__)
    assert Decorated({"value": 1}).value == 1


def test_what_to_config_returns_loads_by_its_component_type() -> None:
    model = Decorated({"value": [1, None]}).to_config()
    assert model.provider is None
    loaded = ComponentLoader.load_component(model)
    assert isinstance(loaded, Decorated)
    assert loaded.value == [1, None]
    assert isinstance(ComponentLoader.load_component(model.model_dump()), Decorated)


def test_a_decorated_class_dumps_and_loads() -> None:
    decorated: Any = Decorated({"value": 1})
    model = decorated.dump_component()
    assert model.model_dump() == {
        "provider": f"{__name__}.Decorated",
        "component_type": "Decorated",
        "version": 1,
        "component_version": 1,
        "description": "A class that takes one dictionary.",
        "label": "Decorated",
        "config": {"value": 1},
    }
    cls: Any = Decorated
    assert cls.load_component(model).value == 1
    with pytest.raises(TypeError, match="Thing"):
        cls.load_component(Thing("v").dump_component())
    with pytest.raises(TypeError, match="Decorated"):
        Thing.load_component(model)


def test_a_decorated_classs_own_facts_go_into_its_dump() -> None:
    decorated: Any = DecoratedWithFacts({"a": None})
    model = decorated.dump_component()
    assert (model.component_type, model.component_version, model.label) == ("facts", 2, "own label")
    assert model.config == {"a": None}
    loaded = ComponentLoader.load_component(ComponentModel(component_type="facts", config={"b": 1}))
    assert isinstance(loaded, DecoratedWithFacts)
    assert loaded.config == {"b": 1}


def test_a_past_version_of_a_decorated_class_is_refused_without_a_hook() -> None:
    with pytest.raises(NotImplementedError, match="version 1"):
        ComponentLoader.load_component(ComponentModel(component_type="facts", component_version=1, config={}))


def test_a_decorated_class_of_an_untrusted_module_loads_as_nothing_is_imported() -> None:
    class Local:
        def __init__(self, config: dict[str, Any]) -> None:
            pass

        def to_config(self) -> ComponentModel:
            return ComponentModel(config={})

    Local.__module__, Local.__qualname__ = "untrusted.package", "Local"
    decorated: Any = Component(Local)
    assert isinstance(ComponentLoader.load_component(decorated({}).dump_component()), Local)


def test_a_decorated_local_class_loads_by_type_and_cannot_be_dumped() -> None:
    @Component
    class Local:
        def __init__(self, config: dict[str, Any]) -> None:
            self.config = config

        def to_config(self) -> ComponentModel:
            return ComponentModel(component_type="Local", config=self.config)

    local: Any = Local({"a": 1})
    loaded = ComponentLoader.load_component(local.to_config())
    assert isinstance(loaded, Local)
    assert loaded.config == {"a": 1}
    with pytest.raises(TypeError, match="local"):
        local.dump_component()


def test_an_unknown_component_type_without_provider_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        ComponentLoader.load_component({"component_type": "nobody", "config": {}})
    with pytest.raises(ValueError, match="None"):
        ComponentLoader.load_component({"config": {}})


def test_a_second_class_of_one_component_type_warns_and_takes_its_place() -> None:
    class Second:
        component_type = "facts"

        def __init__(self, config: dict[str, Any]) -> None:
            pass

        def to_config(self) -> ComponentModel:
            return ComponentModel(config={})

    with pytest.warns(RuntimeWarning, match="'facts'") as caught:
        Component(Second)
    assert caught[0].filename == __file__
    assert isinstance(ComponentLoader.load_component(ComponentModel(component_type="facts", config={})), Second)


def test_a_decorated_class_keeps_the_methods_that_it_brings() -> None:
    @Component
    class Own:
        def to_config(self) -> ComponentModel:
            return ComponentModel(config={})

        def dump_component(self) -> str:
            return "own"

    assert Own().dump_component() == "own"


@pytest.mark.parametrize("argument", [Config, int, 1, "text", lambda: None])
def test_the_decorator_refuses_what_cannot_be_a_component(argument: Any) -> None:
    with pytest.raises(TypeError, match="to_config"):
        Component(argument)
