"""Decoding is strict, and says where a message breaks the protocol."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, errors, messages


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (b"", "frame_not_json", "$"),
        (b"{", "frame_not_json", "$"),
        (b'{"versions":[1]} x', "frame_not_json", "$"),
        (b'{"versions":[1]}\xff', "frame_not_json", "$"),
        (b'{"versions":[1],"x":1}', "frame_invalid", "$.x"),
        (b"{}", "frame_invalid", "$.versions"),
        (b'{"versions":["1"]}', "frame_invalid", "$.versions[0]"),
        (b'{"versions":[1.5]}', "frame_invalid", "$.versions[0]"),
        (b'{"versions":[]}', "frame_invalid", "$.versions"),
        (b'{"versions":null}', "frame_invalid", "$.versions"),
        (b'{"versions":[1],"versions":[2]}', "frame_invalid", "$…versions (twice)"),
        (b"[" * 13 + b"]" * 13, "frame_too_deep", "$"),
        (b'{"versions":[' + b" " * codec.MAX_FRAME_BYTES + b"1]}", "frame_too_large", "$"),
    ],
)
def test_refuses_and_names_the_path(text: bytes, code: str, path: str) -> None:
    with pytest.raises(errors.DecodeError) as caught:
        codec.decode(text, messages.HelloParams)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_brackets_inside_strings_are_not_depth() -> None:
    text = json.dumps({"name": "[" * 50 + '\\"' + "{" * 50, "platform": "p", "version": "1"})
    assert codec.decode(text, messages.DeviceInfo).name.startswith("[[")


def test_a_path_never_carries_more_than_a_piece_of_a_name() -> None:
    with pytest.raises(errors.DecodeError) as caught:
        codec.decode(json.dumps({"versions": [1], "n" * 5000: 1}), messages.HelloParams)
    assert len(caught.value.path) < 100


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_named(data: bytes) -> None:
    for type_ in (messages.Frame, messages.Order, messages.Envelope):
        code = "none"
        try:
            codec.decode(data, type_)
        except errors.DecodeError as error:
            code = error.code
        assert code in {"none", "frame_not_json", "frame_invalid", "frame_too_deep"}


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner),
)


@given(JSON)
def test_any_json_is_no_order_and_breaks_nothing(value: object) -> None:
    with pytest.raises(errors.DecodeError):
        codec.decode(json.dumps(value), messages.Order)


def test_reads_what_it_writes() -> None:
    body = messages.SlotProof(slot="9A", certificate_sha256=b"\x00" * 32, mac=b"\x01" * 32)
    assert codec.decode(codec.encode(body), messages.SlotProof) == body
