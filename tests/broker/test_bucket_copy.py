"""A copy of a bucket follows it, on a real server."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from hivewire.nats import bucket_copy
from hivewire.nats.broker import Broker
from hivewire.nats.bucket_copy import BucketCopy
from hivewire.nats.buckets import Bucket
from hivewire.nats.provisioner import provision
from hivewire.nats.subjects import Subjects


@pytest.fixture
async def bucket(nats_url: str, namespace: str) -> AsyncIterator[tuple[Broker, Bucket]]:
    broker = Broker(nats_url, name="test")
    await broker.open()
    subjects = Subjects(namespace)
    await provision(broker, subjects)
    yield broker, Bucket(broker, subjects.positions_bucket)
    await broker.close()


async def test_it_follows_what_is_written_and_deleted(bucket: tuple[Broker, Bucket]) -> None:
    broker, original = bucket
    copy = BucketCopy(broker, original.name, bytes.decode, pattern="*.kept")

    async def refreshed() -> dict[str, str]:
        async with asyncio.timeout(10):
            await copy.refresh()
        return {key: entry.value for key, entry in copy.entries.items()}

    assert await refreshed() == {}
    revisions = {key: await original.put(f"{key}.kept", key.encode(), revision=0) for key in map(str, range(250))}
    await original.put("1.other", b"x", revision=0)
    assert await refreshed() == {f"{key}.kept": key for key in revisions}
    assert await refreshed() == {f"{key}.kept": key for key in revisions}
    await original.put("7.kept", b"new", revision=revisions["7"])
    await original.delete("8.kept", revision=revisions["8"])
    await original.put("2.other", b"x", revision=0)
    found = await refreshed()
    assert (found["7.kept"], "8.kept" in found, len(found)) == ("new", False, 249)
    assert copy.entries["7.kept"].written_at >= copy.entries["9.kept"].written_at


async def test_one_that_is_old_or_of_a_bucket_that_is_gone_is_made_anew(
    bucket: tuple[Broker, Bucket], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, original = bucket
    copy = BucketCopy(broker, original.name, bytes.decode)
    for key in "abc":
        await original.put(key, b"1", revision=0)
    await copy.refresh()
    # A trace of a deletion that went before anybody saw it.
    await broker.api(f"STREAM.PURGE.{original.stream}", {"filter": f"$KV.{original.name}.a"})
    await copy.refresh()
    assert set(copy.entries) == {"a", "b", "c"}
    monkeypatch.setattr(bucket_copy, "FORGET_AFTER_S", 0.0)
    await copy.refresh()
    assert set(copy.entries) == {"b", "c"}
    monkeypatch.undo()
    await broker.api(f"STREAM.DELETE.{original.stream}")
    await provision(broker, Subjects(namespace))
    await copy.refresh()
    assert copy.entries == {}


async def test_what_can_not_be_read_stays_as_it_was(
    bucket: tuple[Broker, Bucket], caplog: pytest.LogCaptureFixture
) -> None:
    broker, original = bucket
    copy = BucketCopy(broker, original.name, int)
    revision = await original.put("a", b"1", revision=0)
    await copy.refresh()
    await original.put("a", b"x", revision=revision)
    with caplog.at_level(logging.ERROR, "hivewire.buckets"):
        await copy.refresh()
    assert copy.entries["a"].value == 1
    assert "the record a of" in caplog.text
