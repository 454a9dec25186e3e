"""State graphs as drawings: complete, readable by a screen reader, and those in the docs up to date."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from portal.model import diagrams, graph_pages
from portal.model.graphs import StateGraph, Why

_SVG = "{http://www.w3.org/2000/svg}"
_ODD = StateGraph("odd", "a<b", {"a<b": {"a<b": (Why.EXTENDED,), "&": ()}, "&": {"a<b": (Why.WITHDRAWN,)}})
_GRAPHS: list[StateGraph[Any]] = [*(graph for _, graph in graph_pages.GRAPHS.values()), _ODD]


def _parsed(graph: StateGraph[Any]) -> ElementTree.Element:
    # our own text, made just now
    return ElementTree.fromstring(diagrams.svg(graph, standalone=True))  # noqa: S314


def test_the_files_in_the_docs_are_up_to_date() -> None:
    """`python -m portal.model.graph_pages --write` makes them."""
    assert graph_pages.stale() == []


def test_a_file_that_is_out_of_date_is_found(tmp_path: Any) -> None:
    """Missing, and changed."""
    assert set(graph_pages.stale(tmp_path)) == set(graph_pages.files())
    graph_pages.write(tmp_path)
    changed = next(iter(graph_pages.files()))
    (tmp_path / changed).write_text("another")
    assert graph_pages.stale(tmp_path) == [changed]


@pytest.mark.parametrize("graph", _GRAPHS, ids=lambda graph: graph.kind)
def test_all_states_and_transitions_are_drawn(graph: StateGraph[Any]) -> None:
    """Each state is a box with its name, each transition a line with its title; final states look otherwise."""
    root = _parsed(graph)
    groups = [(group.get("class"), group) for group in root.iter(f"{_SVG}g")]
    names = [group.findtext(f"{_SVG}text") for kind, group in groups if kind in ("state", "state final")]
    assert names == diagrams.rows_of(graph)
    final = {group.findtext(f"{_SVG}text") for kind, group in groups if kind == "state final"}
    assert final == {str(state) for state in graph.final}
    titles = [group.findtext(f"{_SVG}title") or "" for kind, group in groups if kind == "transition"]
    assert sorted(titles) == sorted(edge.title for edge in diagrams.edges_of(graph))
    assert len(titles) == len(graph.reasons)


@pytest.mark.parametrize("graph", _GRAPHS, ids=lambda graph: graph.kind)
def test_no_line_crosses_a_box(graph: StateGraph[Any]) -> None:
    """Every vertical line that passes a row stands beside the boxes."""
    root = _parsed(graph)
    boxes = [
        group.find(f"{_SVG}rect") for group in root.iter(f"{_SVG}g") if "state" in group.get("class", "")
    ]
    left = {float(box.get("x", "0")) for box in boxes if box is not None}
    widths = {float(box.get("width", "0")) for box in boxes if box is not None}
    ((x,), (width,)) = (left, widths)
    for edge in diagrams.edges_of(graph):
        if edge.after == edge.before + 1:
            continue
        (path,) = (
            group.find(f"{_SVG}path")
            for group in root.iter(f"{_SVG}g")
            if group.findtext(f"{_SVG}title") == edge.title
        )
        assert path is not None
        turn = float(path.get("d", "").split("Q")[1].split()[0])
        assert not x <= turn <= x + width, edge


@pytest.mark.parametrize("graph", _GRAPHS, ids=lambda graph: graph.kind)
def test_it_takes_its_colour_from_the_page(graph: StateGraph[Any]) -> None:
    """No colour and no inline style of its own; named and described for those who can't see it."""
    text = diagrams.svg(graph)
    assert "<style" not in text
    assert "style=" not in text
    assert "#" not in text.replace("&#", "")
    assert 'role="img"' in text
    root = _parsed(graph)
    assert graph.kind.replace("_", " ") in (root.findtext(f"{_SVG}title") or "")
    described = root.findtext(f"{_SVG}desc") or ""
    assert all(edge.title in described for edge in diagrams.edges_of(graph))


def test_names_are_escaped() -> None:
    """A configured name is text, whatever it holds."""
    assert "a<b" not in diagrams.svg(_ODD)
    assert "a&lt;b" in diagrams.svg(_ODD)
