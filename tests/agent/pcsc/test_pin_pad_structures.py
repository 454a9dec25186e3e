"""What a reader with a pad is told, byte by byte, by the tables of PC/SC part 10 (2.5.2, 2.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc import pin_pad
from protocol.errors import InlayError


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_a_reader_says_of_itself_the_lengths_fit_the_structure(
    features: bytes, properties: bytes
) -> None:
    pad = pin_pad.pad_of(features)
    assert pad is None or pad.verify is not None or pad.modify is not None
    shortest, longest, refused = lengths(properties)
    assert 6 <= shortest <= 255
    assert longest <= 8
    assert refused == (shortest > longest)


def lengths(properties: bytes) -> tuple[int, int, bool]:
    """Shortest and longest, and whether they are refused because nothing lies between."""
    try:
        return *pin_pad.pin_lengths(properties, 6, 8), False
    except InlayError as error:
        return int(error.fields["shortest"]), int(error.fields["longest"]), error.code == "pad_too_small"


def test_a_number_of_a_few_hundred_digits_is_as_good_as_too_large() -> None:
    with pytest.raises(InlayError) as caught:
        pin_pad.pin_lengths(b"\x06\xff" + b"\xff" * 255, 6, 8)
    assert caught.value.fields == {"shortest": 255, "longest": 8}


@pytest.mark.parametrize("command", ["0024008010", "002C008010"])
def test_the_structure_for_a_new_pin(command: str) -> None:
    apdu = bytes.fromhex(command) + b"\xff" * 16
    fields = (
        "1E 1E"  # bTimeOut, bTimeOut2: 30 s
        "82 08 00"  # bmFormatString, bmPINBlockString, bmPINLengthFormat
        "00 08"  # bInsertionPositionOld, bInsertionPositionNew
        "08 06"  # wPINMaxExtraDigit, little-endian: at least 6, at most 8
        "03 02"  # bConfirmPIN: old asked for, new twice; bEntryValidationCondition: the key
        "03 0904"  # bNumberMessage, wLangId
        "00 01 02"  # bMsgIndex1 to 3
        "000000"  # bTeoPrologue
        "15000000"  # ulDataLength, little-endian: 21
    )
    assert pin_pad.modify_structure(apdu, 6, 8) == bytes.fromhex(fields) + apdu


def test_the_structure_for_the_pin_alone() -> None:
    apdu = bytes.fromhex("0020008008") + b"\xff" * 8
    fields = "1E1E 820800 0806 02 01 0904 00 000000 0D000000"
    assert pin_pad.verify_structure(apdu, 6, 8) == bytes.fromhex(fields) + apdu
