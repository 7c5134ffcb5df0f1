import asyncio
from typing import Any

import pytest

import hivewire
from hivewire.model.caches import CacheStore, InMemoryStore, read_cache, write_cache
from hivewire.model.components import ComponentModel, is_component_class


class AsyncStore(CacheStore[str]):
    """A store as programs write it over a network: coroutines, and no default."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def get(self, key: str) -> Any:  # type: ignore[override]
        return self.values.get(key)

    async def set(self, key: str, value: str) -> None:
        self.values[key] = value


def test_a_cache_store_is_abstract() -> None:
    with pytest.raises(TypeError):
        CacheStore()  # type: ignore[abstract]


def test_the_in_memory_store_returns_what_was_stored() -> None:
    store = InMemoryStore[int]()
    assert store.get("a") is None
    assert store.get("a", 7) == 7
    store.set("a", 1)
    assert store.get("a") == 1
    store.set("a", 2)
    assert store.get("a", 7) == 2


async def test_setting_may_be_awaited_any_number_of_times() -> None:
    store = InMemoryStore[str]()
    result = store.set("key", "value")
    assert store.get("key") == "value"
    await result
    await result
    assert await asyncio.wait_for(store.set("key", "other"), timeout=10) is None
    assert store.get("key") == "other"


async def test_row_d2_a_value_that_was_read_cannot_be_awaited() -> None:
    store = InMemoryStore[str]()
    await store.set("key", "value")
    with pytest.raises(TypeError):
        await store.get("key")  # type: ignore[misc]


def test_two_stores_share_nothing() -> None:
    one, other = InMemoryStore[int](), InMemoryStore[int]()
    one.set("a", 1)
    assert other.get("a") is None


async def test_any_store_is_read_and_written_through_the_helpers() -> None:
    for store in (AsyncStore(), InMemoryStore[str]()):
        assert await read_cache(store, "a") is None
        assert await read_cache(store, "a", "default") == "default"
        await write_cache(store, "a", "value")
        assert await read_cache(store, "a", "default") == "value"


def test_the_in_memory_store_is_a_component_without_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hivewire, "InMemoryStore", InMemoryStore, raising=False)
    store = InMemoryStore[str]()
    store.set("a", "secret")
    assert is_component_class(InMemoryStore)
    model = store.dump_component()
    assert (model.provider, model.component_type, model.config) == ("hivewire.InMemoryStore", "cache_store", {})
    loaded = CacheStore.load_component(model)
    assert isinstance(loaded, InMemoryStore)
    assert loaded.get("a") is None


def test_a_dump_of_autogens_in_memory_store_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hivewire, "InMemoryStore", InMemoryStore, raising=False)
    model = ComponentModel(provider="autogen_core.InMemoryStore", component_type="cache_store", config={})
    assert isinstance(InMemoryStore.load_component(model), InMemoryStore)
