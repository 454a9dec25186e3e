"""Drawings of state graphs, made from the tables: one column of states, forward transitions right of it, backward left.

Every target has one line of its own beside the column; the states it is reached from join that line, and an arrow
enters it. States that follow each other are joined directly. So nothing crosses a box, whatever the graph is.

The drawing uses ``currentColor`` alone and no styles, so that it is light on dark where its page is, and passes a
Content-Security-Policy without inline styles. Texts: a title, a description with every transition, and a title for each
line with its reasons.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from portal.model.graphs import StateGraph

_ROW: Final = 64
_HEIGHT: Final = 38
_LANE: Final = 15
_MARGIN: Final = 14
_TOP: Final = 30
_CHARACTER: Final = 8.4
_BEND: Final = 6
_OWN_COLOURS: Final = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
"""For a file that is shown by itself: an image has no page to take its colour from."""


class Edge(NamedTuple):
    """A transition.

    Attributes:
        before: row of the state it leaves.
        after: row of the state it enters.
        title: what is said of it.
    """

    before: int
    after: int
    title: str


class _Bus(NamedTuple):
    """All transitions to one state on one side.

    Attributes:
        target: row.
        sources: rows.
        lane: distance from the boxes, 0 the nearest.
    """

    target: int
    sources: tuple[int, ...]
    lane: int


def rows_of(graph: StateGraph[Any]) -> list[str]:
    """The states as they are drawn from top to bottom: the start first, final ones last, else as in the table."""
    table = [str(state) for state in graph.transitions]
    final = {str(state) for state in graph.final}
    start = str(graph.start)
    middle = [state for state in table if state != start and state not in final]
    return [start, *middle, *(state for state in table if state in final and state != start)]


def edges_of(graph: StateGraph[Any]) -> list[Edge]:
    """All transitions, in the order of the rows."""
    at = {state: row for row, state in enumerate(rows_of(graph))}
    edges = [
        Edge(at[str(before)], at[str(after)], _title(str(before), str(after), reasons))
        for (before, after), reasons in graph.reasons.items()
    ]
    return sorted(edges)


def svg(graph: StateGraph[Any], *, title: str = "", standalone: bool = False) -> str:
    """Draw a state graph.

    Args:
        graph: the graph.
        title: its name for people; the kind of object by default.
        standalone: for a file: it brings its own namespace and colours.

    Returns:
        An ``<svg>`` element.
    """
    rows, edges = rows_of(graph), edges_of(graph)
    final = [str(state) in {str(item) for item in graph.final} for state in rows]
    loops = [edge for edge in edges if edge.after == edge.before]
    down = _buses(edge for edge in edges if edge.after > edge.before + 1)
    up = _buses((edge for edge in edges if edge.after < edge.before), first_lane=1 if loops else 0)
    box = max(90.0, max(len(state) for state in rows) * _CHARACTER + 26)
    left = _MARGIN + max(_side(up), _LANE if loops else 0)
    width = left + box + _side(down) + _MARGIN
    height = _TOP + (len(rows) - 1) * _ROW + _HEIGHT + _MARGIN
    said = {(edge.before, edge.after): edge.title for edge in edges}
    name = title or graph.kind.replace("_", " ")
    parts = [
        _start_mark(left + box / 2),
        *(_straight(edge, left + box / 2) for edge in edges if edge.after == edge.before + 1),
        *(line for bus in down for line in _lines(bus, left + box, 1, said)),
        *(line for bus in up for line in _lines(bus, left, -1, said)),
        *(_loop(edge, left) for edge in loops),
        *(_box(row, state, left, box, is_final=final[row]) for row, state in enumerate(rows)),
    ]
    text = ". ".join(edge.title for edge in edges)
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    return (
        f'<svg{namespace} class="state-graph" role="img" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="system-ui, sans-serif" font-size="14">'
        f"<title>{escape(name)}: states and transitions</title><desc>{escape(text)}.</desc>"
        f"{_OWN_COLOURS if standalone else ''}{''.join(parts)}</svg>"
    )


def _title(before: str, after: str, reasons: Iterable[Any]) -> str:
    why = ", ".join(sorted(str(reason) for reason in reasons))
    return f"{before} to {after}: {why}" if why else f"{before} to {after}"


def _side(buses: Sequence[_Bus]) -> float:
    return (max(bus.lane for bus in buses) + 1) * _LANE + _BEND if buses else 0


def _buses(edges: Iterable[Edge], first_lane: int = 0) -> list[_Bus]:
    """One bus for each target; short ones near the boxes, none over another in the same lane."""
    sources: dict[int, list[int]] = {}
    for edge in edges:
        sources.setdefault(edge.after, []).append(edge.before)
    spans = {target: (min(target, *found), max(target, *found)) for target, found in sources.items()}
    taken: list[set[int]] = []
    buses = []
    for target in sorted(sources, key=lambda item: (spans[item][1] - spans[item][0], item)):
        first, last = spans[target]
        rows_used = set(range(first, last + 1))
        lane = next((lane for lane, used in enumerate(taken) if not used & rows_used), len(taken))
        if lane == len(taken):
            taken.append(set())
        taken[lane] |= rows_used
        buses.append(_Bus(target, tuple(sorted(sources[target])), lane + first_lane))
    return buses


def _y(row: int) -> float:
    return _TOP + row * _ROW


def _lines(bus: _Bus, edge: float, side: int, said: dict[tuple[int, int], str]) -> Iterator[str]:
    """The lines of a bus: out of each source, along the lane, into the target.

    Lines leave a box low and enter it high where they go down, and the other way round where they go up, so that what
    leaves and what enters never lie on each other; the further lane leaves first.
    """
    x = edge + side * (bus.lane + 1) * _LANE
    enter = _y(bus.target) + (10 if side > 0 else _HEIGHT - 10)
    for source in bus.sources:
        shift = min(bus.lane, 4) * 4
        leave = _y(source) + (_HEIGHT - 5 - shift if side > 0 else 5 + shift)
        turn = _BEND if enter > leave else -_BEND
        path = (
            f"M{edge:g} {leave:g}H{x - side * _BEND:g}Q{x:g} {leave:g} {x:g} {leave + turn:g}"
            f"V{enter - turn:g}Q{x:g} {enter:g} {x - side * _BEND:g} {enter:g}H{edge + side * 3:g}"
        )
        yield _edge(said[source, bus.target], path, _arrow(edge, enter, -side, 0))


def _straight(edge: Edge, x: float) -> str:
    start, end = _y(edge.before) + _HEIGHT, _y(edge.after)
    return _edge(edge.title, f"M{x:g} {start:g}V{end - 3:g}", _arrow(x, end, 0, 1))


def _loop(edge: Edge, left: float) -> str:
    high, low, x = _y(edge.before) + 12, _y(edge.before) + _HEIGHT - 12, left - _LANE
    path = f"M{left:g} {high:g}H{x + _BEND:g}Q{x:g} {high:g} {x:g} {(high + low) / 2:g}"
    path += f"Q{x:g} {low:g} {x + _BEND:g} {low:g}H{left - 3:g}"
    return _edge(edge.title, path, _arrow(left, low, 1, 0))


def _edge(title: str, path: str, arrow: str) -> str:
    return (
        f'<g class="transition"><title>{escape(title)}</title>'
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.4"/>{arrow}</g>'
    )


def _arrow(x: float, y: float, dx: int, dy: int) -> str:
    """An arrow head whose point is at (x, y)."""
    back = 8
    first = (x - dx * back - dy * 4, y - dy * back - dx * 4)
    second = (x - dx * back + dy * 4, y - dy * back + dx * 4)
    points = f"{x:g},{y:g} {first[0]:g},{first[1]:g} {second[0]:g},{second[1]:g}"
    return f'<polygon points="{points}" fill="currentColor"/>'


def _start_mark(x: float) -> str:
    return (
        f'<g class="start"><circle cx="{x:g}" cy="8" r="5" fill="currentColor"/>'
        f'<path d="M{x:g} 8V{_TOP - 3}" stroke="currentColor" stroke-width="1.4"/>{_arrow(x, _TOP, 0, 1)}</g>'
    )


def _box(row: int, state: str, left: float, width: float, *, is_final: bool) -> str:
    y = _y(row)
    inner = (
        f'<rect x="{left + 3:g}" y="{y + 3:g}" width="{width - 6:g}" height="{_HEIGHT - 6}" rx="5" '
        'fill="none" stroke="currentColor" stroke-width="1"/>'
        if is_final
        else ""
    )
    kind = "state final" if is_final else "state"
    return (
        f'<g class="{kind}"><rect x="{left:g}" y="{y:g}" width="{width:g}" height="{_HEIGHT}" rx="8" '
        f'fill="none" stroke="currentColor" stroke-width="1.6"/>{inner}'
        f'<text x="{left + width / 2:g}" y="{y + _HEIGHT / 2 + 5:g}" text-anchor="middle" '
        f'fill="currentColor">{escape(state)}</text></g>'
    )
