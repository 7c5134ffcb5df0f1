"""What the documentation shows does what it says; here what needs a server."""

from pathlib import Path

import pytest

from documents import PROGRAMS, needs_broker, run_page

DISTRIBUTED = [page for page in PROGRAMS if needs_broker(page)]


@pytest.mark.parametrize("page", DISTRIBUTED, ids=[page.stem for page in DISTRIBUTED])
async def test_the_programs_of_a_page_run(
    page: Path, tmp_path: Path, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", namespace)
    await run_page(page, tmp_path, nats_url)
