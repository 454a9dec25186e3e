"""Check card and sign: what isn't accepted as the card's signature, then the way it should go, verified by others."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from portal.errors import NotFound, WrongState
from portal.model.states import CaState, ProcessState, UserState, VirtualSmartCardState
from portal.processes.check_card import CheckCard
from portal.processes.sign_text import TEXT, SignText
from portal.store.tables import AuditEntry, Card, Certificate
from portal.views import ObjectRef
from protocol.messages import (
    Algorithm,
    Authenticate,
    CardSignature,
    Finished,
    Message,
    Proceed,
    Progress,
    Receipt,
    SlotProof,
    Step,
    Undo,
)
from tests.support.card_signatures import digest_of, signed
from tests.support.portal_kit import P256, Kit
from tests.support.software_agent import make_key
from tests.support.stored_objects import put_card

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.views import CardView, ProcessView, Session
    from tests.support.software_agent import SoftwareAgent

VERIFIER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "verify_card_signature.py"
WORDS = "Ich schulde Dir nichts: 0 €."


async def made_card(kit: Kit, session: Session, **options: Any) -> tuple[CardView, SoftwareAgent]:
    """A card with three certificates, and the device that made it on a connection of its own."""
    await kit.set_options(**options)
    _, agent = await kit.bound_agent(session)
    await agent.complete()
    (card,) = await kit.services.cards(session)
    return card, await again(kit, agent)


async def claimed(kit: Kit, session: Session, agent: SoftwareAgent, name: str, card: str) -> ProcessView:
    """A process whose order the device has claimed and agreed to, its number typed into the page."""
    view = await kit.services.start_process(session, name, ObjectRef("virtual_smart_card", card))
    sent = {TEXT.name: [WORDS]} if name == SignText.name else {}
    view = await kit.services.next(session, view.id, view.version, sent)
    code = await kit.services.new_code(session, view.id)
    await agent.claim(code.code)
    await agent.say(Progress(step=Step.CONSENT))
    await agent.consent(number="417")
    await kit.bind(session, view.id, "417")  # a link never begins this without it, known device or not
    assert isinstance(await agent.hear(), Proceed)
    return view


def slot_of(name: str) -> str:
    return "9A" if name == CheckCard.name else "9C"


def good(agent: SoftwareAgent, name: str) -> CardSignature:
    slot = slot_of(name)
    return signed(agent.card.keys[slot], agent.card.certificates[slot], digest_of(agent))


async def answer(agent: SoftwareAgent, signature: CardSignature | None, guid: str | None = None) -> Message:
    await agent.say(Receipt(guid=guid or agent.card.guid, generation=42, signature=signature))
    return await agent.hear()


async def again(kit: Kit, agent: SoftwareAgent) -> SoftwareAgent:
    """The same device and card on another connection."""
    fresh = await kit.agent()
    fresh.device, fresh.card = agent.device, agent.card
    return fresh


async def refused(agent: SoftwareAgent, signature: CardSignature | None, guid: str | None = None) -> str:
    undo = await answer(agent, signature, guid)
    assert isinstance(undo, Undo)
    return undo.error.error


async def actions(kit: Kit, card: str) -> list[str]:
    async with kit.database.read() as tx:
        query = select(AuditEntry.action).where(AuditEntry.object_id == card)
        return list(await tx.scalars(query.order_by(AuditEntry.number)))


# --- who may, and when


@pytest.mark.parametrize("name", [CheckCard.name, SignText.name])
async def test_only_the_owner_and_only_with_an_active_card(kit: Kit, name: str) -> None:
    ada, eve = await kit.person(), await kit.person("eve@example.org")
    with pytest.raises(NotFound):
        await kit.services.start_process(eve, name, ObjectRef("virtual_smart_card", await put_card(kit, ada)))
    locked = await put_card(kit, ada, VirtualSmartCardState.LOCKED)
    with pytest.raises(WrongState):
        await kit.services.start_process(ada, name, ObjectRef("virtual_smart_card", locked))


# --- what isn't the card's signature


@pytest.mark.parametrize("name", [CheckCard.name, SignText.name])
async def test_what_isnt_that_cards_signature_over_this_undoes_the_order(kit: Kit, name: str) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    slot = slot_of(name)
    other = "9C" if slot == "9A" else "9A"
    stranger = make_key(Algorithm.P_256)
    wrong: dict[str, Callable[[], CardSignature | None]] = {
        "nothing is signed": lambda: None,
        "another digest": lambda: signed(agent.card.keys[slot], agent.card.certificates[slot], bytes(32)),
        "another key": lambda: signed(stranger, agent.card.certificates[slot], digest_of(agent)),
        "the other key of the card": lambda: signed(
            agent.card.keys[other], agent.card.certificates[other], digest_of(agent)
        ),
        "called RSA": lambda: msgspec.structs.replace(good(agent, name), algorithm="RS256"),
        "cut": lambda: msgspec.structs.replace(good(agent, name), signature=good(agent, name).signature[:-1]),
        "zeros": lambda: msgspec.structs.replace(good(agent, name), signature=bytes(64)),
        "no certificate": lambda: msgspec.structs.replace(good(agent, name), certificate=b"none at all"),
    }
    codes = {}
    for what, make in wrong.items():
        view = await claimed(kit, ada, agent, name, card.id)
        codes[what] = await refused(agent, make())
        assert (await kit.services.process(ada, view.id)).state is ProcessState.FAILED
        agent = await again(kit, agent)
    unusable, unproved = "card_certificate_unusable", "proof_invalid"
    assert codes == {
        "nothing is signed": "params_invalid",
        "another digest": unproved,
        "another key": unproved,
        "the other key of the card": unusable,
        "called RSA": unproved,
        "cut": unproved,
        "zeros": unproved,
        "no certificate": unusable,
    }
    assert not {"card.authenticated", "card.signed"} & set(await actions(kit, card.id))


async def test_a_signature_for_another_origin_is_worth_nothing_here(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    await claimed(kit, ada, agent, CheckCard.name, card.id)
    elsewhere = digest_of(agent, "https://evil.test")
    given = signed(agent.card.keys["9A"], agent.card.certificates["9A"], elsewhere)
    assert await refused(agent, given) == "proof_invalid"


async def test_a_signature_of_an_earlier_order_is_worth_nothing_in_the_next(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    view = await claimed(kit, ada, agent, CheckCard.name, card.id)
    earlier = good(agent, CheckCard.name)
    assert isinstance(await answer(agent, earlier), Finished)
    view = await kit.services.process(ada, view.id)
    assert (await kit.services.next(ada, view.id, view.version)).state is ProcessState.FINISHED
    agent = await again(kit, agent)
    await claimed(kit, ada, agent, CheckCard.name, card.id)
    assert await refused(agent, earlier) == "proof_invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "Revoked"},
        {"state": "Issued"},
        {"state": "On Hold"},
        {"ca_state": CaState.REVOKED.value},
        {"ca_state": CaState.HELD.value},
        {"not_after": 1},
        {"not_before": 32_000_000_000},
    ],
    ids=lambda change: next(iter(change.items())),
)
async def test_a_certificate_that_isnt_good_now_proves_nothing(kit: Kit, change: dict[str, Any]) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    await claimed(kit, ada, agent, CheckCard.name, card.id)
    async with kit.database.write() as tx:
        row = (await tx.scalars(select(Certificate).where(Certificate.slot == "9A"))).one()
        for name, value in change.items():
            setattr(row, name, value)
    assert await refused(agent, good(agent, CheckCard.name)) == "card_certificate_unusable"


async def test_card_or_person_that_may_not_any_more(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    await claimed(kit, ada, agent, SignText.name, card.id)
    assert await refused(agent, good(agent, SignText.name), "ab" * 16) == "params_invalid"
    agent = await again(kit, agent)
    await claimed(kit, ada, agent, SignText.name, card.id)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card.id)).state = VirtualSmartCardState.LOCKED.value
    assert await refused(agent, good(agent, SignText.name)) == "card_ended"
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card.id)).state = VirtualSmartCardState.ACTIVE.value
    agent = await again(kit, agent)
    await claimed(kit, ada, agent, SignText.name, card.id)
    await kit.portal.accounts.set_state("ada@example.org", UserState.INACTIVE)
    assert await refused(agent, good(agent, SignText.name)) == "user_not_active"


@pytest.mark.parametrize("name", [CheckCard.name, SignText.name])
async def test_proofs_have_no_place_in_it(kit: Kit, name: str) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **P256)
    await claimed(kit, ada, agent, name, card.id)
    proof = SlotProof(slot="9A", certificate_sha256=bytes(32), signature=b"1234")
    await agent.say(Receipt(guid=agent.card.guid, signature=good(agent, name), proofs=[proof]))
    undo = await agent.hear()
    assert isinstance(undo, Undo)
    assert undo.error.error == "params_invalid"


# --- to the end


@pytest.mark.parametrize("keys", ["P-256", "RSA-2048"])
@pytest.mark.parametrize("name", [CheckCard.name, SignText.name])
async def test_the_signature_is_kept_with_the_process_and_a_foreign_verifier_takes_it(
    kit: Kit, tmp_path: Path, name: str, keys: str
) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada, **(P256 if keys == "P-256" else {}))
    view = await claimed(kit, ada, agent, name, card.id)
    assert agent.order is not None
    assert agent.order.binding == "number"
    given = good(agent, name)
    assert given.algorithm == ("ES256" if keys == "P-256" else "RS256")
    assert isinstance(await answer(agent, given), Finished)
    view = await kit.services.process(ada, view.id)
    assert view.step == "details"
    if name == CheckCard.name:
        assert view.facts["Result"] == "The card works: PIN, key and certificate are good."
    else:
        assert base64.b64encode(given.signature).decode() in view.facts["Signature"]
    wanted = "card.authenticated" if name == CheckCard.name else "card.signed"
    assert (await actions(kit, card.id)).count(wanted) == 1

    ca, text = tmp_path / "ca.pem", tmp_path / "text"
    certificate = x509.load_der_x509_certificate(await kit.portal.ca.certificate())
    ca.write_bytes(certificate.public_bytes(Encoding.PEM))
    text.write_text(WORDS, encoding="utf-8")
    operation = agent.order.parameters
    right = (
        ["authenticate", agent.order.origin, operation.challenge]
        if isinstance(operation, Authenticate)
        else ["sign", str(text)]
    )
    assert await verify(ca, right, given) == (0, "")
    assert (await verify(ca, wrong_for(right, tmp_path), given))[1].startswith(
        "The signature is not over this"
    )
    crossed = ["sign", str(text)] if right[0] == "authenticate" else ["authenticate", "https://a.test", "c"]
    assert (await verify(ca, crossed, given))[1].startswith("The certificate is not for this use")


async def verify(ca: Path, arguments: list[str], given: CardSignature) -> tuple[int, str]:
    """The documentation's example verifier: exit status and what it complains of."""
    sent = {
        "certificate": base64.b64encode(given.certificate).decode(),
        "algorithm": given.algorithm,
        "signature": base64.b64encode(given.signature).decode(),
    }
    argv = [sys.executable, "-I", str(VERIFIER), str(ca), *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, input=json.dumps(sent), capture_output=True, text=True, timeout=60)

    done = await asyncio.to_thread(run)
    return done.returncode, done.stderr


def wrong_for(arguments: list[str], folder: Path) -> list[str]:
    """The same for another challenge, or another text."""
    if arguments[0] == "authenticate":
        return [*arguments[:2], "another challenge"]
    (folder / "other").write_text("another text", encoding="utf-8")
    return ["sign", str(folder / "other")]
