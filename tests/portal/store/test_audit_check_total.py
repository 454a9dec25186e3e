"""The check of the audit log comes to an end whatever rows hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portal.store.audit_check import Kind, _found, _joined, _Row

_short = st.integers(0, 6).map(str)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(_short, _short), max_size=8),
    st.none() | st.tuples(st.integers(0, 9), _short),
)
def test_it_always_comes_to_an_end(links: list[tuple[str, str]], head: tuple[int, str] | None) -> None:
    """Whatever rows name as the one before them, themselves in a circle too: every fault is about some row."""
    rows = [_Row(number, previous, hash_, None) for number, (previous, hash_) in enumerate(links, 1)]
    for fault in _joined(_found(rows, head)):
        assert fault.number <= fault.last
        assert isinstance(fault.kind, Kind)
