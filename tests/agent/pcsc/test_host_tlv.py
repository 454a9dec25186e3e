"""The host's parser: total on any bytes, exact on what it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc import tlv
from agent.pcsc.tlv import DataObject, TlvError


@pytest.mark.parametrize(
    "data",
    [
        "53",
        "5F",
        "5F2F",
        "5F2F02",
        "5302FF",
        "5380",
        "5381",
        "538201",
        "53840000000100",
        "FFFFFFFF00",
        "7F",
        "530055",
    ],
)
def test_what_is_no_data_object_is_refused(data: str) -> None:
    with pytest.raises(TlvError):
        tlv.parse(bytes.fromhex(data))


def test_offsets_of_what_is_wrong_are_told() -> None:
    with pytest.raises(TlvError) as caught:
        tlv.parse(bytes.fromhex("5300530155539901"))
    assert caught.value.at == 5
    assert str(caught.value) == "no data object at byte 5"


def test_only_takes_one_data_object_of_its_tag() -> None:
    assert tlv.only(bytes.fromhex("53020102"), 0x53) == b"\1\2"
    for wrong in ("", "54020102", "5302010253020102"):
        with pytest.raises(TlvError):
            tlv.only(bytes.fromhex(wrong), 0x53)


def test_find_takes_the_first() -> None:
    data = bytes.fromhex("5F2F02400053015053015100")[:-1]
    assert tlv.find(data, 0x53) == b"\x50"
    assert tlv.find(data, 0x5F2F) == b"\x40\x00"
    assert tlv.find(data, 0x70) is None


tags = st.sampled_from([0x53, 0x7C, 0x5F2F, 0x7F49, 0x5FC102 & 0xFFFF, 0x1F8101])


@given(st.lists(st.builds(DataObject, tags, st.binary(max_size=300)), max_size=6))
def test_what_is_encoded_is_parsed(items: list[DataObject]) -> None:
    kept = [item for item in items if item.tag != 0xC102]
    assert tlv.parse(b"".join(tlv.encode(*item) for item in kept)) == kept


def test_lengths_are_the_shortest() -> None:
    for size, head in (
        (127, "537F"),
        (128, "538180"),
        (255, "5381FF"),
        (256, "53820100"),
        (65536, "5383010000"),
    ):
        assert tlv.encode(0x53, bytes(size))[: len(head) // 2] == bytes.fromhex(head)
        assert tlv.only(tlv.encode(0x53, bytes(size)), 0x53) == bytes(size)
    with pytest.raises(ValueError, match="16777216"):
        tlv.encode(0x53, bytes(1 << 24))


@given(st.binary(max_size=80))
def test_any_bytes_are_data_objects_or_refused(data: bytes) -> None:
    try:
        found = tlv.parse(data)
    except TlvError:
        return
    assert sum(len(item.value) for item in found) <= len(data)
