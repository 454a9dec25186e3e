"""Every error that crosses a boundary or reaches a person: one row, and one code, for each cause.

Numbers are for JSON-RPC; a number is never used again. ``protocol.errors`` makes exceptions of the rows, which stand
in ``protocol.error_rows_orders``, ``protocol.error_rows_cards`` and ``protocol.error_rows_portal``.
"""

from __future__ import annotations

from typing import Final

from protocol import error_rows_cards, error_rows_orders, error_rows_portal
from protocol.error_cause import Cause

_ROWS: Final = (*error_rows_orders.ROWS, *error_rows_cards.ROWS, *error_rows_portal.ROWS)

TABLE: Final[dict[str, Cause]] = {row.code: row for row in _ROWS}
