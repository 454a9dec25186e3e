"""A card whose power is cut and given back without a word: noticed by what it answers, and no secret sent again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.card_session import CardSession
from agent.pcsc import look as looking
from agent.pcsc import piv_keys, piv_objects, piv_pin, piv_select
from agent.pcsc.apdu import Command, exchange
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PIN as PIN_REFERENCE
from agent.pcsc.piv_names import KeyAlgorithm
from protocol.errors import InlayError
from tests.cards.profiles import ALL_YUBICO, PROFILES, Profile
from tests.cards.simulated import PIN, SimulatedCard, SimulatedLink

UNSELECTED = (0x6D00, 0x6E00, 0x6985, 0x6A82)
"""What cards say of a command while the PIV application isn't selected."""
WRONG = b"000000"


@pytest.fixture(params=UNSELECTED, ids=lambda status: f"{status:04X}")
def profile(request: pytest.FixtureRequest) -> Profile:
    return replace(PROFILES[1], unselected=request.param)


@pytest.fixture
def link(profile: Profile) -> SimulatedLink:
    return SimulatedLink(SimulatedCard(profile))


@pytest.fixture
def card(link: SimulatedLink) -> CardConnection:
    selected = CardConnection(link, "Reader")
    piv_select.select(selected)
    return selected


def power_cut(link: SimulatedLink, at: int) -> None:
    """The power is cut before this APDU, counted from 1 and from now on."""
    at += link.number

    def cut(number: int) -> None:
        if number == at:
            link.card.reset()

    link.before = cut


def sent(link: SimulatedLink, instruction: int) -> list[bytes]:
    """The commands of this kind that brought data."""
    return [raw for raw in link.card.commands if raw[1] == instruction and len(raw) > 6]


def test_a_wrong_pin_to_a_card_without_power_costs_nothing_and_is_sent_once(
    card: CardConnection, link: SimulatedLink
) -> None:
    power_cut(link, 2)  # the SELECT of the transaction comes first
    with pytest.raises(InlayError) as caught:
        piv_pin.verify(card, WRONG)
    assert caught.value.code == "pcsc_card_reset"
    assert len(sent(link, 0x20)) == 1
    assert link.card.pin_left == link.card.profile.pin_tries


def test_what_was_proved_is_said_to_be_gone(card: CardConnection, link: SimulatedLink) -> None:
    piv_pin.verify(card, PIN)
    power_cut(link, 1)
    with pytest.raises(InlayError) as caught:
        piv_pin.change(card, PIN_REFERENCE, PIN, b"246810")
    assert caught.value.code == "pcsc_card_reset"
    assert len(sent(link, 0x24)) == 1
    assert link.card.pin == PIN.ljust(8, b"\xff")
    card.close()
    assert link.resets == 1


def test_a_key_that_was_being_made_is_made_again_by_who_proves_the_management_key(
    card: CardConnection, link: SimulatedLink
) -> None:
    power_cut(link, 1)
    with pytest.raises(InlayError) as caught:
        piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    assert (
        caught.value.code == "card_management_needed"
    )  # selected again, asked again, and refused as it must be
    assert not link.card.keys


async def test_an_object_is_not_taken_for_absent(link: SimulatedLink) -> None:
    async with CardSession(lambda: CardConnection(link, "Reader")) as session:
        await session.run(piv_select.select)
        power_cut(link, 1)
        try:
            chuid = await session.run(piv_objects.read_chuid)
        except InlayError as error:
            assert error.code == "pcsc_card_reset"  # noqa: PT017 - either is right; None would be wrong
            chuid = await session.run(piv_objects.read_chuid)
        assert chuid is not None


def test_an_absent_object_is_asked_about_once_and_stays_absent(
    card: CardConnection, link: SimulatedLink
) -> None:
    assert piv_objects.read_certificate(card, 0x9A) is None
    before = link.number
    card.confirm()
    card.confirm()
    assert link.number == before + 1


@pytest.mark.parametrize("at", range(1, 12))
def test_a_look_sees_what_is_there(link: SimulatedLink, at: int) -> None:
    seen = looking.look(CardConnection(link, "Reader"), frozenset())
    power_cut(link, at)
    again = looking.look(CardConnection(link, "Reader"), frozenset())
    assert again == seen
    assert seen.guid is not None
    assert seen.capabilities is not None
    assert seen.capabilities.importing


def test_a_card_with_another_application_only_is_not_called_one_that_has_lost_its_power(
    card: CardConnection, link: SimulatedLink
) -> None:
    gone: Callable[[int], None] = lambda _number: setattr(link.card, "selected", False)  # noqa: E731
    link.before = gone
    with pytest.raises(InlayError) as caught:
        piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    # a SELECT that makes no difference is not repeated, and the work ends by what the card says
    assert caught.value.code in ("card_feature_missing", "card_refused")
    assert len([raw for raw in link.card.commands if raw[1] == 0xA4]) == 2


def test_a_missing_feature_stays_missing_and_costs_no_select(link: SimulatedLink) -> None:
    plain = SimulatedLink(SimulatedCard(replace(link.card.profile, yubico=ALL_YUBICO - {0xF6})))
    card = CardConnection(plain, "Reader")
    piv_select.select(card)
    with pytest.raises(InlayError) as caught:
        piv_keys.delete(card, 0x9A)
    assert caught.value.code == "card_feature_missing"
    card.confirm()
    assert len([raw for raw in plain.card.commands if raw[1] == 0xA4]) == 1


def test_a_pad_whose_card_has_lost_its_power_says_so(card: CardConnection, link: SimulatedLink) -> None:
    def typed(code: int, data: bytes) -> bytes:
        return link.card.transmit(data)

    link.control = typed  # type: ignore[method-assign]
    verify = bytes.fromhex("0020008008") + PIN.ljust(8, b"\xff")
    card.hold()
    link.card.reset()
    if link.card.profile.unselected in (0x6D00, 0x6E00):
        with pytest.raises(InlayError) as caught:
            card.enter(1, verify)
        assert caught.value.code == "pcsc_card_reset"
    else:  # 6985 and 6A82 are the reader's own words, too: they end the entry, with no try spent
        assert not card.enter(1, verify).ok
    assert link.card.pin_left == link.card.profile.pin_tries


def test_an_answer_whose_rest_never_comes_is_no_answer() -> None:
    steps = exchange(Command(0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC102")))
    next(steps)
    steps.send(bytes.fromhex("53106110"))
    with pytest.raises(InlayError) as caught:
        steps.send(bytes.fromhex("9000"))
    assert caught.value.code == "card_answer_malformed"
