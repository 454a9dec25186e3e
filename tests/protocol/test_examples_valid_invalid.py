"""The examples, from Python: each valid one is taken and comes back the same, each invalid one names its fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, link, messages, schema
from protocol.errors import TABLE, DecodeError

_EXAMPLES = Path(codec.__file__).resolve().parent / "examples"
_VALID = sorted((_EXAMPLES / "valid").glob("*.json"))
_INVALID = sorted((_EXAMPLES / "invalid").glob("*.json"))
_LINKS = json.loads((_EXAMPLES / "links.json").read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    example: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return example


def _type(example: dict[str, Any]) -> type[messages.Message]:
    type_: type[messages.Message] = getattr(messages, example["type"])
    return type_


@pytest.mark.parametrize("path", _INVALID, ids=lambda path: path.stem)
def test_invalid_example_is_refused_at_its_fault(path: Path) -> None:
    example = _read(path)
    expected = example["error"]
    text = example["text"] if "text" in example else json.dumps(example["value"])
    with pytest.raises(DecodeError) as refused:
        codec.decode(text, _type(example), malformed=expected["code"])
    assert (refused.value.code, refused.value.path) == (expected["code"], expected["path"])
    assert expected["code"] in TABLE


@pytest.mark.parametrize("path", _VALID, ids=lambda path: path.stem)
def test_valid_example_is_taken_and_survives_the_round_trip(path: Path) -> None:
    example = _read(path)
    value = codec.decode(json.dumps(example["value"]), _type(example))
    assert codec.decode(codec.encode(value), _type(example)) == value


@pytest.mark.parametrize("examples", [_VALID, _INVALID], ids=["valid", "invalid"])
def test_each_message_has_an_example(examples: list[Path]) -> None:
    shown = {_read(path)["type"] for path in examples}
    assert shown == {type_.__name__ for type_ in schema.message_types()}


@pytest.mark.parametrize("case", _LINKS["invalid"], ids=lambda case: case["about"])
def test_invalid_link_is_refused_with_its_cause(case: dict[str, str]) -> None:
    with pytest.raises(link.LinkError) as refused:
        link.parse(case["link"])
    assert refused.value.cause == case["error"]


@pytest.mark.parametrize("case", _LINKS["valid"], ids=lambda case: case["about"])
def test_valid_link_gives_portal_and_code(case: dict[str, str]) -> None:
    assert link.parse(case["link"]) == link.Link(case["portal"], case["code"])
