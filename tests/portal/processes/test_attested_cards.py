"""Cards that have to prove that they made their keys: a device that lies gets nothing, then cards as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select

from portal.ca.attestation import Roots, roots
from portal.encoding.piv_rules import Part
from portal.model.states import Role, TemporaryCardState
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.store.tables import AuditEntry, CaIntent, Card, Certificate
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    Certificates,
    Changing,
    ErrorData,
    Finished,
    KeySource,
    Receipt,
    Requests,
    Undo,
    Undone,
)
from tests.support import extended_cards
from tests.support.attesting_maker import Maker, der, key
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ada, assigned, options, ordered
from tests.support.piv_descriptions import configure, example
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from pathlib import Path

    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

MAKER: Final = Maker()
EXTEND: Final = ExtendTemporaryCard.name


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator, and with her the options: attestation is required, and the maker is trusted."""
    trust(kit, roots([MAKER.root]))
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsEncode=["true"], TempCardsKeyAlgorithm=["P-256"])
    await options(kit, root, TempCardsAttestation=["required"])
    return await kit.person("olga@example.org", [Role.OPERATOR])


def trust(kit: Kit, makers: Roots) -> None:
    object.__setattr__(kit.portal.context, "roots", makers)


async def attestation(kit: Kit, value: str, **changed: list[str]) -> None:
    await options(kit, await kit.login("root@example.org"), TempCardsAttestation=[value], **changed)


async def begun(
    kit: Kit, olga: Session, card: str, device: SoftwareAgent | None = None
) -> tuple[ProcessView, SoftwareAgent, Requests]:
    """An order that was agreed to; the requests that its card has for it, without any attestation."""
    view, agent, _ = await extended_cards.begun(kit, olga, card, device)
    await agent.say(Changing())
    assert agent.order is not None
    return view, agent, agent.card.requests(agent.order)


def stated(agent: SoftwareAgent, requests: Requests, maker: Maker = MAKER, **changes: Any) -> Requests:
    """With what the card states of each key that it was to make."""
    made = {item.slot for item in ordered(agent).keys if item.source is KeySource.GENERATE}
    given = []
    for item in requests.requests:
        statement = None
        if item.slot in made:
            public = changes.get("public") or agent.card.keys[item.slot].public_key()
            assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
            others = {name: value for name, value in changes.items() if name not in ("public", "slot")}
            statement = maker.statement(changes.get("slot", item.slot), public, **others)
        given.append(msgspec.structs.replace(item, attestation=statement))
    return msgspec.structs.replace(requests, requests=given, attestation_issuer=der(maker.issuer))


async def refused(kit: Kit, agent: SoftwareAgent, requests: Requests) -> str:
    """What the order is undone with, once it is certain that nothing was issued and the card isn't attested."""
    await agent.say(requests)
    undo = await agent.hear()
    assert isinstance(undo, Undo), undo
    await agent.say(Undone(error=undo.error))
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    async with kit.database.read() as tx:
        assert list(await tx.scalars(select(CaIntent).where(CaIntent.order_jti == agent.order.jti))) == []
        assert not (await tx.get_one(Card, ordered(agent).card)).attested
    return undo.error.error


async def complete(agent: SoftwareAgent, requests: Requests) -> None:
    await agent.say(requests)
    answer = await agent.hear()
    assert isinstance(answer, Certificates), answer
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert isinstance(await agent.hear(), Finished)


async def done(kit: Kit, olga: Session, view: ProcessView) -> None:
    view = await kit.services.process(olga, view.id)
    await kit.services.next(olga, view.id, view.version)
    await kit.portal.revocations.run_due()


async def is_attested(kit: Kit, card: str) -> bool:
    async with kit.database.read() as tx:
        return (await tx.get_one(Card, card)).attested


async def audited(kit: Kit, action: str) -> list[AuditEntry]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == action)))


# --- refused at the start


async def test_what_cant_be_judged_isnt_begun(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    trust(kit, Roots())
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert caught.value.code == "attestation_no_roots"


async def test_a_card_whose_serial_number_no_card_can_prove(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada, serial="f0042")
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert caught.value.code == "attestation_no_serial"


# --- a device that lies


async def test_no_attestation_where_one_is_required(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, requests = await begun(kit, olga, card)
    assert await refused(kit, agent, requests) == "attestation_missing"
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED  # it was being changed


@pytest.mark.parametrize(
    ("mode", "changes", "code"),
    [
        ("required", {"maker": Maker()}, "attestation_untrusted"),
        ("where_possible", {"maker": Maker()}, "attestation_untrusted"),
        ("required", {"public": key().public_key()}, "attestation_other_key"),
        ("where_possible", {"slot": "9C"}, "attestation_other_slot"),
        ("required", {"serial": 43}, "attestation_other_card"),
        ("where_possible", {"policy": b"\1\1"}, "attestation_policy"),
        ("required", {"said": {}}, "attestation_unreadable"),
    ],
)
async def test_a_lie_in_either_mode_is_refused_for_what_it_is(
    kit: Kit, olga: Session, ada: Session, mode: str, changes: dict[str, Any], code: str
) -> None:
    await attestation(kit, mode)
    _, agent, requests = await begun(kit, olga, await assigned(kit, olga, ada))
    assert await refused(kit, agent, stated(agent, requests, **changes)) == code


@pytest.mark.parametrize("policy", [b"\2\1", b"\3\1", b"\2\3"])
async def test_a_key_that_asks_less_often_than_its_description_has_it(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path, policy: bytes
) -> None:
    """Neither option nor description asks for attestation: the policies do."""
    await attestation(kit, "no")
    made = "KeyReference=#9A\n"
    text = example(Part.ENCODE).replace(made, f"{made}KeyPINPolicy=#always\nKeyTouchPolicy=#cached\n")
    configure(kit, tmp_path, only=(Part.ENCODE,), encode=text[: text.index("[Application_2")])
    _, agent, requests = await begun(kit, olga, await assigned(kit, olga, ada))
    assert await refused(kit, agent, stated(agent, requests, policy=policy)) == "attestation_policy"


async def test_what_is_too_old(kit: Kit, olga: Session, ada: Session) -> None:
    _, agent, requests = await begun(kit, olga, await assigned(kit, olga, ada))
    asking = stated(agent, requests)
    object.__setattr__(kit.portal.context, "clock", lambda: kit.clock.now + 11 * 365 * 86_400)
    await agent.say(asking)
    undo = await agent.hear()
    assert isinstance(undo, Undo)
    assert undo.error.error == "attestation_expired"


async def test_a_statement_of_the_order_before_is_worth_nothing_for_a_new_key(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, requests = await begun(kit, olga, card)
    first = stated(agent, requests)
    await complete(agent, first)
    await done(kit, olga, view)
    await attestation(kit, "required", TempCardsNewKeys=["true"])
    _, agent, requests = await begun(kit, olga, card, agent)
    replayed = [
        msgspec.structs.replace(new, attestation=old.attestation)
        for new, old in zip(requests.requests, first.requests, strict=True)
    ]
    asking = msgspec.structs.replace(requests, requests=replayed, attestation_issuer=first.attestation_issuer)
    assert await refused(kit, agent, asking) == "attestation_other_key"


async def test_what_nobody_asked_for_and_what_nobody_signed(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, requests = await begun(kit, olga, card)
    asking = msgspec.structs.replace(stated(agent, requests), attestation_issuer=None)
    assert await refused(kit, agent, asking) == "params_invalid"
    await attestation(kit, "no")
    _, agent, requests = await begun(kit, olga, card, agent)
    assert await refused(kit, agent, stated(agent, requests)) == "params_invalid"


# --- as it should go


async def test_a_card_that_proves_its_keys_is_attested_and_stays_so_with_the_keys_it_has(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, requests = await begun(kit, olga, card)
    assert ordered(agent).attest == "required"
    await complete(agent, stated(agent, requests))
    await done(kit, olga, view)
    assert await is_attested(kit, card)
    page = await kit.portal.operator.object(olga, "temporary_card", card)
    assert {fact.label: fact.text for fact in page.facts}["Keys kept"] == "on the card, attested"
    (entry,) = await audited(kit, "card.attested")
    assert (entry.object_id, entry.details["slots"], entry.details["firmware"]) == (card, ["9A"], ["5.7.1"])
    view, agent, requests = await begun(kit, olga, card, agent)
    assert [item.source for item in ordered(agent).keys] == [KeySource.KEEP]
    await complete(agent, requests)
    await done(kit, olga, view)
    assert await is_attested(kit, card)


async def test_where_it_is_possible_what_comes_counts_and_what_doesnt_is_a_claim(
    kit: Kit, olga: Session, ada: Session
) -> None:
    await attestation(kit, "where_possible")
    card = await assigned(kit, olga, ada)
    view, agent, requests = await begun(kit, olga, card)
    await complete(agent, requests)
    await done(kit, olga, view)
    assert not await is_attested(kit, card)
    assert [entry.details["slots"] for entry in await audited(kit, "card.claimed")] == [["9A"]]
    await attestation(kit, "required")
    view, agent, requests = await begun(kit, olga, card, agent)
    assert [item.source for item in ordered(agent).keys] == [
        KeySource.GENERATE
    ]  # what isn't proved can't stay
    await complete(agent, stated(agent, requests))
    await done(kit, olga, view)
    assert await is_attested(kit, card)


async def test_without_a_maker_to_judge_by_it_is_a_claim(kit: Kit, olga: Session, ada: Session) -> None:
    trust(kit, Roots())
    await attestation(kit, "where_possible")
    card = await assigned(kit, olga, ada)
    view, agent, requests = await begun(kit, olga, card)
    await complete(agent, stated(agent, requests))
    await done(kit, olga, view)
    assert not await is_attested(kit, card)
    async with kit.database.read() as tx:
        assert len(list(await tx.scalars(select(Certificate)))) == 1


async def test_an_attested_card_that_is_left_half_done_is_not_attested(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, requests = await begun(kit, olga, card)
    await complete(agent, stated(agent, requests))
    await done(kit, olga, view)
    _, agent, _ = await begun(kit, olga, card, agent)
    assert await is_attested(kit, card)
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    assert not await is_attested(kit, card)
