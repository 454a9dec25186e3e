"""What the documents point to is there: links, paths, tests, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "protocol" / "SPEC.md"],
)
PATH = re.compile(r"`((?:agent|bench|docs|packaging|portal|protocol|tests)/[\w./-]*[\w/])`")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_and_path_of_a_document_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[\w-]+)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert missing == []


def test_every_test_that_a_document_names_is_there() -> None:
    source = "".join(
        f"{path.name}\n{path.read_text('utf-8')}" for path in (ROOT / "tests").rglob("test_*.py")
    )
    told = {name for path in DOCUMENTS for name in re.findall(r"`(test_\w+)`", path.read_text("utf-8"))}
    assert {name for name in told if f"def {name}(" not in source} == set()
    assert told


def test_every_make_target_that_a_document_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    told = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z0-9-]+)", path.read_text("utf-8"))}
    assert told <= targets
