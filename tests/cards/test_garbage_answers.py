"""A card that answers anything to anything: each call of the driver ends, by a result or by a named cause.

The answers are bits of true ones, put together wrongly: other statuses, other tags, lengths that aren't, one byte too
few or too many. `tests.faults.lies` has a card lie once in an order; here it never says anything that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.pcsc import (
    look,
    piv_attestation,
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_reset,
    piv_select,
    piv_use,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PIN, PUK, KeyAlgorithm, ManagementAlgorithm
from agent.piv_card import _facts, _present_key
from protocol.error_table import TABLE
from protocol.errors import InlayError
from tests.cards.simulated import rsa_key

_STATUSES = bytes.fromhex(
    "900090016100610161FF62006281628263006301630F63C063C163CF65816700688168826883688469826983"
    "6984698569886A806A816A826A846A866A886B006C006C016CFF6D006E006F000000FFFF"
)
STATUSES: Final = [_STATUSES[at : at + 2] for at in range(0, len(_STATUSES), 2)]
TRUE: Final = [
    bytes.fromhex(each)
    for each in (
        "61114F0600001000010079074F05A000000308",
        "61184F0600001000010079074F05A000000308AC05800111060100",
        "53100E0D",
        "533B3019D4E739DA739CED39CE739D836858210842108421C84210C3EB3410000102030405060708090A0B0C0D0E0F"
        "350832303330313233313E00FE00",
        "530B700430820000710100FE00",
        "530B700430820000710101FE00",
        "530AC10102C20103F300FE00",
        "7E124F0BA0000003080000100001005F2F024000",
        "7C0A81080011223344556677",
        "7C12801069C4E0D86A7B0430D8CDB78070B4C55A",
        "7C0A82083006020101020102",
        "7C028200",
        "7F4943864104" + "11" * 64,
        "7F490B81040000000182030100010000"[:28],
        "0101110202020103010104438641" + "04" + "11" * 64,
        "0101FF0501010602050300",
        "050403",
        "01020304",
    )
]
MOST_APDUS: Final = 2_000
"""More than any call has, with all the pieces that an answer may come in."""
BLOCK: Final = bytes(range(16))
P_256, RSA = KeyAlgorithm.P_256, KeyAlgorithm.RSA_2048
POINT: Final = bytes.fromhex(
    "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296"
    "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"
)


class Garbage:
    """PC/SC's connection to such a card."""

    def __init__(self) -> None:
        self.draw: Callable[[], bytes] = lambda: b"\x90\x00"
        self.sent: list[bytes] = []

    def transmit(self, apdu: bytes) -> bytes:
        assert len(self.sent) < MOST_APDUS, "it goes on for ever"
        self.sent.append(apdu)
        return self.draw()

    def begin(self) -> None:
        """Nobody else is there."""

    def end(self, *, reset: bool) -> bool:
        """It forgets nothing: it knows nothing."""
        return True

    def reconnect(self) -> None:
        """It is still there."""

    def atr(self) -> bytes:
        return b"\x3b\x00"

    def ask_reader(self, function: int) -> bytes:
        raise InlayError("pcsc_failed", cause=f"function {function}")

    def control(self, code: int, data: bytes) -> bytes:
        raise InlayError("pcsc_failed", cause=f"code {code}")

    def close(self, *, reset: bool = False) -> None:
        """Gone."""


def _management(card: CardConnection, *, mutual: bool) -> None:
    for algorithm in piv_select.management_algorithms(card)[:1] or (ManagementAlgorithm.AES_128,):
        question = piv_authenticate.ask(card, algorithm, mutual=mutual)
        piv_authenticate.prove(card, question, piv_cipher.answer(bytes(algorithm.key_bytes), question))


CALLS: Final[dict[str, Callable[[CardConnection], object]]] = {
    "select": piv_select.select,
    "probe": piv_select.probe,
    "look": lambda card: look.look(card, frozenset({b"\xa0\x00\x00\x03\x97", b"\xa0\x00\x00\x03\x08"})),
    "facts": _facts,
    "read": lambda card: piv_objects.read(card, 0x5FC106),
    "key history": piv_objects.read_key_history,
    "PIN usage": piv_objects.read_pin_usage,
    "certificate": lambda card: piv_objects.read_certificate(card, 0x9A),
    "write certificate": lambda card: piv_objects.write_certificate(card, 0x9A, bytes(700)),
    "write CHUID": lambda card: piv_objects.write_chuid(card, piv_objects.Chuid(BLOCK, None)),
    "write CCC": piv_objects.write_ccc,
    "delete": lambda card: piv_objects.delete(card, 0x5FC105),
    "tries": lambda card: (piv_pin.tries_left(card), piv_pin.tries_left(card, PUK)),
    "verify": lambda card: piv_pin.verify(card, b"123456"),
    "change PIN": lambda card: piv_pin.change(card, PIN, b"123456", b"654321"),
    "change PUK": lambda card: piv_pin.change(card, PUK, b"12345678", b"87654321"),
    "unblock": lambda card: piv_pin.unblock(card, b"12345678", b"654321"),
    "log out": piv_pin.log_out,
    "is it the maker's": lambda card: piv_pin.is_makers(card, PIN),
    "external": lambda card: _management(card, mutual=False),
    "mutual": lambda card: _management(card, mutual=True),
    "set key": lambda card: piv_authenticate.set_key(card, ManagementAlgorithm.AES_128, BLOCK),
    "generate P-256": lambda card: piv_keys.generate(card, 0x9A, P_256),
    "generate RSA": lambda card: piv_keys.generate(card, 0x9A, RSA),
    "import P-256": lambda card: piv_keys.import_key(card, 0x9D, ec.derive_private_key(1, ec.SECP256R1())),
    "import RSA": lambda card: piv_keys.import_key(card, 0x9D, rsa_key()),
    "delete key": lambda card: piv_keys.delete(card, 0x82),
    "metadata": lambda card: piv_keys.metadata(card, 0x9A),
    "the key there": lambda card: _present_key(card, 0x9A),
    "sign P-256": lambda card: piv_use.sign_sha256(card, 0x9A, P_256, b"m"),
    "sign RSA": lambda card: piv_use.sign_sha256(card, 0x9A, RSA, b"m"),
    "agree": lambda card: piv_use.agree(card, 0x9D, P_256, POINT),
    "attest": lambda card: piv_attestation.statement(card, 0x9A),
    "attestation issuer": piv_attestation.issuer,
    "blocked": piv_reset.blocked,
    "reset": piv_reset.reset,
}
SECRETS: Final = {"verify": 1, "change PIN": 1, "change PUK": 1, "unblock": 1}
"""So many commands with a PIN or PUK each of these may send; the others none."""


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An answer: nothing, or data and a status, the data a true one that may be damaged."""
    if draw(st.integers(0, 30)) == 0:
        return draw(st.sampled_from([b"", b"\x90"]))
    data = draw(st.one_of(st.just(b""), st.sampled_from(TRUE), st.binary(max_size=300)))
    match draw(st.sampled_from(["as it is", "cut", "longer", "another byte"])):
        case "cut":
            data = data[: draw(st.integers(0, len(data)))]
        case "longer":
            data += draw(st.binary(min_size=1, max_size=3))
        case "another byte" if data:
            at = draw(st.integers(0, len(data) - 1))
            data = data[:at] + bytes((draw(st.integers(0, 255)),)) + data[at + 1 :]
    return data + (b"\x90\x00" if draw(st.booleans()) else draw(st.sampled_from(STATUSES)))


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), selected=st.booleans())
def test_whatever_is_answered_has_an_end_and_a_named_cause(
    call: str, selected: bool, data: st.DataObject
) -> None:
    garbage = Garbage()
    card = CardConnection(garbage, "Reader")
    if selected:
        piv_select.select(card)
    garbage.draw = lambda: data.draw(answers())
    code = None
    try:
        CALLS[call](card)
    except InlayError as error:
        code = error.code
    assert code is None or (code in TABLE and code.startswith(("card_", "pcsc_")))
    secrets = sum(apdu[1] in (0x24, 0x2C) or (apdu[1] == 0x20 and len(apdu) > 5) for apdu in garbage.sent)
    assert secrets <= SECRETS.get(call, 0)
