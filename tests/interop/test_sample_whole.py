"""The sample with two applications, carried out on a card of a real agent by a real portal: well and badly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from portal.encoding.parser import parse
from portal.views import ObjectRef
from protocol.errors import InlayError
from tests.support import sample_tasks as samples
from tests.support.agent_parts import cheap_cards
from tests.support.attack_stage import outcome, running_stage
from tests.support.fake_windows import PIN
from tests.support.processes import wait_until
from tests.support.sample_tasks import SAMPLE, SampleOperation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import CardView, ProcessView, Session
    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA

NEW = b"k7mZ42"


@pytest.fixture
async def stage(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """A real portal and two real agents, on machines without a key store."""
    cheap_cards(monkeypatch)
    async with running_stage(tmp_path, https_ca) as running:
        yield running


class Begun(NamedTuple):
    """The sample's process on a card, its order under way: the window shows the number."""

    card: CardView
    view: ProcessView
    ending: asyncio.Task[str]
    number: str


async def begun(stage: Stage, session: Session) -> Begun:
    """Get a card, and begin the sample on it."""
    await stage.get_card(session, stage.victim)
    (card,) = await stage.kit.services.cards(session)
    name = samples.use(stage.kit, SampleOperation, SAMPLE)
    view = await stage.kit.services.start_process(session, name, ObjectRef("virtual_smart_card", card.id))
    view, code = await samples.opened(stage.kit, session, view)
    stage.victim.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(outcome(stage.open_link(stage.victim, code.link)))
    await asyncio.to_thread(wait_until, lambda: len(stage.victim.windows.opened) == 2, "the second window")
    # a known device, by link: whoever sets a PIN without knowing the old one is asked for the number all the same
    window = stage.victim.windows.opened[1]
    await window.until("number")
    assert window.number is not None
    return Begun(card, view, ending, window.number)


async def pin_is(stage: Stage, pin: bytes) -> bool:
    """Whether this is the card's PIN."""
    (known,) = await stage.victim.care.known()
    try:
        await stage.victim.care.check_pin(known.card, bytearray(pin))
    except InlayError:
        return False
    return True


async def test_the_sample_ends_well(stage: Stage) -> None:
    session = await stage.kit.person()
    card, view, ending, number = await begun(stage, session)
    await stage.kit.bind(session, view.id, number)
    assert await ending == "finished"
    stored = await samples.certificates_of(stage.kit, view.id)
    assert {slot: row.state for slot, row in stored.items()} == {"9A": "Valid", "9C": "Valid"}
    related = await samples.relations_of(stage.kit, card.id)
    assert (related[stored["9A"].id], related[stored["9C"].id]) == ("HAS_A", "HAS_A")
    variables = await samples.variables_of(stage.kit, view.id)
    assert variables[samples.VARIABLE] == samples.descriptor(stored["9A"])
    assert samples.descriptor(stored["9C"]) not in variables.values()
    assert await pin_is(stage, NEW)
    (known,) = await stage.victim.care.known()
    facts = (await stage.victim.care.standing(known.card)).facts
    on_card = {item.slot: item.certificate for item in facts.certificates}
    assert (on_card["9A"], on_card["9C"]) == (stored["9A"].der, stored["9C"].der)


async def test_the_sample_ends_badly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates were issued and sent, and can't be written on the card."""
    session = await stage.kit.person()
    card, view, ending, number = await begun(stage, session)
    (known,) = await stage.victim.care.known()
    before = (await stage.victim.care.standing(known.card)).facts

    async def refuse(*_arguments: Any) -> None:
        raise InlayError("card_write_failed", cause="EIO")

    monkeypatch.setattr("agent.made_card.MadeCard.write_certificate", refuse)
    await stage.kit.bind(session, view.id, number)
    assert await ending == "card_write_failed"
    ended = await stage.kit.ended(session, view.id)
    assert ended.error is not None
    assert ended.error.error == "card_write_failed"
    stored = await samples.certificates_of(stage.kit, view.id)
    assert {slot: row.state for slot, row in stored.items()} == {"9A": "Issued", "9C": "Issued"}
    related = await samples.relations_of(stage.kit, card.id)
    assert related.get(stored["9A"].id) == "HAS_A"  # always
    assert stored["9C"].id not in related  # success
    variables = await samples.variables_of(stage.kit, view.id)
    assert variables[samples.VARIABLE] == samples.descriptor(stored["9A"])
    await stage.kit.portal.revocations.run_due()
    stored = await samples.certificates_of(stage.kit, view.id)
    assert {row.state for row in stored.values()} == {"Revoked"}
    assert await pin_is(stage, PIN)
    after = (await stage.victim.care.standing(known.card)).facts
    assert after.certificates == before.certificates
    assert len(await stage.kit.valid_at_ca()) == 3


def test_the_sample_is_the_missions_with_its_keys() -> None:
    """Two applications, A with all three keywords, B with none of them."""
    first, second = parse(SAMPLE).applications
    said = {"CreateObjectRelation", "ObjectRelationType", "CertCoreObjectDescriptorReturnField"}
    assert said <= first.settings.keys()
    assert not said & second.settings.keys()
