"""The key-value store of a runtime, on a real server."""

from collections.abc import AsyncIterator

import pytest

from hivewire import KvStore, NatsAgentRuntime, SerializationError, StateConflictError


@pytest.fixture
async def runtime(nats_url: str, namespace: str) -> AsyncIterator[NatsAgentRuntime]:
    runtime = await NatsAgentRuntime(nats_url, namespace=namespace).connect()
    yield runtime
    await runtime.stop()


async def test_a_value_is_read_as_it_was_set(runtime: NatsAgentRuntime) -> None:
    store = KvStore(runtime, "prices")
    await store.set("key", "value")
    result = await store.get("key")
    assert result == "value"


@pytest.mark.parametrize("key", ["", "a.b", "a b", "*", ">", "käse", "x" * 10_000])
async def test_any_string_is_a_key(runtime: NatsAgentRuntime, key: str) -> None:
    store = KvStore(runtime, "any keys")
    await store.set(key, {"key": key})
    assert await store.get(key) == {"key": key}


async def test_a_missing_or_deleted_key_gives_the_default_and_none_is_a_value(runtime: NatsAgentRuntime) -> None:
    store = KvStore(runtime, "cache")
    assert await store.get("a", 7) == 7
    await store.set("a", None)
    assert await store.get("a", 7) is None
    await store.delete("a")
    await store.delete("a")
    assert await store.get("a", 7) == 7


async def test_compare_and_set_refuses_a_stale_revision(runtime: NatsAgentRuntime) -> None:
    store = KvStore(runtime, "counter")
    revision = await store.compare_and_set("n", 1, 0)
    assert await store.compare_and_set("n", 2, revision) > revision
    with pytest.raises(StateConflictError, match="was changed since"):
        await store.compare_and_set("n", 3, revision)
    assert (await store.get_with_revision("n"))[0] == 2


async def test_a_deleted_key_can_be_made_again_at_once(runtime: NatsAgentRuntime) -> None:
    store = KvStore(runtime, "again")
    await store.set("n", 1)
    await store.delete("n")
    await store.set("n", 2)
    assert await store.get("n") == 2


async def test_what_json_has_no_form_for_is_refused(runtime: NatsAgentRuntime) -> None:
    with pytest.raises(SerializationError, match="Not a JSON value"):
        await KvStore(runtime, "bad").set("n", object())
