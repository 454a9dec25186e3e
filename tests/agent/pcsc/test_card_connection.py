"""A shared card and the others who share it: resets, removals, transactions, and the reset in the end."""

from __future__ import annotations

import pytest

from agent.pcsc import piv_objects, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import CHUID
from protocol.errors import InlayError
from tests.cards.profiles import PROFILES, Profile
from tests.cards.simulated import PIN, SimulatedCard, SimulatedLink


@pytest.fixture
def link() -> SimulatedLink:
    return SimulatedLink(SimulatedCard(PROFILES[0]))


@pytest.fixture
def card(link: SimulatedLink) -> CardConnection:
    return CardConnection(link, "Reader")


def test_a_reset_while_reading_is_healed(card: CardConnection, link: SimulatedLink) -> None:
    piv_select.select(card)
    link.reset_by_another(link.number + 1)
    assert piv_objects.read_chuid(card) is not None
    assert link.reconnections == 1


def test_a_reset_after_the_pin_is_told_and_nothing_is_typed_twice(
    card: CardConnection, link: SimulatedLink
) -> None:
    piv_select.select(card)
    piv_pin.verify(card, PIN)
    link.reset_by_another(link.number + 1)
    with pytest.raises(InlayError) as caught:
        piv_objects.read_chuid(card)
    assert caught.value.code == "pcsc_card_reset"
    assert [raw for raw in link.card.commands if raw[1] == 0x20] == [link.card.commands[-1]]


def test_a_reset_at_the_pin_itself_is_no_second_try(card: CardConnection, link: SimulatedLink) -> None:
    piv_select.select(card)
    link.reset_by_another(link.number + 2)  # the SELECT of the transaction comes first
    with pytest.raises(InlayError) as caught:
        piv_pin.verify(card, b"000000")
    assert caught.value.code == "pcsc_card_reset"
    assert link.card.pin_left == link.card.profile.pin_tries


def test_a_card_pulled_out_is_told_at_once(card: CardConnection, link: SimulatedLink) -> None:
    def pulled(_number: int) -> None:
        raise InlayError("pcsc_card_removed")

    piv_select.select(card)
    link.before = pulled
    with pytest.raises(InlayError) as caught:
        piv_objects.read(card, CHUID)
    assert caught.value.code == "pcsc_card_removed"
    assert link.reconnections == 0
    card.close()


def test_the_transaction_begins_with_the_first_secret_and_ends_with_a_reset(
    card: CardConnection, link: SimulatedLink
) -> None:
    piv_select.select(card)
    assert not link.held
    piv_pin.verify(card, PIN)
    assert link.held
    piv_objects.read_chuid(card)
    card.release()
    assert (link.transactions, link.resets, link.held) == (1, 1, False)
    assert not link.card.pin_ok


def test_a_wrong_pin_is_followed_by_a_reset_too(card: CardConnection, link: SimulatedLink) -> None:
    piv_select.select(card)
    with pytest.raises(InlayError):
        piv_pin.verify(card, b"000000")
    card.close()
    assert link.resets == 1


def test_reading_leaves_the_card_as_it_is(card: CardConnection, link: SimulatedLink) -> None:
    with card, card.held():
        piv_select.select(card)
        piv_objects.read_chuid(card)
        piv_select.probe(card)
        piv_pin.tries_left(card)
    assert (link.transactions, link.resets) == (1, 0)


def test_another_programs_selection_is_undone(card: CardConnection, link: SimulatedLink) -> None:
    piv_select.select(card)
    link.card.selected = False
    with card.held():
        assert piv_objects.read_chuid(card) is not None


def test_a_transaction_after_a_reset_reconnects_first(link: SimulatedLink) -> None:
    refusals = iter([True, True])
    begin = link.begin

    def refuse() -> None:
        if next(refusals, False):
            raise InlayError("pcsc_card_reset")
        begin()

    link.begin = refuse  # type: ignore[method-assign]
    card = CardConnection(link, "Reader")
    with card.held():
        piv_select.select(card)
    assert link.reconnections == 2


def test_a_card_that_is_reset_for_ever_ends(link: SimulatedLink) -> None:
    def refuse() -> None:
        raise InlayError("pcsc_card_reset")

    link.begin = refuse  # type: ignore[method-assign]
    with pytest.raises(InlayError) as caught, CardConnection(link, "Reader").held():
        pass
    assert caught.value.code == "pcsc_card_reset"


def test_keep_alive_changes_nothing(card: CardConnection, link: SimulatedLink) -> None:
    piv_select.select(card)
    piv_pin.verify(card, PIN)
    before = (dict(link.card.objects), link.card.pin_left)
    card.keep_alive()
    assert link.card.pin_ok
    assert (dict(link.card.objects), link.card.pin_left) == before


def test_a_card_without_chaining_gets_extended_lengths() -> None:
    link = SimulatedLink(SimulatedCard(Profile("extended", extended=True, piece=0)))
    link.card.managed = link.card.selected = True
    card = CardConnection(link, "Reader")
    piv_objects.write(card, 0x5FC105, bytes(600))
    assert card.extended
    assert piv_objects.read(card, 0x5FC105) == bytes(600)


class CloseRecorder(SimulatedLink):
    """How it is closed, and what its end of a transaction tells."""

    forgets = True

    def __init__(self, card: SimulatedCard) -> None:
        super().__init__(card)
        self.closed: list[bool] = []

    def end(self, *, reset: bool) -> bool:
        return super().end(reset=reset) and self.forgets

    def close(self, *, reset: bool = False) -> None:
        self.closed.append(reset)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_card_that_has_forgotten_in_the_end_of_its_transaction_isnt_reset_under_those_who_got_in_since(
    forgets: bool,
) -> None:
    link = CloseRecorder(SimulatedCard(PROFILES[0]))
    link.forgets = forgets
    card = CardConnection(link, "Reader")
    piv_select.select(card)
    piv_pin.verify(card, PIN)
    card.close()
    assert link.closed == [not forgets]
    card.close()
    assert link.closed == [not forgets, False]


def test_what_an_end_of_a_transaction_couldnt_have_forgotten_is_owed_until_the_close() -> None:
    link = CloseRecorder(SimulatedCard(PROFILES[0]))
    link.forgets = False
    card = CardConnection(link, "Reader")
    piv_select.select(card)
    piv_pin.verify(card, PIN)
    card.release()
    assert card.proved
    link.forgets = True
    card.close()
    assert link.closed == [True]
