"""The generated files are what the messages give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol import schema
from protocol.errors import TABLE
from protocol.messages import LOOPBACK_METHODS

if TYPE_CHECKING:
    from pathlib import Path


def test_no_generated_file_is_out_of_date() -> None:
    assert schema.stale() == []


def test_output_is_the_same_each_time() -> None:
    assert schema.outputs() == schema.outputs()


def test_check_names_the_stale_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "_ROOT", tmp_path / "protocol")
    assert schema.main(["--check"]) == 1
    assert "protocol/js/messages.d.ts: out of date" in capsys.readouterr().err
    assert schema.main(["--write"]) == 0
    assert schema.main(["--check"]) == 0
    (tmp_path / "protocol" / "js" / "messages.d.ts").write_text("altered")
    assert schema.main(["--check"]) == 1


def test_every_message_is_in_the_schema() -> None:
    definitions = schema.document()["$defs"]
    assert {type_.__name__ for type_ in schema.message_types()} <= set(definitions)


def test_unknown_fields_are_refused_by_every_object_of_the_schema() -> None:
    objects = {name: node for name, node in schema.document()["$defs"].items() if "properties" in node}
    assert all(node["additionalProperties"] is False for node in objects.values())


def test_patterns_are_plain_ecmascript() -> None:
    assert "(?!" not in schema.outputs()[schema._ROOT / "schema" / "inlay.schema.json"]


def test_a_page_gets_no_text_of_a_cause_it_may_not_be_told() -> None:
    script = schema.outputs()[schema._ROOT / "js" / "tables.js"]
    hidden = [row for row in TABLE.values() if not row.page]
    assert hidden
    assert not [row.code for row in hidden if row.code in script]


def test_reference_names_each_method_and_error() -> None:
    text = schema.outputs()[schema._ROOT.parent / "docs" / "reference" / "protocol.md"]
    for name in (*LOOPBACK_METHODS, *TABLE):
        assert f"`{name}`" in text
