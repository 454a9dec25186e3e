"""Whatever bytes come, the card answers, and a refused command changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vsc import tlv
from agent.vsc.applet import MAX_COMMAND_BYTES, process
from agent.vsc.commands import Algorithm
from agent.vsc.keys_software import SoftwareKeys
from agent.vsc.outcome import Outcome, run_step
from agent.vsc.personalise import generate
from agent.vsc.state import PersistentState, VolatileState
from tests.support.virtual_cards import PIN, empty_card, store_in

if TYPE_CHECKING:
    from agent.keys_system import DeviceSecret

_INSTRUCTIONS = [0x20, 0x24, 0x2C, 0x47, 0x87, 0xA4, 0xC0, 0xCB, 0xDB, 0xF7, 0xF8, 0xFD, 0xFE]
_OK = 0x90
_MORE = 0x61


def _apdu(cla: int, ins: int, p1: int, p2: int, data: bytes, tail: bytes) -> bytes:
    length = bytes([len(data)]) if data else b""
    return bytes([cla, ins, p1, p2]) + length + data + tail


near_apdus = st.builds(
    _apdu,
    st.sampled_from([0x00, 0x10]),
    st.sampled_from(_INSTRUCTIONS),
    st.sampled_from([0x00, 0x04, 0x07, 0x0A, 0x11, 0x3F, 0xFF]),
    st.sampled_from([0x00, 0x80, 0x81, 0x9A, 0x9B, 0x9C, 0x9D, 0xFF]),
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda body: b"\x7c" + bytes([len(body)]) + body, st.binary(max_size=40)),
        st.sampled_from([b"\x5c\x035\xc1\x02", bytes.fromhex("7C0482008100"), bytes.fromhex("AC03800111")]),
    ),
    st.sampled_from([b"", b"\x00", b"\x08"]),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PersistentState, DeviceSecret]:
    """A card with keys, as a value."""
    store = store_in(tmp_path_factory.mktemp("card"))
    card = empty_card(store)
    for slot in (0x9A, 0x9C, 0x9D):
        generate(card, slot, Algorithm.P_256)
    return store.load(card.card_id), store.secret


def _without_tries(state: PersistentState) -> PersistentState:
    pin, puk = (msgspec.structs.replace(entry, tries=1) for entry in (state.pin, state.puk))
    return msgspec.structs.replace(state, pin=pin, puk=puk)


def _run(state: PersistentState, volatile: VolatileState, raw: bytes, keys: SoftwareKeys) -> Outcome:
    """Run one APDU and check what holds for all."""
    outcome = run_step(process(state, volatile, raw, keys), lambda spent: None)
    assert 0x6100 <= outcome.status <= 0x9000
    if outcome.status >> 8 not in (_OK, _MORE):
        assert outcome.data == b""
        assert _without_tries(outcome.state) == _without_tries(state)
    return outcome


@given(raw=st.binary(max_size=600))
def test_any_bytes(made: tuple[PersistentState, DeviceSecret], raw: bytes) -> None:
    """Bytes without form."""
    state, secret = made
    _run(state, VolatileState(selected=True), raw, SoftwareKeys(secret))


@given(raws=st.lists(near_apdus, max_size=12), verified=st.booleans())
def test_any_sequence(made: tuple[PersistentState, DeviceSecret], raws: list[bytes], verified: bool) -> None:
    """Sequences of what is nearly a command, with and without a PIN before them."""
    state, secret = made
    keys, volatile = SoftwareKeys(secret), VolatileState(selected=True)
    if verified:
        outcome = _run(state, volatile, _apdu(0, 0x20, 0, 0x80, PIN + b"\xff\xff", b""), keys)
        state, volatile = outcome.state, outcome.volatile
    for raw in raws:
        outcome = _run(state, volatile, raw, keys)
        assert outcome.state.slots == state.slots, "keys change with the management key only"
        assert outcome.state.objects == state.objects
        state, volatile = outcome.state, outcome.volatile


@given(tag=st.sampled_from([0x53, 0x7F49, 0x5FC105]), value=st.binary(max_size=70_000))
def test_tlv_round_trip(tag: int, value: bytes) -> None:
    """What is built is parsed back."""
    assert tlv.parse_one(tlv.encode(tag, value), tag) == value


@given(data=st.binary(max_size=80))
def test_tlv_total(data: bytes) -> None:
    """Parsing ends in a list or in the one error."""
    try:
        found = tlv.parse_all(data)
    except tlv.TlvError:
        return
    assert sum(len(item.value) for item in found) <= len(data)


def test_endless_chain_is_bounded(made: tuple[PersistentState, DeviceSecret]) -> None:
    """A chain that never ends is refused when it is longer than any command, and forgotten."""
    state, secret = made
    keys, volatile = SoftwareKeys(secret), VolatileState(selected=True)
    piece = _apdu(0x10, 0xDB, 0x3F, 0xFF, bytes(255), b"")
    for _ in range(MAX_COMMAND_BYTES // 255):
        outcome = _run(state, volatile, piece, keys)
        assert outcome.status == 0x9000
        volatile = outcome.volatile
    outcome = _run(state, volatile, piece, keys)
    assert outcome.status == 0x6700
    assert outcome.volatile.chain is None
