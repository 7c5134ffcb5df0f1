"""Where agents and model clients keep values that they could work out again.

Reading a store is synchronous, but a store over a network may define `get` and `set` as coroutines all the same. Code
that is handed any store reads and writes through `read_cache` and `write_cache`, which await whatever is awaitable.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from inspect import isawaitable
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from hivewire.model.components import Component, ComponentBase

__all__ = ["CacheStore", "InMemoryStore", "read_cache", "write_cache"]

T = TypeVar("T")


class CacheStore(ABC, ComponentBase[BaseModel], Generic[T]):
    """A key-value store for values that may be lost at any time. Subclasses look after the storage below."""

    component_type = "cache_store"

    @abstractmethod
    def get(self, key: str, default: T | None = None) -> T | None:
        """Return the value stored under `key`, else `default`."""

    @abstractmethod
    def set(self, key: str, value: T) -> Awaitable[None] | None:
        """Store `value` under `key`, in place of what was there."""


class InMemoryStoreConfig(BaseModel):
    """An in-memory store has nothing to configure; its values are no part of its configuration."""


class InMemoryStore(CacheStore[T], Component[InMemoryStoreConfig]):
    """Keep values in a dictionary of this process."""

    component_provider_override = "hivewire.InMemoryStore"
    component_config_schema = InMemoryStoreConfig

    def __init__(self) -> None:
        self.store: dict[str, T] = {}

    def get(self, key: str, default: T | None = None) -> T | None:
        """Return the value stored under `key`, else `default`. It is the value itself, so it cannot be awaited."""
        return self.store.get(key, default)

    def set(self, key: str, value: T) -> Awaitable[None]:
        """Store `value` under `key`. It is stored on return; awaiting the result is allowed and does nothing."""
        self.store[key] = value
        return _DONE

    def _to_config(self) -> InMemoryStoreConfig:
        return InMemoryStoreConfig()

    @classmethod
    def _from_config(cls, config: InMemoryStoreConfig) -> Self:
        return cls()


async def read_cache(store: CacheStore[T], key: str, default: T | None = None) -> T | None:
    """Return the value that any store, synchronous or not, has under `key`; `default` where it has none or None."""
    value: Any = store.get(key)
    if isawaitable(value):
        value = await value
    found: T | None = value
    return default if found is None else found


async def write_cache(store: CacheStore[T], key: str, value: T) -> None:
    """Store `value` under `key` in any store, synchronous or not."""
    result = store.set(key, value)
    if isawaitable(result):
        await result


class _Done:
    """An awaitable that is done; unlike a coroutine, nobody has to await it."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()
