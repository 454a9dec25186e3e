"""How the command line writes: tables for people, JSON for programs, errors in three parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from agent.desktop.client import Refusal


def write_json(value: object) -> None:
    """Write one JSON document and a newline to standard output; what a terminal would act upon is escaped in it."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    shown = "".join(mark if mark.isprintable() else json.dumps(mark)[1:-1] for mark in text)
    sys.stdout.write(shown + "\n")


def write_line(text: str) -> None:
    """Write one line to standard output; control characters of foreign text become visible."""
    sys.stdout.write(printable(text) + "\n")


def write_refusal(refusal: Refusal, *, as_json: bool) -> None:
    """Write an error: JSON to standard output for programs, three lines to standard error for people."""
    if as_json:
        write_json(refusal.as_json())
    else:
        sys.stderr.write(error_text(refusal))


def error_text(refusal: Refusal) -> str:
    """What happened, why, what to do next, and the code for support."""
    lines = [f"inlay: {printable(refusal.happened)}"]
    if refusal.why:
        lines.append(f"  Why: {printable(refusal.why)}")
    if refusal.next_step:
        lines.append(f"  Next: {printable(refusal.next_step)}")
    return "\n".join([*lines, f"  ({printable(refusal.code)})"]) + "\n"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> str:
    """A table with a heading line; columns that no row fills are left out.

    Args:
        rows: one mapping for each line.
        columns: pairs of key and heading, in order.
    """
    kept = [(key, heading) for key, heading in columns if any(_cell(row.get(key)) for row in rows)]
    lines = [[heading for _, heading in kept]]
    lines += [[_cell(row.get(key)) for key, _ in kept] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def write_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> None:
    """Write `table` to standard output."""
    sys.stdout.write(table(rows, columns) + "\n")


def printable(text: str) -> str:
    """The text with anything a terminal would act upon replaced by ``?``."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cell(value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return printable(str(value))
