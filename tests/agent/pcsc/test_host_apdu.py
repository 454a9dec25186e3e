"""Commands to bytes and answers to a whole, without a card: the endless, the short and the wrong first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc import apdu
from agent.pcsc.apdu import Answer, Command, by_t0, exchange
from protocol.errors import InlayError


def run(command: Command, answers: list[str], *, extended: bool = False) -> tuple[list[str], Answer]:
    """What was transmitted, and what came of it."""
    steps, sent = exchange(command, extended=extended), []
    replies = iter(answers)
    try:
        raw = next(steps)
        while True:
            sent.append(raw.hex().upper())
            raw = steps.send(bytes.fromhex(next(replies)))
    except StopIteration as end:
        assert next(replies, None) is None
        return sent, end.value


GET = Command(0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC102"))


@pytest.mark.parametrize("reply", ["", "90"])
def test_an_answer_without_a_status_names_the_command(reply: str) -> None:
    with pytest.raises(InlayError) as caught:
        run(GET, [reply])
    assert caught.value.code == "card_answer_malformed"
    assert caught.value.fields == {"command": "GET DATA"}


@pytest.mark.parametrize("reply", ["6100", "AA6101", "6101"])
def test_more_for_ever_ends_and_names_the_command(reply: str) -> None:
    with pytest.raises(InlayError) as caught:
        run(GET, [reply] * (apdu.MAX_ROUNDS + 2))
    assert caught.value.fields == {"command": "GET DATA"}


def test_more_than_any_object_ends_before_memory_does() -> None:
    with pytest.raises(InlayError):
        run(GET, ["AA" * 256 + "6100"] * (apdu.MAX_ANSWER // 256 + 2))


def test_a_wrong_length_is_corrected_once() -> None:
    sent, answer = run(GET, ["6C10", "6C10"])
    assert sent == ["00CB3FFF055C035FC10200", "00CB3FFF055C035FC10210"]
    assert answer == Answer(b"", 0x6C10)


@pytest.mark.parametrize("instruction", [0x20, 0x24, 0x2C])
def test_a_pin_is_not_sent_again_for_a_length_that_was_not_said(instruction: int) -> None:
    sent, answer = run(Command(instruction, 0, 0x80, b"12345678", answer=False), ["6C10"])
    assert (len(sent), answer) == (1, Answer(b"", 0x6C10))


def test_a_wrong_length_of_get_response_is_corrected_once() -> None:
    sent, answer = run(GET, ["AA6120", "6C02", "BBCC9000"])
    assert sent[1:] == ["00C0000020", "00C0000002"]
    assert answer == Answer(b"\xaa\xbb\xcc", 0x9000)


def test_an_answer_in_pieces_is_collected() -> None:
    sent, answer = run(GET, ["01026102", "0304610100"[:8], "059000"])
    assert sent[1:] == ["00C0000002", "00C0000001"]
    assert answer == Answer(bytes(range(1, 6)), 0x9000)


def test_a_warning_in_the_middle_is_the_status() -> None:
    assert run(GET, ["016101", "026282"])[1] == Answer(b"\1\2", 0x6282)


def test_long_data_goes_in_pieces_of_255() -> None:
    data = bytes(600)
    sent, _ = run(Command(0xDB, 0x3F, 0xFF, data, answer=False), ["9000"] * 3)
    assert [raw[:10] for raw in sent] == ["10DB3FFFFF", "10DB3FFFFF", "00DB3FFF5A"]
    assert sum(len(raw) // 2 - 5 for raw in sent) == 600


def test_a_refused_piece_ends_the_chain() -> None:
    sent, answer = run(Command(0xDB, 0x3F, 0xFF, bytes(600), answer=False), ["6A84"])
    assert (len(sent), answer) == (1, Answer(b"", 0x6A84))


@pytest.mark.parametrize(
    ("size", "answer", "expected"),
    [
        (0, True, "0047009A000000"),
        (3, True, "0047009A00000300000000" + "00"),
        (3, False, "0047009A03000000"),
        (300, True, "0047009A00012C" + "00" * 300 + "0000"),
        (300, False, "0047009A00012C" + "00" * 300),
    ],
)
def test_extended_lengths(size: int, answer: bool, expected: str) -> None:
    sent, _ = run(Command(0x47, 0x00, 0x9A, bytes(size), answer=answer), ["9000"], extended=True)
    assert sent == [expected]


def test_the_four_short_cases() -> None:
    assert run(Command(0x20, 0, 0x80, answer=False), ["9000"])[0] == ["00200080"]
    assert run(Command(0xFD, 0, 0), ["9000"])[0] == ["00FD000000"]
    assert run(Command(0x20, 0, 0x80, b"\1", answer=False), ["9000"])[0] == ["002000800101"]
    assert run(Command(0xA4, 4, 0, b"\1"), ["9000"])[0] == ["00A40400010100"]


@pytest.mark.parametrize(
    ("apdu", "carried"),
    [
        ("00200080", "0020008000"),
        ("00FD000000", "00FD000000"),
        ("00C000001F", "00C000001F"),
        ("002000800101", "002000800101"),
        ("00A40400010100", "00A404000101"),
        ("10DB3FFFFF" + "00" * 255, "10DB3FFFFF" + "00" * 255),
        ("00FE079DFF" + "11" * 255 + "00", "00FE079DFF" + "11" * 255),
        ("0047009A00012C" + "00" * 302, "0047009A00012C" + "00" * 302),
    ],
)
def test_the_protocol_t0_carries_data_or_a_length(apdu: str, carried: str) -> None:
    """ISO/IEC 7816-3, section 12.2; extended lengths don't fit, and go as they are."""
    assert by_t0(bytes.fromhex(apdu)).hex().upper() == carried


@pytest.mark.parametrize("instruction", [0x20, 0x24, 0x2C, 0x87, 0xFE, 0xFF])
def test_secrets_are_never_shown(instruction: int) -> None:
    command = Command(instruction, 0, 0x80, b"12345678")
    for shown in (str(command), repr(command)):
        assert "3132" not in shown
        assert "12345678" not in shown
    assert command.secret


def test_questions_and_reads_are_no_secrets() -> None:
    assert not GET.secret
    assert not Command(0x20, 0, 0x80).secret
    assert not Command(0x87, 0x0A, 0x9B, bytes.fromhex("7C028100")).secret
    assert str(GET) == "GET DATA 3F FF 5C035FC102"
    assert Command(0x11, 0, 0).name == "INS 11"


@given(st.binary(max_size=700), st.booleans(), st.booleans())
def test_what_goes_out_is_the_data_and_nothing_else(data: bytes, answer: bool, extended: bool) -> None:
    sent, _ = run(
        Command(0xDB, 0x3F, 0xFF, data, answer=answer),
        ["9000"] * (1 if extended else max(1, -(-len(data) // 255))),
        extended=extended,
    )
    whole = b""
    for text in sent:
        raw = bytes.fromhex(text)[4:]
        if not raw or (len(raw) == 1 and answer) or (len(raw) == 3 and answer and not data):
            continue
        wide = raw[0] == 0
        size = int.from_bytes(raw[1:3], "big") if wide else raw[0]
        whole += raw[3 : 3 + size] if wide else raw[1 : 1 + size]
    assert whole == data


@given(st.lists(st.binary(max_size=260), max_size=300))
def test_any_answers_end(answers: list[bytes]) -> None:
    steps = exchange(GET)
    try:
        next(steps)
        for reply in answers:
            steps.send(reply)
    except StopIteration:
        return
    except InlayError as error:
        assert error.code == "card_answer_malformed"  # noqa: PT017 - either way it ends
