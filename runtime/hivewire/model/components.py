"""Objects that can be written down as configuration and built again from it.

There are two ways to make a class a component. The class form derives it from `Component[Config]` (and from
`ComponentBase`, directly or through an interface), names its `component_type` and `component_config_schema`, and
defines `_to_config` and `_from_config`. The decorator form is for a class that takes one dictionary and offers
`to_config`:

    @Component
    class Greeter:
        def __init__(self, config: dict): ...
        def to_config(self) -> ComponentModel: ...

Building from a configuration imports nothing but trusted modules; `hivewire.model.providers` says which those are.
"""

import inspect
import warnings
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeGuard, TypeVar, overload

from pydantic import BaseModel

from hivewire.model.providers import provider_of, resolve_provider

__all__ = [
    "Component",
    "ComponentBase",
    "ComponentFromConfig",
    "ComponentLoader",
    "ComponentModel",
    "ComponentSchemaType",
    "ComponentToConfig",
    "ComponentType",
    "is_component_class",
    "is_component_instance",
]

ComponentType = Literal["model", "agent", "tool", "termination", "token_provider", "workbench"] | str
"""What a component is for; any other word is as good."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)
FromConfigT = TypeVar("FromConfigT", bound=BaseModel, contravariant=True)
ToConfigT = TypeVar("ToConfigT", bound=BaseModel, covariant=True)
ExpectedT = TypeVar("ExpectedT")


class ComponentModel(BaseModel):
    """A component as configuration: which class to build, and from what."""

    provider: str | None = None
    """Dotted path of the class. Without it the class is the decorated one that is registered as `component_type`."""

    component_type: ComponentType | None = None
    """What the component is for."""

    version: int | None = None
    """Version of this specification."""

    component_version: int | None = None
    """Version of `config`'s schema; without it, the class's present version."""

    description: str | None = None
    """What the component does."""

    label: str | None = None
    """A name for people."""

    config: dict[str, Any]
    """What the class builds itself from."""


class ComponentToConfig(Generic[ToConfigT]):
    """The half of a component that writes itself down."""

    component_type: ClassVar[ComponentType]
    """What the component is for. Required."""

    component_version: ClassVar[int] = 1
    """Version of the configuration's schema; raise it with every incompatible change."""

    component_provider_override: ClassVar[str | None] = None
    """The provider to write instead of the class's own dotted path, such as a shorter public one."""

    component_description: ClassVar[str | None] = None
    """The description to write; without it, the first paragraph of the class's docstring."""

    component_label: ClassVar[str | None] = None
    """The label to write; without it, the class's name."""

    def _to_config(self) -> ToConfigT:
        """Return the configuration from which an equal component can be built. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define _to_config, so it cannot be dumped.")

    def dump_component(self) -> ComponentModel:
        """Return the component as configuration. Fields of the configuration that are None are left out.

        Raises:
            TypeError: the class is local to a function, so nobody could find it again.
            AttributeError: the class has no `component_type`.
            NotImplementedError: the class does not define `_to_config`.
        """
        return _specify(type(self), self.component_type, self._to_config().model_dump(exclude_none=True))


class ComponentFromConfig(Generic[FromConfigT]):
    """The half of a component that is built from configuration."""

    @classmethod
    def _from_config(cls, config: FromConfigT) -> Self:
        """Build the component. Subclasses define it."""
        raise NotImplementedError(f"{cls.__name__} does not define _from_config, so it cannot be loaded.")

    @classmethod
    def _from_config_past_version(cls, config: dict[str, Any], version: int) -> Self:
        """Build the component from an older version of its configuration. Classes with a past define it."""
        raise NotImplementedError(f"{cls.__name__} does not define _from_config_past_version.")


class ComponentLoader:
    """Where components are built from configuration: any component here, those of a kind on their common base class."""

    @overload
    @classmethod
    def load_component(cls, model: ComponentModel | dict[str, Any], expected: None = None) -> Self: ...

    @overload
    @classmethod
    def load_component(cls, model: ComponentModel | dict[str, Any], expected: type[ExpectedT]) -> ExpectedT: ...

    @classmethod
    def load_component(cls, model: ComponentModel | dict[str, Any], expected: type[Any] | None = None) -> Any:
        """Build a component that is an instance of `expected`, by default of the class that this is called on.

        Raises:
            ValueError: the provider is malformed, not trusted or not found, or `model` or its config does not fit the
                schema.
            TypeError: the provider is no component, or the component is not of the expected class.
            AttributeError: the component's class lacks a required class variable.
            NotImplementedError: the configuration is of an older version, which the class cannot read.
        """
        return _load(model, cls if expected is None else expected)


class ComponentSchemaType(Generic[ConfigT]):
    """The part of a component that says what its configuration looks like."""

    component_config_schema: type[ConfigT]
    """The pydantic model of the configuration. Required."""

    required_class_vars: ClassVar[list[str]] = ["component_config_schema", "component_type"]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            return
        for name in cls.required_class_vars:
            if not hasattr(cls, name):
                warnings.warn(
                    f"{cls.__name__} is not a valid component before it defines the class variable {name!r}.",
                    stacklevel=3 if issubclass(cls, Component) else 2,
                )


class ComponentBase(ComponentToConfig[ConfigT], ComponentLoader, Generic[ConfigT]):
    """Base of an interface whose implementations are components."""


class Component(ComponentFromConfig[ConfigT], ComponentSchemaType[ConfigT], Generic[ConfigT]):
    """Base of a class that is a component, or, called with a class, the decorator that makes it one.

    The decorator registers the class under its `component_type`, by default the class's name, and adds
    `dump_component` and `load_component` to it.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an instance of a subclass; on `Component` itself, decorate the one class that is given.

        Raises:
            TypeError: `Component` itself was called with anything else, or the class has no `to_config`.
        """
        if cls is Component:
            decorated: Self = _decorate(*args, **kwargs)
            return decorated
        make: Any = super().__new__
        if make is not object.__new__:
            instance: Self = make(cls, *args, **kwargs)
            return instance
        # Python refuses excess arguments only where neither __new__ nor __init__ is defined.
        if cls.__init__ is object.__init__ and (args or kwargs):
            raise TypeError(f"{cls.__name__}() takes no arguments")
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not is_component_class(cls):
            warnings.warn(
                f"{cls.__name__} is not a valid component before it also derives from ComponentBase, "
                "itself or through its interface.",
                stacklevel=2,
            )


class _AnyComponent(Protocol):
    """What components of both forms have in common."""

    def dump_component(self) -> ComponentModel: ...


def is_component_class(cls: type) -> TypeGuard[type[_AnyComponent]]:
    """Tell whether a class is a component of either form."""
    return hasattr(cls, _DECORATED) or all(issubclass(cls, part) for part in _PARTS)


def is_component_instance(obj: Any) -> TypeGuard[_AnyComponent]:
    """Tell whether an object is an instance of a component of either form."""
    return is_component_class(type(obj))


_PARTS = (ComponentFromConfig, ComponentToConfig, ComponentSchemaType, ComponentLoader)
_DECORATED = "__hivewire_component__"

_decorated_by_type: dict[str, type] = {}
_decorated_by_provider: dict[str, type] = {}


def _decorate(cls: Any) -> Any:
    if not isinstance(cls, type) or not callable(getattr(cls, "to_config", None)):
        raise TypeError("@Component goes on a class that takes one config dictionary and has a to_config method.")
    component_type = str(cls.__dict__.get("component_type", cls.__name__))
    taken = _decorated_by_type.get(component_type)
    if taken is not None and provider_of(taken) != provider_of(cls):
        warnings.warn(
            f"{provider_of(cls)} takes the component type {component_type!r} from {provider_of(taken)}; "
            "configurations without a provider now build the former.",
            RuntimeWarning,
            stacklevel=3,
        )
    # Not by type annotations: the class is the user's own, and only gains what it does not bring itself.
    additions = {"dump_component": _dump_decorated, "load_component": classmethod(_load_decorated)}
    for name, addition in additions.items():
        if name not in cls.__dict__:
            setattr(cls, name, addition)
    setattr(cls, _DECORATED, component_type)
    _decorated_by_type[component_type] = cls
    _decorated_by_provider[provider_of(cls)] = cls
    return cls


def _dump_decorated(self: Any) -> ComponentModel:
    """Return the component as configuration, with a provider.

    Raises:
        TypeError: the class is local to a function; `to_config` still works, and its result can be loaded in this
            process.
    """
    own: ComponentModel = self.to_config()
    full = _specify(type(self), getattr(type(self), _DECORATED), own.config)
    return full.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _load_decorated(cls: type, model: ComponentModel | dict[str, Any], expected: type[Any] | None = None) -> Any:
    """Build a component that is an instance of `expected`, by default of this class; errors as `ComponentLoader`'s."""
    return _load(model, cls if expected is None else expected)


def _specify(cls: type, component_type: ComponentType, config: dict[str, Any]) -> ComponentModel:
    version = getattr(cls, "component_version", 1)
    return ComponentModel(
        provider=_public_provider(cls),
        component_type=component_type,
        version=version,
        component_version=version,
        description=getattr(cls, "component_description", None) or _first_paragraph(cls.__doc__),
        label=getattr(cls, "component_label", None) or cls.__name__,
        config=config,
    )


def _public_provider(cls: type) -> str:
    override: str | None = getattr(cls, "component_provider_override", None)
    provider = override or provider_of(cls)
    if "<locals>" in provider:
        raise TypeError(f"{cls.__qualname__} is local to a function, so a dump of it could not be loaded.")
    if override is None and "._" in provider:
        warnings.warn(
            f"The dump names the private path {provider}, which may move; set component_provider_override.",
            stacklevel=4,
        )
    return provider


def _first_paragraph(docstring: str | None) -> str | None:
    return inspect.cleandoc(docstring).split("\n\n")[0] if docstring else None


def _load(model: ComponentModel | dict[str, Any], expected: type[Any]) -> Any:
    spec = ComponentModel.model_validate(model)
    component = _build(_component_class(spec), spec)
    if expected is not ComponentLoader and not isinstance(component, expected):
        raise TypeError(f"The configuration builds a {type(component).__name__}, not a {expected.__name__}.")
    return component


def _component_class(spec: ComponentModel) -> Any:
    if spec.provider is None:
        found = _decorated_by_type.get(str(spec.component_type))
        if found is None:
            raise ValueError(
                f"No provider is given and no class is decorated as component type {spec.component_type!r}."
            )
        return found
    # A decorated class is in the program already and was declared a component by it; nothing is imported for it.
    cls = _decorated_by_provider.get(spec.provider) or resolve_provider(spec.provider)
    if not is_component_class(cls):
        raise TypeError(f"The provider {spec.provider!r} is not a component class.")
    return cls


def _build(cls: Any, spec: ComponentModel) -> Any:
    current: int = getattr(cls, "component_version", 1)
    version = current if spec.component_version is None else spec.component_version
    if version < current:
        return _build_past_version(cls, spec.config, version, current)
    if hasattr(cls, _DECORATED):
        return cls(spec.config)
    for name in cls.required_class_vars:
        if not hasattr(cls, name):
            raise AttributeError(f"{cls.__name__} lacks the class variable {name!r} of a component.")
    return cls._from_config(cls.component_config_schema.model_validate(spec.config))


def _build_past_version(cls: Any, config: dict[str, Any], version: int, current: int) -> Any:
    refusal = (
        f"The configuration of {cls.__name__} is of version {version}, the class of version {current}, and the class "
        "does not define _from_config_past_version."
    )
    past = getattr(cls, "_from_config_past_version", None)
    if past is None:
        raise NotImplementedError(refusal)
    try:
        return past(config, version)
    except NotImplementedError as error:
        raise NotImplementedError(refusal) from error
