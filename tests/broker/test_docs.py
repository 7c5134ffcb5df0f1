"""What the documentation shows does what it says; here what needs a server."""

import asyncio
from pathlib import Path

import pytest

from broker.cli.seeds import Seeds, letter
from documents import PROGRAMS, needs_broker, run_page

DISTRIBUTED = [page for page in PROGRAMS if needs_broker(page)]


@pytest.mark.parametrize("page", DISTRIBUTED, ids=[page.stem for page in DISTRIBUTED])
async def test_the_programs_of_a_page_run(
    page: Path, tmp_path: Path, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", namespace)
    if page.stem == "dead-letters":
        await asyncio.to_thread(_give_up_orders, Seeds(nats_url, namespace))
    await run_page(page, tmp_path, nats_url)


def _give_up_orders(seeds: Seeds) -> None:
    """Leave behind the dead letters that the page is about."""
    order = {"error": "KeyError", "message": "'count'", "type_name": "dict", "payload": b'{"item":"tea"}'}
    seeds.dead(letter("shop/paris", 41, **order), letter("shop/rome", 44, **order))
