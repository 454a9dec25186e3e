"""*Renew* and *Replace lost card*: refusals, what a failure leaves, and what stands at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal import option_store
from portal.errors import NotFound, WrongState
from portal.model import archive_options
from portal.model.states import Role, VirtualSmartCardState
from portal.processes.archive_recovery import ArchiveRecovery
from portal.store import audit
from portal.store.tables import Card
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import EncodeCard, KeySource, Proceed, StorageLevel
from tests.support import sample_tasks as samples
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit
from tests.support.software_agent import SoftwareAgent, SoftwareCard
from tests.support.stored_objects import put_card, state_of_card

if TYPE_CHECKING:
    from portal.store.tables import Certificate
    from portal.views import CardView, ProcessView, Session

RENEW, REPLACE = "VirtualSmartCardProcRenew", "VirtualSmartCardProcReplace"
CARD = "virtual_smart_card"


class Owner:
    """A person with a card.

    Attributes:
        certificates: of the card's first order, by slot.
    """

    def __init__(self, kit: Kit, session: Session, card: CardView, agent: SoftwareAgent) -> None:
        self.kit, self.session, self.card, self.agent = kit, session, card, agent
        self.ref = ObjectRef(CARD, card.id)
        self.certificates: dict[str, Certificate] = {}

    async def start(self, name: str) -> ProcessView:
        """Start a process on the card."""
        return await self.kit.services.start_process(self.session, name, self.ref)

    async def carried(self, name: str) -> tuple[ProcessView, SoftwareAgent]:
        """A process on the card, claimed by the device that has it: at *proceed*; to replace it, with a new card."""
        device = await samples.again(self.kit, self.agent)
        if name == REPLACE:
            device.card = SoftwareCard()
        return await samples.carried(self.kit, self.session, await self.start(name), device)

    async def states(self) -> dict[str, str]:
        """State of each of the first certificates, by slot."""
        async with self.kit.database.read() as tx:
            rows = [await tx.get_one(type(row), row.id) for row in self.certificates.values()]
            return {row.slot: row.state for row in rows}


@pytest.fixture
async def owner(kit: Kit) -> Owner:
    """Ada, with an active card of P-256 keys and a recoverable encryption key."""
    await kit.set_options(**P256)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.complete()
    view = await kit.services.process(session, view.id)
    await kit.services.next(session, view.id, view.version)
    assert view.card is not None
    found = Owner(kit, session, view.card, agent)
    found.certificates = await samples.certificates_of(kit, view.id)
    return found


# --- refusals


@pytest.mark.parametrize("name", [RENEW, REPLACE])
async def test_somebody_elses_card_is_not_there(kit: Kit, owner: Owner, name: str) -> None:
    eve = await kit.person("eve@example.org")
    with pytest.raises(NotFound):
        await kit.services.start_process(eve, name, owner.ref)


@pytest.mark.parametrize("name", [RENEW, REPLACE])
@pytest.mark.parametrize("state", [VirtualSmartCardState.LOCKED, VirtualSmartCardState.REPLACED])
async def test_a_card_that_has_ended_is_refused_and_the_states_that_would_do_are_named(
    kit: Kit, owner: Owner, name: str, state: VirtualSmartCardState
) -> None:
    ended = await put_card(kit, owner.session, state)
    with pytest.raises(WrongState) as refused:
        await kit.services.start_process(owner.session, name, ObjectRef(CARD, ended))
    assert "Active" in refused.value.would_do


async def test_a_card_without_certificates_has_nothing_to_renew(kit: Kit, owner: Owner) -> None:
    bare = await put_card(kit, owner.session)
    with pytest.raises(InlayError) as refused:
        await kit.services.start_process(owner.session, RENEW, ObjectRef(CARD, bare))
    assert refused.value.code == "nothing_to_renew"


async def test_requests_of_another_card_are_refused(kit: Kit, owner: Owner) -> None:
    view, agent = await owner.carried(RENEW)
    agent.card.guid = "0" * 32
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    ended = await kit.ended(owner.session, view.id)
    assert ended.error is not None
    assert ended.error.error == "params_invalid"
    assert set((await owner.states()).values()) == {"Valid"}


async def test_a_card_that_is_locked_meanwhile_gets_nothing_valid(kit: Kit, owner: Owner) -> None:
    view, agent = await owner.carried(RENEW)
    receipt = await agent.make_card()
    async with kit.database.write() as tx:
        (await tx.get_one(Card, owner.card.id)).state = VirtualSmartCardState.LOCKED.value
    await agent.say(receipt)
    ended = await kit.ended(owner.session, view.id)
    assert ended.error is not None
    assert ended.error.error == "card_ended"
    assert {row.state for row in (await samples.certificates_of(kit, view.id)).values()} == {"Issued"}


async def test_a_wrong_proof_leaves_the_old_certificates_good(kit: Kit, owner: Owner) -> None:
    view, agent = await owner.carried(RENEW)
    before = await kit.valid_at_ca()
    receipt = await agent.make_card()
    del receipt.proofs[0]
    await agent.say(receipt)
    ended = await kit.ended(owner.session, view.id)
    assert ended.error is not None
    assert ended.error.error == "proof_invalid"
    assert set((await owner.states()).values()) == {"Valid"}
    assert await kit.valid_at_ca() == before


@pytest.mark.parametrize("name", [RENEW, REPLACE])
async def test_cancelled_at_any_time_the_old_card_is_as_it_was(kit: Kit, owner: Owner, name: str) -> None:
    before = await kit.valid_at_ca()
    for written in (False, True):
        view, agent = await owner.carried(name)
        if written:
            await agent.make_card()
        await kit.services.cancel(owner.session, view.id)
        assert set((await owner.states()).values()) == {"Valid"}
        assert await state_of_card(kit, owner.card.id) == "Active"
        assert await kit.valid_at_ca() == before


async def test_a_storage_level_has_no_place_in_an_order_for_a_card_that_is_there(
    kit: Kit, owner: Owner
) -> None:
    view, code = await samples.opened(kit, owner.session, await owner.start(RENEW))
    agent = await samples.again(kit, owner.agent)
    await agent.claim(code.code)
    await agent.say(agent.consented(storage=StorageLevel.FILE))
    ended = await kit.ended(owner.session, view.id)
    assert ended.error is not None
    assert ended.error.error == "params_invalid"


# --- renew


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_renew(kit: Kit, owner: Owner) -> None:
    """Authentication and signature are new, encryption stays; the old ones are superseded once the new are proved."""
    kit.clock.now += 3_600
    view, agent = await owner.carried(RENEW)
    assert agent.order is not None
    ordered = agent.order.parameters
    assert isinstance(ordered, EncodeCard)
    assert (ordered.guid, ordered.pin.kind) == (owner.card.guid, "verify")
    assert [(key.slot, key.source) for key in ordered.keys] == [
        ("9A", KeySource.GENERATE),
        ("9C", KeySource.GENERATE),
    ]
    receipt = await agent.make_card()
    assert set((await owner.states()).values()) == {"Valid"}  # until the new ones are proved
    await agent.say(receipt)
    assert (await kit.ended(owner.session, view.id)).state == "finished"
    new = await samples.certificates_of(kit, view.id)
    assert {slot: row.state for slot, row in new.items()} == {"9A": "Valid", "9C": "Valid"}
    await kit.portal.revocations.run_due()
    assert await owner.states() == {"9A": "Revoked", "9C": "Revoked", "9D": "Valid"}
    async with kit.database.read() as tx:
        for slot in ("9A", "9C"):
            old = await tx.get_one(type(owner.certificates[slot]), owner.certificates[slot].id)
            assert old.revocation_reason == "superseded"
        card = await tx.get_one(Card, owner.card.id)
        assert card.valid_until > owner.card.valid_until
        assert (card.state, card.guid) == ("Active", owner.card.guid)
        assert await audit.first_fault(tx) is None
    assert {row.id for row in new.values()} <= set(await samples.relations_of(kit, owner.card.id))
    view = await kit.services.process(owner.session, view.id)
    assert view.step == "details"
    assert (await kit.services.next(owner.session, view.id, view.version)).state == "finished"


async def test_renewed_twice_only_the_last_is_good(kit: Kit, owner: Owner) -> None:
    for _ in range(2):
        view, agent = await owner.carried(RENEW)
        await agent.complete()
        view = await kit.services.process(owner.session, view.id)
        await kit.services.next(owner.session, view.id, view.version)
    assert len(await kit.valid_at_ca()) == 3


@pytest.mark.parametrize("well", [False, True], ids=["error", "success"])
async def test_hold_until_proof_holds_the_new_ones_alone(kit: Kit, owner: Owner, well: bool) -> None:
    """On hold until they are proved; the old ones are good until then, and after an error."""
    await kit.set_options(HoldUntilProof=True)
    before = await kit.valid_at_ca()
    view, agent = await owner.carried(RENEW)
    receipt = await agent.make_card()
    new = await samples.certificates_of(kit, view.id)
    assert {row.ca_state for row in new.values()} == {"held"}
    assert await kit.valid_at_ca() == before
    if not well:
        await kit.services.cancel(owner.session, view.id)
        assert await kit.valid_at_ca() == before
        return
    await agent.say(receipt)
    assert (await kit.ended(owner.session, view.id)).state == "finished"
    assert len(await kit.valid_at_ca()) == 3
    new = await samples.certificates_of(kit, view.id)
    assert {(row.state, row.ca_state) for row in new.values()} == {("Valid", "good")}


# --- replace


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_replace(kit: Kit, owner: Owner) -> None:
    """The old card is Replaced and its certificates revoked; the encryption certificate is the same on the new card."""
    old_key = owner.agent.card.keys["9D"]
    view, code = await samples.opened(kit, owner.session, await owner.start(REPLACE))
    agent = await kit.agent()  # another device
    await agent.claim(code.code)
    await agent.consent(number="417")
    await kit.bind(owner.session, view.id, "417")
    await agent.complete()
    recovered = owner.certificates["9D"]
    assert agent.card.certificates["9D"] == recovered.der
    assert agent.card.keys["9D"].private_numbers() == old_key.private_numbers()
    assert await state_of_card(kit, owner.card.id) == "Replaced"
    await kit.portal.revocations.run_due()
    assert await owner.states() == {"9A": "Revoked", "9C": "Revoked", "9D": "Valid"}
    new = await samples.certificates_of(kit, view.id)
    assert {slot: row.state for slot, row in new.items()} == {"9A": "Valid", "9C": "Valid"}
    view = await kit.services.process(owner.session, view.id)
    assert view.card is not None
    assert view.card.state == "Active"
    related = await samples.relations_of(kit, view.card.id)
    assert recovered.id in related
    async with kit.database.read() as tx:
        assert await audit.first_fault(tx) is None


async def test_older_encryption_keys_go_to_retired_keys(kit: Kit, owner: Owner) -> None:
    """Each replacement whose newest certificate can't be used any more adds a key; none is ever left behind."""
    kit.clock.now += 3 * 365 * 86_400  # the certificate has expired
    session = await kit.login()
    view = await kit.services.start_process(session, REPLACE, owner.ref)
    view, code = await samples.opened(kit, session, view)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    await kit.bind(session, view.id, "417")
    await agent.complete()
    assert agent.card.certificates["82"] == owner.certificates["9D"].der
    new = await samples.certificates_of(kit, view.id)
    assert set(new) == {"9A", "9C", "9D"}
    assert new["9D"].archived_key_id is not None


async def test_a_lost_card_that_an_operator_locks_meanwhile_stays_locked(kit: Kit, owner: Owner) -> None:
    view, agent = await owner.carried(REPLACE)
    receipt = await agent.make_card()
    async with kit.database.write() as tx:
        (await tx.get_one(Card, owner.card.id)).state = VirtualSmartCardState.LOCKED.value
    await agent.say(receipt)
    assert (await kit.ended(owner.session, view.id)).state == "finished"
    assert await state_of_card(kit, owner.card.id) == "Locked"


async def test_recovery_waits_for_two_persons_where_the_option_says_so(kit: Kit, owner: Owner) -> None:
    async with kit.database.write() as tx:
        values = option_store.script_of(archive_options.NAME).check({archive_options.TWO_PERSONS: True})
        await option_store.save(tx, archive_options.NAME, 0, values, by="test", now=kit.clock())
    with pytest.raises(InlayError) as refused:
        await owner.start(REPLACE)
    assert refused.value.code == "recovery_not_approved"
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    paul = await kit.person("paul@example.org", [Role.APPROVER])
    person = ObjectRef("user", owner.session.user.id)
    asked = await kit.services.start_process(olga, ArchiveRecovery.name, person)
    asked = await kit.services.next(olga, asked.id, asked.version, {"Reason": ["the card was lost"]})
    seen = await kit.services.process(paul, asked.id)
    await kit.services.next(paul, seen.id, seen.version, {"Decision": ["agree"]})
    _, agent = await owner.carried(REPLACE)
    await agent.complete()
    assert agent.card.certificates["9D"] == owner.certificates["9D"].der
