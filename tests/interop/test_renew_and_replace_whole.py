"""*Renew* and *Replace lost card* with a real portal, real agents and their cards on the disk, from page to card."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vsc import personalise
from portal.model.states import CaState
from portal.store.tables import Card
from portal.views import ObjectRef
from tests.support.agent_parts import cheap_cards, running_agent
from tests.support.attack_stage import outcome, running_stage
from tests.support.fake_windows import PIN
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import CardView, CertificateView, ProcessView, Session
    from tests.support.agent_parts import AgentParts
    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA

RENEW, REPLACE = "VirtualSmartCardProcRenew", "VirtualSmartCardProcReplace"


@pytest.fixture
async def stage(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """A real portal and two real agents, on machines without a key store."""
    cheap_cards(monkeypatch)
    async with running_stage(tmp_path, https_ca) as running:
        yield running


async def started(stage: Stage, session: Session, name: str, card: CardView) -> ProcessView:
    """A process on a card, at the step *open*."""
    ref = ObjectRef("virtual_smart_card", card.id)
    view = await stage.kit.services.start_process(session, name, ref)
    return await stage.kit.services.next(session, view.id, view.version)


async def only_card(stage: Stage, session: Session) -> CardView:
    """The person's card."""
    (card,) = await stage.kit.services.cards(session)
    return card


def by_purpose(card: CardView) -> dict[str, CertificateView]:
    """The certificates of a card that count, by purpose: one for each."""
    good = [item for item in card.certificates if item.state == "Valid"]
    assert len({item.purpose for item in good}) == len(good)
    return {item.purpose: item for item in good}


async def on_card(agent: AgentParts) -> dict[str, bytes]:
    """Certificate of each key of the agent's only card."""
    (known,) = await agent.care.known()
    facts = (await agent.care.standing(known.card)).facts
    return {item.slot: item.certificate for item in facts.certificates}


async def opens(agent: AgentParts, slot: int, certificate: bytes) -> bool:
    """Whether a key of the agent's card opens what is encrypted to a certificate."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    sender = ec.generate_private_key(ec.SECP256R1())
    point = sender.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    (known,) = await agent.care.known()

    def agree(card: Any) -> bytes:
        return personalise.agree(card, slot, point, bytearray(PIN))

    return await agent.cards.use(known.card, agree) == sender.exchange(ec.ECDH(), public)


async def test_a_card_is_renewed(stage: Stage) -> None:
    """New keys to log in and sign, proved to the CA's satisfaction; the encryption key is the one it was."""
    session = await stage.kit.person()
    await stage.get_card(session, stage.victim)
    old = await only_card(stage, session)
    before = await on_card(stage.victim)
    view = await started(stage, session, RENEW, old)
    code = await stage.kit.services.new_code(session, view.id)
    stage.victim.windows.answers = [(b"000000", None), (PIN, None)]  # a slip of the hand first
    assert await outcome(stage.open_link(stage.victim, code.link)) == "finished"
    await stage.kit.portal.revocations.run_due()
    card = await only_card(stage, session)
    new, kept = by_purpose(card), by_purpose(old)
    assert {item.ca_state for item in new.values()} == {CaState.GOOD}
    assert new["encryption"].serial == kept["encryption"].serial
    for purpose in ("authentication", "signature"):
        assert new[purpose].serial != kept[purpose].serial
        assert await stage.kit.portal.ca.status(kept[purpose].serial) is CaState.REVOKED
    after = await on_card(stage.victim)
    for slot, purpose in (("9A", "authentication"), ("9C", "signature"), ("9D", "encryption")):
        serial = x509.load_der_x509_certificate(after[slot]).serial_number
        assert serial == int(new[purpose].serial, 16)
    assert after["9D"] == before["9D"]
    assert await opens(stage.victim, 0x9D, before["9D"])


async def test_a_renewal_cancelled_in_the_portal_leaves_card_and_certificates(stage: Stage) -> None:
    session = await stage.kit.person()
    await stage.get_card(session, stage.victim)
    old = await only_card(stage, session)
    before = await on_card(stage.victim)
    view = await started(stage, session, RENEW, old)
    code = await stage.kit.services.new_code(session, view.id)
    stage.victim.windows.answers = []  # nobody types a PIN
    ending = stage.open_link(stage.victim, code.link)
    await asyncio.to_thread(wait_until, lambda: len(stage.victim.windows.opened) == 2, "the second window")
    await stage.victim.windows.opened[1].until("ask")
    await stage.kit.services.cancel(session, view.id)
    assert await outcome(ending) == "cancelled_at_portal"
    assert await on_card(stage.victim) == before
    assert by_purpose(await only_card(stage, session)).keys() == by_purpose(old).keys()
    assert len(await stage.kit.valid_at_ca()) == 3


async def test_an_agent_that_is_restarted_before_it_took_the_renewal_on_does_it_then(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await stage.kit.person()
    await stage.get_card(session, stage.victim)
    before = await on_card(stage.victim)
    view = await started(stage, session, RENEW, await only_card(stage, session))
    code = await stage.kit.services.new_code(session, view.id)
    stage.victim.windows.answers = [(PIN, None)]

    async def dies(*_arguments: Any) -> None:
        raise OSError(5, "gone")

    with monkeypatch.context() as patched:
        patched.setattr(stage.victim.care, "take_on", dies)
        assert await outcome(stage.open_link(stage.victim, code.link)) != "finished"
    assert await on_card(stage.victim) == before
    async with running_agent(tmp_path / "victim") as restarted:
        await restarted.desk.resume()
        journal = restarted.journal.get()
        await asyncio.to_thread(wait_until, lambda: not journal.unsettled(), "the order to be settled")
        after = await on_card(restarted)
    await stage.kit.portal.revocations.run_due()
    good = by_purpose(await only_card(stage, session))
    assert x509.load_der_x509_certificate(after["9A"]).serial_number == int(good["authentication"].serial, 16)


async def test_a_lost_card_is_replaced_on_another_machine(stage: Stage) -> None:
    """The new card opens what was encrypted to the old one; the old one's other certificates are good nowhere."""
    session = await stage.kit.person()
    await stage.get_card(session, stage.victim)
    lost = await only_card(stage, session)
    old = await on_card(stage.victim)
    view = await started(stage, session, REPLACE, lost)
    code = await stage.kit.services.new_code(session, view.id)
    ending = stage.open_link(stage.other, code.link)
    await stage.type_number(session, view, stage.other)
    assert await outcome(ending) == "finished"
    await stage.kit.portal.revocations.run_due()
    found = await on_card(stage.other)
    assert found["9D"] == old["9D"]
    assert await opens(stage.other, 0x9D, old["9D"])
    for purpose, item in by_purpose(lost).items():
        expected = CaState.GOOD if purpose == "encryption" else CaState.REVOKED
        assert await stage.kit.portal.ca.status(item.serial) is expected
    async with stage.kit.database.read() as tx:
        assert (await tx.get_one(Card, lost.id)).state == "Replaced"
    assert await stage.active_cards(session) == 1


async def test_an_old_copy_of_a_cards_file_is_seen_at_the_next_claim(stage: Stage, tmp_path: Path) -> None:
    """The file as a backup had it, with its old PIN tries: noted by the portal, shown, and in nobody's way."""
    session = await stage.kit.person()
    await stage.get_card(session, stage.victim)
    card = await only_card(stage, session)
    (known,) = await stage.victim.care.known()
    (path,) = (
        found for found in (tmp_path / "victim").rglob("*") if found.is_file() and known.card in found.name
    )
    backup = path.read_bytes()
    await stage.victim.care.change_pin(known.card, bytearray(PIN), bytearray(b"864209"))
    assert path.read_bytes() != backup
    await _claim_and_cancel(stage, session, card)
    assert not (await only_card(stage, session)).restored
    path.write_bytes(backup)
    await _claim_and_cancel(stage, session, card)
    shown = await only_card(stage, session)
    assert (shown.restored, shown.state) == (True, "Active")


async def _claim_and_cancel(stage: Stage, session: Session, card: CardView) -> None:
    """Claim an order about the card, and end it at the portal before anything is done."""
    view = await started(stage, session, RENEW, card)
    code = await stage.kit.services.new_code(session, view.id)
    opened = len(stage.victim.windows.opened)
    stage.victim.windows.answers = []  # nobody types a PIN
    ending = stage.open_link(stage.victim, code.link)
    await asyncio.to_thread(wait_until, lambda: len(stage.victim.windows.opened) > opened, "the window")
    await stage.victim.windows.opened[opened].until("ask")
    await stage.kit.services.cancel(session, view.id)
    assert await outcome(ending) == "cancelled_at_portal"
