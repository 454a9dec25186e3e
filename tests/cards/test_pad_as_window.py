"""What every kind of card answers to a PIN or PUK from the reader's keys is judged as what comes from the window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.pcsc import pin_pad, piv_pad, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PIN as REFERENCE
from protocol.errors import InlayError
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import PROFILES, Profile
from tests.cards.simulated import PIN, PUK, SimulatedLink

CODE = 0x42330006
PAD = pin_pad.Pad(CODE, CODE)
NEW, EASY, WRONG_PIN, WRONG_PUK = b"246810", b"111111", b"000000", b"00000000"
Said = tuple[str, dict[str, str | int]] | None


class PadLink(SimulatedLink):
    """A reader at whose keys `typed` is typed: the value that is known, then the new PIN."""

    typed: tuple[bytes, ...] = ()
    lost_at = b""
    """The card is pulled out at this APDU."""

    def transmit(self, apdu: bytes) -> bytes:
        if apdu == self.lost_at:
            raise InlayError("pcsc_card_removed")
        return super().transmit(apdu)

    def control(self, code: int, data: bytes) -> bytes:
        assert code == CODE
        head = next(data[at : at + 5] for at in (19, 24) if len(data) == at + 5 + data[at + 4])
        return self.transmit(head + b"".join(value.ljust(8, b"\xff") for value in self.typed))


class Both:
    """Two cards of one kind: one whose PIN is typed in the window, one whose PIN is typed at the reader."""

    def __init__(self, profile: Profile, opened: ExitStack) -> None:
        self.links = PadLink(card_of(profile)), PadLink(card_of(profile))
        self._window, self._pad = (
            opened.enter_context(CardConnection(link, "Reader")) for link in self.links
        )
        for card in (self._window, self._pad):
            piv_select.select(card)

    def tell(self, way: str, *typed: bytes) -> tuple[Said, Said]:
        """What is said of the same values in the window and at the pad."""
        self.links[1].typed = typed
        match way:
            case "verify":
                ways = (lambda: piv_pin.verify(self._window, *typed), lambda: piv_pad.verify(self._pad, PAD))
            case "change":
                ways = (
                    lambda: piv_pin.change(self._window, REFERENCE, *typed),
                    lambda: piv_pad.change(self._pad, PAD, REFERENCE),
                )
            case _:
                ways = (
                    lambda: piv_pin.unblock(self._window, *typed),
                    lambda: piv_pad.unblock(self._pad, PAD),
                )
        return _said(ways[0]), _said(ways[1])


def _said(work: object) -> Said:
    try:
        work()  # type: ignore[operator]
    except InlayError as error:
        return error.code, error.fields
    return None


@pytest.fixture(params=kinds(13), ids=lambda profile: profile.name)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    with ExitStack() as opened:
        yield Both(request.param, opened)


@pytest.mark.parametrize("way", ["verify", "change", "unblock"])
def test_wrong_until_it_is_blocked_the_same_is_said(both: Both, way: str) -> None:
    profile = both.links[0].card.profile
    wrong = (WRONG_PUK if way == "unblock" else WRONG_PIN, *(() if way == "verify" else (NEW,)))
    tries = profile.puk_tries if way == "unblock" else profile.pin_tries
    told = [both.tell(way, *wrong) for _ in range(tries + 1)]
    assert [window for window, _ in told] == [pad for _, pad in told]
    said = [pad for _, pad in told if pad is not None]
    blocked = "card_puk_blocked" if way == "unblock" else "card_pin_blocked"
    if way != "unblock" or profile.metadata or not profile.wrong_old:
        assert [fields.get("tries") for _, fields in said[:-2]] == list(range(tries - 1, 0, -1))
        assert [code for code, _ in said[-2:]] == [blocked] * 2


@pytest.mark.parametrize("way", ["change", "unblock"])
def test_a_new_pin_that_is_too_easy_is_named_and_another_one_taken(both: Both, way: str) -> None:
    known = PIN if way == "change" else PUK
    easy: Said = ("card_pin_form", {}) if both.links[0].card.profile.weak_pin else None
    assert both.tell(way, known, EASY) == (easy, easy)
    known = known if way == "unblock" or easy else EASY
    assert both.tell(way, known, NEW) == (None, None)
    assert both.tell("verify", NEW) == (None, None)


@pytest.mark.parametrize("lost", ["00F7008000", "00200080"])
def test_a_card_that_goes_while_it_is_asked_for_its_tries_has_refused_all_the_same(lost: str) -> None:
    """That the PIN is wrong is known by then: nobody has to find out which one the card has."""
    profile = next(each for each in PROFILES if each.wrong_old)
    with ExitStack() as opened:
        both = Both(profile, opened)
        for link in both.links:
            link.lost_at = bytes.fromhex(lost)
        assert both.tell("change", WRONG_PIN, NEW) == (("card_pin_wrong", {}), ("card_pin_wrong", {}))
