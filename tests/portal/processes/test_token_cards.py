"""Cards that are made through PKCS#11, as the portal orders them: what staff enter, what can't be ordered, what is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors
from portal.model.states import Role
from portal.processes import card_serials, tasks
from portal.processes.abort_card import AbortCard
from portal.processes.block_card import BlockCardInReader
from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_card import IssueCard
from portal.processes.lock_card import LockCard
from portal.processes.request_card import RequestCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Card, Order
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    CardStep,
    Changing,
    ErrorData,
    Undo,
    Undone,
)
from protocol.tokens import token_guid
from tests.support import issued_cards
from tests.support.issued_cards import begun, card_row, certificate_states, staff, step
from tests.support.portal_kit import running_portal
from tests.support.token_cards import EXAMPLES, NAME, approved, assigned, described, temporary
from tests.support.token_readers import SO_PIN
from tests.support.token_stage import SERIAL, ada, issued, kit, people

if TYPE_CHECKING:
    from pathlib import Path

    from portal.config_cards import CardDescriptionFiles
    from portal.views import Session
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

__all__ = ["ada", "kit", "people"]


def forget_descriptions(kit: Kit) -> None:
    """An administrator has taken them out of the configuration."""
    object.__setattr__(kit.portal.context, "descriptions", {})


async def active(kit: Kit, people: Staff, ada: Session) -> str:
    card, work = await issued(kit, people, ada)
    await issued_cards.activate(kit, ada, card, work)
    return card


# --- what staff enter


@pytest.mark.parametrize("kind", ["", "Vendor Token", "piv"])
async def test_a_kind_of_card_that_is_not_configured_is_none(
    kit: Kit, people: Staff, ada: Session, kind: str
) -> None:
    view = await kit.services.start_process(people.olga, RequestCard.name, ObjectRef("user", ada.user.id))
    with pytest.raises(FieldErrors) as refused:
        await kit.services.next(
            people.olga, view.id, view.version, {"Label": ["B"], "Reason": ["new"], CHOICE: [kind]}
        )
    assert list(refused.value.errors) == [CHOICE]


@pytest.mark.parametrize("serial", ["0123456789abcdef0", "ä"])
async def test_a_serial_number_that_no_token_has(kit: Kit, people: Staff, ada: Session, serial: str) -> None:
    card = await approved(kit, people, ada)
    with pytest.raises(FieldErrors, match="exactly as the card's module tells them"):
        await step(kit, people.olga, IssueCard.name, card, {"Serial": [serial]})
    view = await kit.services.start_process(people.olga, RequestTemporaryCard.name)
    with pytest.raises(FieldErrors, match="exactly as the card's module tells them"):
        await kit.services.next(
            people.olga, view.id, view.version, {"Label": ["B"], "Serial": [serial], CHOICE: [NAME]}
        )


async def test_a_serial_number_that_another_card_has_is_not_taken(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first, _ = await issued(kit, people, ada)
    second = await approved(kit, people, ada)
    with pytest.raises(FieldErrors, match="The card Badge has this serial number"):
        await step(kit, people.olga, IssueCard.name, second, {"Serial": [SERIAL]})
    view = await kit.services.start_process(people.olga, RequestTemporaryCard.name)
    with pytest.raises(FieldErrors, match="The card Badge has this serial number"):
        await kit.services.next(
            people.olga, view.id, view.version, {"Label": ["B"], "Serial": [SERIAL], CHOICE: [NAME]}
        )
    await step(kit, people.olga, LockCard.name, first, {"Reason": ["was lost"]})
    await step(kit, people.olga, IssueCard.name, second, {"Serial": [SERIAL]})
    assert (await card_row(kit, second)).serial == SERIAL


@pytest.mark.parametrize(
    ("driver", "text", "stored"),
    [("piv", "00 Af", "00af"), ("pkcs11", "00 Af", "00 Af"), ("pkcs11", "z", "z")],
)
def test_a_serial_number_is_kept_as_its_driver_needs_it(driver: str, text: str, stored: str) -> None:
    assert card_serials.typed(text, driver, "Serial") == stored


async def test_two_who_enter_one_serial_number_at_once_learn_nothing_of_each_others_card(
    kit: Kit, people: Staff, ada: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, work = await issued(kit, people, ada)
    assert (await card_row(kit, first)).sealed_puk is not None

    async def none(*_: object, **__: object) -> None:
        """The other one isn't committed yet."""

    monkeypatch.setattr(card_serials, "taken_by", none)
    second = await begun(kit, people.olga, await approved(kit, people, ada), work.agent, SERIAL)
    assert second.ordered.guid == work.ordered.guid
    assert bytes(second.agent.ephemeral.decrypt(second.proceed.puk or "")) == SO_PIN


# --- what can't be ordered


async def test_a_card_whose_description_is_gone_is_not_encoded_and_keeps_its_pin_orders(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await active(kit, people, ada)
    fresh = await approved(kit, people, ada)
    forget_descriptions(kit)
    with pytest.raises(InlayError) as refused:
        await step(kit, people.olga, IssueCard.name, fresh, {"Serial": ["17"]})
    assert (refused.value.code, refused.value.fields) == ("card_description_missing", {"name": NAME})
    view = await step(kit, ada, VerifyCardPin.name, card)
    assert (await ordered(kit, view.id)).parameters["driver"] == "pkcs11"


async def test_without_its_description_the_puk_of_a_card_that_took_none_of_its_own_is_not_known(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work = await issued(kit, people, ada, takes_puk=False)
    await issued_cards.activate(kit, ada, card, work)
    view = await step(kit, ada, UnblockChangePin.name, card, {"Action": ["unblock"], "PUK": ["portal"]})
    forget_descriptions(kit)
    code = await kit.services.new_code(ada, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    await kit.bind(ada, view.id, "417")
    heard = await agent.hear()
    assert isinstance(heard, Undo)
    assert heard.error.error == "card_description_missing"


async def test_a_temporary_card_without_its_description_or_with_attestation_is_not_encoded(
    kit: Kit, ada: Session
) -> None:
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    card = await assigned(kit, olga, ada, SERIAL, TempCardsAttestation=["required"])
    with pytest.raises(InlayError) as refused:
        await temporary(kit, olga, ExtendTemporaryCard.name, card)
    assert refused.value.code == "card_pkcs11_no_attestation"
    forget_descriptions(kit)
    with pytest.raises(InlayError) as refused:
        await temporary(kit, olga, ExtendTemporaryCard.name, card)
    assert refused.value.code == "card_description_missing"


async def test_where_attestation_is_wanted_only_where_possible_none_is_asked_for(
    kit: Kit, ada: Session
) -> None:
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    card = await assigned(kit, olga, ada, SERIAL, TempCardsAttestation=["where_possible"])
    view = await temporary(kit, olga, ExtendTemporaryCard.name, card)
    found = await ordered(kit, view.id)
    assert found.parameters.get("attest", "no") == "no"


async def test_options_that_a_description_can_not_keep_are_named(tmp_path: Path, database_url: str) -> None:
    path = tmp_path / "issue.dsc"
    text = (EXAMPLES / "token-issue.dsc").read_text().replace("#import", "ENCRYPTION_SOURCE")
    text = text.replace("[Fields]\n", "[Fields]\nENCRYPTION_SOURCE=\n").replace("#9D", "#9C")
    path.write_text(text)  # a key of the archive where keys sign, which a variable tells alone
    files = described(tmp_path, issue=str(path))
    async with running_portal(tmp_path, database=database_url, card_descriptions=files) as kit:
        people, ada = await staff(kit), await kit.person()
        kinds = ["authentication", "encryption"]
        await issued_cards.options(kit, people.root, CardsCertificates=kinds)
        card = await approved(kit, people, ada)
        with pytest.raises(InlayError, match="Its card description Vendor token") as refused:
            await step(kit, people.olga, IssueCard.name, card, {"Serial": [SERIAL]})
    assert "KeySource=import does not go with PKCS11Library for 9C" in refused.value.why


OVERRULED = {
    "Certificates": ["authentication", "encryption"],
    "RecoverEncryption": ["no"],
    "Attestation": ["where_possible"],
}


def with_signature_always(folder: Path, part: str) -> dict[str, CardDescriptionFiles]:
    """Beside that, its key for encryption comes from the archive, and nobody attests it."""
    path = folder / "changed.dsc"
    path.write_text((EXAMPLES / f"token-{part}.dsc").read_text().replace("OnlyIf=WITH_SIGNATURE\n", ""))
    return described(folder, SO_PIN, **{part: str(path)})


async def test_the_page_of_issuing_tells_what_the_description_does_and_not_what_the_options_say(
    tmp_path: Path, database_url: str
) -> None:
    files = with_signature_always(tmp_path, "issue")
    async with running_portal(tmp_path, database=database_url, card_descriptions=files) as kit:
        people, ada = await staff(kit), await kit.person()
        chosen = {f"Cards{name}": value for name, value in OVERRULED.items()}
        await issued_cards.options(kit, people.root, **chosen)
        card = await approved(kit, people, ada)
        view = await kit.services.start_process(people.olga, IssueCard.name, ObjectRef("card", card))
    facts = dict(view.facts)
    assert facts["Certificates"] == "authentication, signature, encryption"
    assert facts["Encryption key"].startswith("kept in the portal's archive, so that")
    assert facts["Attestation"] == "not asked for"


async def test_the_page_of_extending_does_so_too(tmp_path: Path, database_url: str) -> None:
    files = with_signature_always(tmp_path, "encode")
    async with running_portal(tmp_path, database=database_url, card_descriptions=files) as kit:
        ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
        chosen = {f"TempCards{name}": value for name, value in OVERRULED.items()}
        ref = ObjectRef("temporary_card", await assigned(kit, olga, ada, SERIAL, **chosen))
        view = await kit.services.start_process(olga, ExtendTemporaryCard.name, ref)
    facts = dict(view.facts)
    assert facts["New certificates"] == "authentication, signature, encryption"
    assert facts["Encryption key"].startswith("kept in the portal's archive, so that")


async def ordered(kit: Kit, process: str) -> Order:
    async with kit.database.read() as tx:
        return (await tx.scalars(select(Order).where(Order.process_id == process))).one()


@pytest.mark.parametrize(
    ("process", "form", "locked"),
    [(ChangeCardPuk, {"PUK": ["portal"]}, False), (BlockCardInReader, {}, True)],
)
async def test_puk_and_block_are_ordered_by_the_tokens_name(
    kit: Kit, people: Staff, ada: Session, process: Any, form: dict[str, list[str]], locked: bool
) -> None:
    card = await active(kit, people, ada)
    if locked:
        await step(kit, people.olga, LockCard.name, card, {"Reason": ["was lost"]})
    view = await step(kit, people.olga, process.name, card, form)
    found = await ordered(kit, view.id)
    assert (found.parameters["driver"], found.parameters["guid"]) == ("pkcs11", token_guid(SERIAL))


async def test_a_locked_card_that_is_another_one_by_now_is_not_blocked(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first, _ = await issued(kit, people, ada)
    await step(kit, people.olga, LockCard.name, first, {"Reason": ["was lost"]})
    await issued(kit, people, ada)
    with pytest.raises(InlayError) as refused:
        await step(kit, people.olga, BlockCardInReader.name, first)
    assert (refused.value.code, refused.value.fields) == ("card_serial_elsewhere", {"label": "Badge"})


# --- what is ordered


async def test_an_order_to_issue_names_the_token_and_brings_its_puk(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await approved(kit, people, ada)
    work = await begun(kit, people.olga, card, serial=SERIAL)
    asked = work.ordered
    assert (asked.driver, asked.guid) == ("pkcs11", token_guid(SERIAL))
    assert asked.label == "Badge for ada@example.org"
    assert (asked.identity, asked.management, asked.new_puk, asked.attest) == (None, None, True, "no")
    assert (asked.clear, asked.clear_retired) == ([], False)  # it is erased
    assert asked.steps == [CardStep.INITIALISE, CardStep.SET_PIN, CardStep.SET_LABEL]
    assert (asked.pin.kind, len(work.pin)) == ("given", 6)
    proceed = work.proceed
    assert proceed.puk is not None
    assert bytes(work.agent.ephemeral.decrypt(proceed.puk)) == SO_PIN
    assert proceed.new_puk is not None
    own = bytes(work.agent.ephemeral.decrypt(proceed.new_puk))
    assert (len(own), own.isdigit(), proceed.puk_unsure, proceed.management_keys) == (8, True, False, [])


async def test_a_token_that_comes_back_as_another_card_keeps_the_puk_that_it_was_given(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first, _ = await issued(kit, people, ada)
    async with kit.database.write() as tx:
        row = await tx.get_one(Card, first)
        row.sealed_puk = kit.portal.keys.seal(b"13572468", tasks.puk_label(first))
    await step(kit, people.olga, LockCard.name, first, {"Reason": ["was lost"]})
    second = await approved(kit, people, ada)
    work = await begun(kit, people.olga, second, serial=SERIAL)
    assert work.proceed.puk is not None
    assert bytes(work.agent.ephemeral.decrypt(work.proceed.puk)) == b"13572468"


async def test_a_token_that_was_torn_while_it_took_its_puk_and_comes_back_as_another_card_may_have_it(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first = await approved(kit, people, ada)
    work = await begun(kit, people.olga, first, serial=SERIAL)
    assert work.proceed.new_puk is not None
    own = bytes(work.agent.ephemeral.decrypt(work.proceed.new_puk))
    await work.agent.say(Changing())
    await work.agent.say(Undone(error=ErrorData(error="pkcs11_module_hung")))
    assert work.agent.order is not None
    await kit.portal.incoming.carry_out_now(work.agent.order.jti)
    assert (await card_row(kit, first)).state == "Failed"
    await step(kit, people.olga, AbortCard.name, first, {"Reason": ["not needed"]})
    second = await begun(kit, people.olga, await approved(kit, people, ada), serial=SERIAL)
    proceed = second.proceed
    assert (proceed.puk is not None, proceed.new_puk is not None, proceed.puk_unsure) == (True, True, True)
    assert bytes(second.agent.ephemeral.decrypt(proceed.puk or "")) == SO_PIN
    assert bytes(second.agent.ephemeral.decrypt(proceed.new_puk or "")) == own


async def test_its_own_puk_is_in_escrow_or_its_kinds_where_it_took_none(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work = await issued(kit, people, ada)
    assert work.proceed.new_puk is not None
    own = bytes(work.agent.ephemeral.decrypt(work.proceed.new_puk))
    row = await card_row(kit, card)
    assert row.sealed_puk is not None
    assert bytes(kit.portal.keys.unseal(row.sealed_puk, tasks.puk_label(card))) == own
    ben = await kit.person("ben@example.org")
    card, _ = await issued(kit, people, ben, takes_puk=False, serial="17")
    assert (await card_row(kit, card)).sealed_puk is None


async def test_a_card_is_issued_and_activated_by_its_own_signature(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await active(kit, people, ada)
    row = await card_row(kit, card)
    assert (row.state, row.driver, row.described_by) == ("Active", "pkcs11", NAME)
    assert (row.sealed_puk is not None, row.attested) == (True, False)
    assert await certificate_states(kit) == [("Valid", "good")]


async def test_another_card_of_the_same_portal_stays_a_piv_card(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await approved(kit, people, ada, BUILT_IN)
    await issued_cards.complete(await begun(kit, people.olga, card))
    row = await card_row(kit, card)
    assert (row.state, row.driver, row.described_by) == ("Issued", "piv", None)
