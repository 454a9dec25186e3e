"""Writes ``docs/reference/state-graphs.md`` and its drawings from the tables (run with ``--write``)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from portal.model import diagrams, states
from portal.model.graphs import ALWAYS_GOOD, StateGraph

_ROOT: Final = Path(__file__).parents[2]
_PAGE: Final = Path("docs/reference/state-graphs.md")
_FOLDER: Final = Path("docs/reference/graphs")
GRAPHS: Final[dict[str, tuple[str, StateGraph[Any]]]] = {
    "card": ("Card", states.CARD),
    "temporary-card": ("Temporary card", states.TEMPORARY_CARD),
    "virtual-smart-card": ("Virtual smart card", states.VIRTUAL_SMART_CARD),
    "mobile-id": ("Mobile ID", states.MOBILE_ID),
    "certificate": ("Certificate", states.CERTIFICATE),
    "order": ("Order", states.ORDER),
    "process": ("Process", states.PROCESS),
}
_INTRODUCTION: Final = """# State graphs

Generated from the tables in `portal/model/states.py` by `python -m portal.model.graph_pages --write`; a test fails when
it is out of date.

An object moves along a transition of its table or not at all; a refusal names the states that would have done. The dot
marks the state an object is made in, a double border a final one. Each transition is taken for the reasons named;
{always} are good for every one of them.

A certificate is made in *Issued*, which is internal, and is *Valid* when its task has succeeded. Beside its state here
stands what the CA says of it: good, held or revoked. Certificate graphs can be configured; this is the one that is
built in.
"""


def files() -> dict[Path, str]:
    """Every generated file: its path in the checkout to its text."""
    made = {_PAGE: _page()}
    for name, (title, graph) in GRAPHS.items():
        made[_FOLDER / f"{name}.svg"] = diagrams.svg(graph, title=title, standalone=True) + "\n"
    return made


def stale(root: Path = _ROOT) -> list[Path]:
    """The generated files that aren't what they should be."""
    return [
        path
        for path, text in files().items()
        if not (root / path).exists() or (root / path).read_text("utf-8") != text
    ]


def write(root: Path = _ROOT) -> None:
    """Write all of them."""
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")


def _page() -> str:
    always = " and ".join(f"*{why}*" for why in sorted(ALWAYS_GOOD))
    parts = [_INTRODUCTION.format(always=always)]
    for name, (title, graph) in GRAPHS.items():
        parts += [f"\n## {title}\n", f"![{title}: states and transitions](graphs/{name}.svg)\n"]
        parts += ["| from | to | reasons |", "|---|---|---|"]
        rows = diagrams.rows_of(graph)
        reasons = {(str(before), str(after)): why for (before, after), why in graph.reasons.items()}
        parts += [
            f"| {rows[edge.before]} | {rows[edge.after]} | {_why(reasons[rows[edge.before], rows[edge.after]])} |"
            for edge in diagrams.edges_of(graph)
        ]
    return "\n".join(parts) + "\n"


def _why(reasons: frozenset[str]) -> str:
    return ", ".join(sorted(reasons)) or "any"


def main() -> int:
    """Write the files, or tell which are out of date."""
    parser = argparse.ArgumentParser(description="State graphs as pages and drawings.")
    parser.add_argument("--write", action="store_true", help="write them")
    if parser.parse_args().write:
        write()
        return 0
    for path in stale():
        sys.stdout.write(f"out of date: {path}\n")
    return 1 if stale() else 0


if __name__ == "__main__":
    sys.exit(main())
