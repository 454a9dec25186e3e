"""What two looks at the readers say: going before coming, and nothing that happened between them is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc.reader_events import (
    CardInserted,
    CardRemoved,
    Look,
    ReaderAdded,
    ReaderLook,
    ReaderRemoved,
    ServiceFound,
    ServiceLost,
    changes,
)

ATR = b"\x3b\x80"
NONE = Look("pcsc_no_service")
EMPTY = Look(readers=(ReaderLook("A", present=False, count=0),))
FULL = Look(readers=(ReaderLook("A", present=True, atr=ATR, count=1),))


def test_a_service_that_goes_takes_readers_and_cards_with_it() -> None:
    assert changes(FULL, NONE) == (CardRemoved("A"), ReaderRemoved("A"), ServiceLost("pcsc_no_service"))


def test_a_service_that_comes_brings_them() -> None:
    assert changes(NONE, FULL) == (ServiceFound(), ReaderAdded("A"), CardInserted("A", ATR))


def test_another_reason_is_told() -> None:
    assert changes(NONE, Look("pcsc_refused")) == (ServiceLost("pcsc_refused"),)


def test_a_card_changed_between_two_looks_went_and_came() -> None:
    again = Look(readers=(ReaderLook("A", present=True, atr=ATR, count=3),))
    assert changes(FULL, again) == (CardRemoved("A"), CardInserted("A", ATR))


def test_the_count_that_wrapped_is_a_change_too() -> None:
    high = Look(readers=(ReaderLook("A", present=True, atr=ATR, count=0xFFFF),))
    assert changes(high, FULL) == (CardRemoved("A"), CardInserted("A", ATR))


def test_another_atr_is_another_card() -> None:
    other = Look(readers=(ReaderLook("A", present=True, atr=b"\x3b\x00", count=1),))
    assert changes(FULL, other) == (CardRemoved("A"), CardInserted("A", b"\x3b\x00"))


def test_what_others_do_with_a_card_is_no_event() -> None:
    held = Look(readers=(ReaderLook("A", present=True, atr=ATR, count=1, exclusive=True),))
    assert changes(FULL, held) == ()


def test_a_mute_card_is_told_as_mute() -> None:
    mute = Look(readers=(ReaderLook("A", present=True, count=1, mute=True),))
    assert changes(EMPTY, mute) == (CardInserted("A", b"", mute=True),)


readers = st.builds(
    ReaderLook,
    name=st.sampled_from("ABC"),
    present=st.booleans(),
    atr=st.sampled_from([b"", ATR]),
    count=st.integers(0, 3),
)
looks = st.builds(
    lambda found: Look(readers=tuple(found)), st.lists(readers, unique_by=lambda reader: reader.name)
)


@given(looks, looks)
def test_events_applied_to_the_first_look_give_the_second(before: Look, after: Look) -> None:
    known = {reader.name: reader.present for reader in before.readers}
    for event in changes(before, after):
        match event:
            case CardRemoved(name):
                assert known[name]
                known[name] = False
            case ReaderRemoved(name):
                assert not known.pop(name)
            case ReaderAdded(name):
                assert known.setdefault(name, False) is False
            case CardInserted(name, _, _):
                assert not known[name]
                known[name] = True
            case _:
                raise AssertionError(event)
    assert known == {reader.name: reader.present for reader in after.readers}
