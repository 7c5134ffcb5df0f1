"""What the documentation shows does what it says; here what needs no server."""

import re
from pathlib import Path

import pytest

from documents import PAGES, PROGRAMS, ROOT, blocks, needs_broker, run_page

LOCAL = [page for page in PROGRAMS if not needs_broker(page)]


@pytest.mark.parametrize("page", LOCAL, ids=[page.stem for page in LOCAL])
async def test_the_programs_of_a_page_run(page: Path, tmp_path: Path) -> None:
    await run_page(page, tmp_path, "")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_within_the_documentation_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in headings(aim), f"{page.name} links to {target}"


def test_every_block_has_a_language() -> None:
    for page in PROGRAMS:
        fences = re.findall(r"^\s*```(.*)$", page.read_text(), re.MULTILINE)
        assert all(fences[::2]), f"a block of {page.relative_to(ROOT)} has no language"
        assert len(blocks(page)) == len(fences) // 2, f"an indented block of {page.relative_to(ROOT)} is not run"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
