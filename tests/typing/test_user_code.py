"""What type checkers read also runs, with the same outcome on both runtimes."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hivewire import AgentNotFoundError


@pytest.fixture(scope="module")
def user_code() -> Iterator[Any]:
    """The module. Not imported by its name: the package that it is in is called as one of Python's own."""
    spec = importlib.util.spec_from_file_location("user_code", Path(__file__).with_name("user_code.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["user_code"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["user_code"]


def check(user_code: Any, results: list[object], audited: list[str]) -> None:
    assert results == [
        user_code.Receipt(number=1, total=2.5),
        None,
        "shop/berlin heard hello",
        "SHOP/BERLIN HEARD HELLO",
        2,
        0,
        "unobtainium",
        "it is forbidden",
        AgentNotFoundError,
        "a shop",
    ]
    assert sorted(audited) == ["by hand", "sold 1"]


async def test_it_runs_in_one_process(user_code: Any) -> None:
    audited: list[str] = []
    check(user_code, await user_code.in_one_process(audited), audited)


async def test_it_runs_over_nats(
    user_code: Any, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", namespace)
    audited: list[str] = []
    check(user_code, await user_code.over_nats(nats_url, audited), audited)
    assert await user_code.with_a_block(nats_url) == nats_url


def test_its_values_need_no_runtime(user_code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Components are loaded from trusted modules only.
    monkeypatch.setenv("HIVEWIRE_ALLOWED_PROVIDER_NAMESPACES", "user_code")
    store, cached, call = user_code.values()
    assert (store.name, cached, call.name) == ("tea", "value", "add")
