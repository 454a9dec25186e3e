"""Generates what is derived from the messages: JSON Schema, types and tables for JavaScript, the reference.

``python -m protocol.schema --write`` writes the files, ``--check`` fails when one of them is out of date. The
output depends on the sources alone: running it twice gives the same bytes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from protocol import messages, schema_javascript, schema_reference

_ROOT: Final = Path(__file__).resolve().parent
SCHEMA_ID: Final = "urn:inlay:protocol:1"
_FINAL_NEWLINE: Final = "(?!\\n)"
"""What ``protocol.messages`` adds for Python; JavaScript's and JSON Schema's ``$`` mean the end already."""

Schema = dict[str, Any]


def message_types() -> list[type[messages.Message]]:
    """Every message struct, in the order of the source."""
    return [
        value
        for value in vars(messages).values()
        if inspect.isclass(value) and issubclass(value, messages.Message) and value is not messages.Message
    ]


def document() -> Schema:
    """The JSON Schema (draft 2020-12) of all messages, as one document of ``$defs``.

    Lengths of ``bytes`` are those of their base64 text. ``Frame.params``, ``Frame.result`` and ``Envelope.body``
    are open here: which struct they hold follows from the method or type (see the reference).
    """
    types = message_types()
    order = {type_.__name__: index for index, type_ in enumerate(types)}
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    names = sorted(components, key=lambda name: (order.get(name, len(order)), name))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Inlay protocol, version 1",
        "$defs": {name: _tidy(components[name]) for name in names},
    }


def _tidy(node: Any) -> Any:
    """Make a schema's patterns those of ECMAScript and its texts one paragraph each."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items()}
    if isinstance(tidy.get("pattern"), str):
        tidy["pattern"] = tidy["pattern"].removesuffix(_FINAL_NEWLINE)
    if isinstance(tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(tidy["description"])
    if isinstance(tidy.get("enum"), list):
        tidy.setdefault("type", "string")
    return tidy


def outputs() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    schema = document()
    definitions: dict[str, Schema] = schema["$defs"]
    return {
        _ROOT / "schema" / "inlay.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        _ROOT / "js" / "messages.d.ts": schema_javascript.types(definitions),
        _ROOT / "js" / "tables.js": schema_javascript.tables(),
        _ROOT / "js" / "tables.d.ts": schema_javascript.TABLES_TYPES,
        _ROOT.parent / "docs" / "reference" / "protocol.md": schema_reference.reference(definitions),
    }


def stale() -> list[Path]:
    """The generated files that are missing or differ from what the messages give."""
    return [
        path
        for path, text in outputs().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit status: 1 when ``--check`` found a stale file.
    """
    parser = argparse.ArgumentParser(prog="python -m protocol.schema", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write the generated files")
    mode.add_argument("--check", action="store_true", help="fail when a generated file is out of date")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        for path, text in outputs().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    old = stale()
    for path in old:
        sys.stderr.write(
            f"{path.relative_to(_ROOT.parent)}: out of date; run python -m protocol.schema --write\n"
        )
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
