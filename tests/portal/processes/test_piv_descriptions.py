"""PIV cards with an administrator's own descriptions, as the portal orders them: what is refused, and who decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.encoding.piv_rules import Part
from portal.errors import FieldErrors
from portal.model.states import Role
from portal.processes import order_rows
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.check_card import CheckCard
from portal.processes.issue_card import IssueCard
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.set_first_pin import SetFirstPin
from portal.processes.sign_text import TEXT, SignText
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Card, Order
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import EncodeCard, KeyOrder, UnblockPin
from tests.support import batch_orders, issued_cards, token_cards
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    EXTEND,
    ada,
    assigned,
    begun,
    encoded,
    olga,
    options,
    ordered,
    step,
)
from tests.support.issued_cards import staff
from tests.support.piv_descriptions import STAFF, configure, described, example
from tests.support.portal_kit import running_portal
from tests.support.token_cards import approved

if TYPE_CHECKING:
    from portal.views import Session
    from protocol.messages import Operation
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS[:1], indirect=True)
AT_KEYS, AUTO = "!FROM_PROTECTED_AUTHENTICATION_PATH", "!FROM_PROTECTED_AUTHENTICATION_PATH_AUTO"
ENCODING = (Part.ENCODE, Part.EXTEND)
CHANGE = {"Action": ["change"], "PUK": ["portal"]}
UNBLOCK = {"Action": ["unblock"], "PUK": ["portal"]}
UNBLOCK_TYPED = {"Action": ["unblock"], "PUK": ["typed"]}


async def wanted(kit: Kit, who: Session, name: str, card: str, form: dict[str, list[str]]) -> Operation:
    """What a process orders; it is cancelled then."""
    view = await step(kit, who, name, card, form)
    async with kit.database.read() as tx:
        query = select(Order).where(Order.process_id == view.id)
        found = order_rows.parameters((await tx.scalars(query)).one())
    await kit.services.cancel(who, view.id)
    return found


async def administrator(kit: Kit) -> Session:
    return await kit.person("rita@example.org", [Role.ADMINISTRATOR])


def sources(keys: list[KeyOrder]) -> dict[str, tuple[str, str, str]]:
    return {key.slot: (key.purpose.value, key.algorithm.value, key.source.value) for key in keys}


def changed(part: Part, *pairs: tuple[str, str]) -> str:
    """The text of an example with places written otherwise."""
    text = example(part)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


async def unfit(kit: Kit, who: Session, process: str, card: str, kind: str = "temporary_card") -> str:
    """Why a process can't be begun with a card's description."""
    with pytest.raises(InlayError) as refused:
        await kit.services.start_process(who, process, ObjectRef(kind, card))
    assert refused.value.code == "card_description_unfit"
    return str(refused.value.fields["problem"])


# --- what is refused, before anything is ordered


async def test_a_description_whose_applications_are_all_left_out(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    """With no keys the order would be another one: that of a card that is made ready for nobody."""
    text = example(Part.ENCODE)
    begin, end = text.index("[Application_1"), text.index("[Application_3")
    only_signature = text[:begin] + text[end : text.index("[Application_4")]
    configure(kit, tmp_path, only=ENCODING, encode=only_signature)
    await options(kit, await administrator(kit), TempCardsCertificates=["authentication"])
    card = await assigned(kit, olga, ada)
    assert "leave every [Application_X] out" in await unfit(kit, olga, EXTEND, card)


async def test_a_key_that_has_to_stay_and_is_not_there(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    await options(kit, await administrator(kit), TempCardsCertificates=["authentication"])
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    text = changed(
        Part.EXTEND, ("KeySource=SIGNATURE_SOURCE", "KeySource=#keep"), ("OnlyIf=WITH_SIGNATURE\n", "")
    )
    configure(kit, tmp_path, only=ENCODING, extend=text)
    said = await unfit(kit, olga, EXTEND, card)
    line = text.splitlines().index("KeySource=#keep") + 1
    assert said.startswith(f"line {line}: KeySource=keep can't be kept for 9C")


async def test_a_card_whose_kind_is_not_configured_any_more_is_not_encoded(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    configure(kit, tmp_path, name=STAFF, only=ENCODING)
    card = await assigned(kit, olga, ada)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).described_by = STAFF
    object.__setattr__(kit.portal.context, "descriptions", {})
    with pytest.raises(InlayError) as refused:
        await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert (refused.value.code, refused.value.fields) == ("card_description_missing", {"name": STAFF})


async def test_a_card_that_is_unblocked_at_the_keys_is_not_told_the_portals_puk(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    strict = changed(Part.UNBLOCK_PIN, (AUTO, AT_KEYS))
    configure(kit, tmp_path, only=(Part.UNBLOCK_PIN,), unblock_pin=strict)
    with pytest.raises(FieldErrors) as refused:
        await step(kit, ada, UnblockChangePin.name, card, UNBLOCK)
    assert "typed at the keys of a reader alone" in refused.value.errors["PUK"]
    typed = await wanted(kit, ada, UnblockChangePin.name, card, UNBLOCK_TYPED)
    assert isinstance(typed, UnblockPin)
    assert (typed.puk, typed.where) == ("typed", "pad")


async def test_a_first_pin_at_the_keys_needs_a_holder_who_has_the_puk(
    kit: Kit, ada: Session, tmp_path: Path
) -> None:
    people = await staff(kit)
    card, work = await issued_cards.issued(kit, people, ada)
    await kit.services.cancel(people.olga, work.view.id)  # its letters are never printed
    strict = changed(Part.UNBLOCK_PIN, (AUTO, AT_KEYS))
    configure(kit, tmp_path, only=(Part.UNBLOCK_PIN,), unblock_pin=strict)
    said = await unfit(kit, ada, SetFirstPin.name, card, "card")
    assert f"PIN={AT_KEYS} can't be kept" in said
    configure(kit, tmp_path, only=(Part.UNBLOCK_PIN,))
    view = await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    assert dict(view.facts)["PUK"] == "the portal tells it the card"


# --- who decides: the description, then the options


async def test_what_the_description_says_in_so_many_words_is_done_whatever_the_options_say(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    root = await administrator(kit)
    await options(
        kit,
        root,
        TempCardsCertificates=["signature"],
        TempCardsKeyAlgorithm=["P-256"],
        TempCardsRecoverEncryption=["no"],
    )
    configure(kit, tmp_path, only=ENCODING)
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    assert sources(ordered(agent).keys) == {
        "9A": ("authentication", "P-256", "generate"),
        "9E": ("authentication", "P-256", "generate"),
        "9C": ("signature", "P-256", "generate"),  # this one is the option's
        "9D": ("encryption", "RSA-2048", "import"),
    }
    assert bytes(agent.ephemeral.decrypt(proceed.puk or "")) == b"12345678"  # its maker's, of factory_cards
    facts = dict(view.facts)
    assert facts["New certificates"] == "authentication, signature, encryption"
    assert facts["Encryption key"].startswith("kept in the portal's archive, so that")


async def test_what_the_description_leaves_to_a_field_is_the_options(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    root = await administrator(kit)
    configure(kit, tmp_path, only=ENCODING)
    card = await assigned(kit, olga, ada)
    await options(kit, root, TempCardsCertificates=["encryption"], TempCardsKeyAlgorithm=["RSA-2048"])
    first = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(first, EncodeCard)
    assert sorted(sources(first.keys)) == ["9A", "9D", "9E"]
    await options(kit, root, TempCardsCertificates=["encryption", "signature"])
    second = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(second, EncodeCard)
    assert sources(second.keys)["9C"] == ("signature", "RSA-2048", "generate")


async def test_keys_that_stay_keep_their_algorithm_and_what_is_not_there_is_made(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    """The card was made by what ships; its administrator has described how it is extended since."""
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    kit.clock.now += 1
    text = changed(Part.EXTEND, ("KeyAlgorithm=#P-256", "KeyAlgorithm=#RSA-2048"))
    configure(kit, tmp_path, only=ENCODING, extend=text)
    found = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(found, EncodeCard)
    known = sources(found.keys)
    assert known["9A"] == ("authentication", "P-256", "keep")
    assert known["9E"] == ("authentication", "RSA-2048", "generate")
    view = await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert dict(view.facts)["Keys"] == "those it has stay, others are made"
    await kit.services.cancel(olga, view.id)
    await options(kit, await administrator(kit), TempCardsNewKeys=["true"])
    renewed = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(renewed, EncodeCard)
    assert sources(renewed.keys)["9A"] == ("authentication", "RSA-2048", "generate")


@pytest.mark.parametrize("option", ["window", "pad", "auto"])
@pytest.mark.parametrize(
    ("entry", "where"), [(AUTO, "auto"), (AT_KEYS, "pad"), ("!FROM_USER_DIALOG_1_FIELD", "window")]
)
async def test_where_a_pin_is_typed_is_the_descriptions(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path, option: str, entry: str, where: str
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    await options(kit, await administrator(kit), TempCardsPINEntry=[option])
    changing = entry.replace("_1_", "_3_")
    texts = {
        "extend": changed(Part.EXTEND, (AUTO, entry)),
        "verify_pin": changed(Part.VERIFY_PIN, (AUTO, entry)),
        "change_pin": changed(Part.CHANGE_PIN, (AT_KEYS, changing)),
    }
    configure(kit, tmp_path, only=(*ENCODING, Part.VERIFY_PIN, Part.CHANGE_PIN), **texts)
    orders: list[Any] = [
        await wanted(kit, ada, VerifyCardPin.name, card, {}),
        await wanted(kit, ada, CheckCard.name, card, {}),
        await wanted(kit, ada, SignText.name, card, {TEXT.name: ["a text"]}),
        await wanted(kit, ada, UnblockChangePin.name, card, CHANGE),
    ]
    assert [each.where for each in orders] == [where] * 4
    extending = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(extending, EncodeCard)
    assert (extending.pin.kind, extending.pin.where) == ("verify", where)
    # what isn't described is the option's
    typed: Any = await wanted(kit, ada, UnblockChangePin.name, card, UNBLOCK_TYPED)
    assert typed.where == option


async def test_a_pin_that_the_portals_puk_sets_is_typed_in_the_window(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    configure(kit, tmp_path, only=(Part.UNBLOCK_PIN,))
    by_portal: Any = await wanted(kit, ada, UnblockChangePin.name, card, UNBLOCK)
    typed: Any = await wanted(kit, ada, UnblockChangePin.name, card, UNBLOCK_TYPED)
    assert [(each.puk, each.where) for each in (by_portal, typed)] == [
        ("escrow", "window"),
        ("typed", "auto"),
    ]


async def test_without_a_description_everything_is_as_it_was(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    card = await assigned(kit, olga, ada)
    before = await wanted(kit, olga, EXTEND, card, {})
    configure(kit, tmp_path, only=(Part.VERIFY_PIN,))
    after = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(before, EncodeCard)
    assert isinstance(after, EncodeCard)
    assert (before.keys, before.pin, before.steps) == (after.keys, after.pin, after.steps)


# --- kinds of cards


async def test_staff_pick_a_kind_of_piv_card_and_it_is_made_by_its_description(
    tmp_path: Path, database_url: str
) -> None:
    async with running_portal(tmp_path, database=database_url, card_descriptions=described(tmp_path)) as kit:
        people, ada = await staff(kit), await kit.person()
        found = await approved(kit, people, ada, STAFF)
        view = await kit.services.start_process(people.olga, IssueCard.name, ObjectRef("card", found))
        assert (
            dict(view.facts)["Certificates"] == "authentication, encryption"
        )  # the option has the first alone
        await kit.services.cancel(people.olga, view.id)
        work = await issued_cards.begun(kit, people.olga, found)
        assert (work.ordered.driver, work.ordered.pin.kind) == ("piv", "given")
        assert sorted(sources(work.ordered.keys)) == ["9A", "9D", "9E"]
        await issued_cards.complete(work)
        async with kit.database.read() as tx:
            row = await tx.get_one(Card, found)
        assert (row.described_by, row.driver, row.state) == (STAFF, "piv", "Issued")
        plain = await approved(kit, people, ada, BUILT_IN)
        assert len((await issued_cards.begun(kit, people.olga, plain, serial="00 43")).ordered.keys) == 1


async def test_a_batch_is_of_the_kind_of_piv_card_that_staff_pick(tmp_path: Path, database_url: str) -> None:
    """No card that PKCS#11 makes is made ready before it has a holder: that kind isn't offered."""
    kinds = {**described(tmp_path), **token_cards.described(tmp_path)}
    async with running_portal(tmp_path, database=database_url, card_descriptions=kinds) as kit:
        people, ada = await staff(kit), await kit.person()
        view = await kit.services.start_process(people.olga, IssueMultipleTemporaryCards.name)
        form = {"Label": ["Visitor"], "Count": ["2"], "First": ["1"]}
        for wrong in (token_cards.NAME, "", "no such kind"):
            with pytest.raises(FieldErrors) as refused:
                await kit.services.next(people.olga, view.id, view.version, {**form, CHOICE: [wrong]})
            assert set(refused.value.errors) == {CHOICE}
        view = await kit.services.next(people.olga, view.id, view.version, {**form, CHOICE: [STAFF]})
        assert dict(view.facts)["Kind of card"] == STAFF
        async with kit.database.read() as tx:
            rows = list(await tx.scalars(select(Card).where(Card.label.like("Visitor%"))))
        assert [(row.described_by, row.driver) for row in rows] == [(STAFF, "piv")] * 2
        first = await kit.portal.batches.complete(people.olga, view.batch)
        agent, _ = await batch_orders.begun(kit, people.olga, first)
        await batch_orders.written(agent, "7001")
        card = next(row.id for row in rows if row.label == "Visitor 1")
        await step(kit, people.olga, AssignTemporaryCard.name, card, {"Person": [ada.user.email]})
        await options(
            kit, await administrator(kit), TempCardsEncode=["true"], TempCardsCertificates=["authentication"]
        )
        found = await wanted(kit, people.olga, EXTEND, card, {})
        assert isinstance(found, EncodeCard)
        assert sorted(sources(found.keys)) == ["9A", "9D", "9E"]  # its description's, not the option's


async def test_where_there_is_one_kind_of_piv_card_nobody_is_asked(tmp_path: Path, database_url: str) -> None:
    kinds = {**described(tmp_path, name=BUILT_IN), **token_cards.described(tmp_path)}
    async with running_portal(tmp_path, database=database_url, card_descriptions=kinds) as kit:
        people = await staff(kit)
        view = await kit.services.start_process(people.olga, IssueMultipleTemporaryCards.name)
        assert [field.name for field in view.form] == ["Label", "Count", "First"]


async def test_the_serial_number_of_a_kind_of_piv_card_is_one_of_piv_cards(
    tmp_path: Path, database_url: str
) -> None:
    async with running_portal(tmp_path, database=database_url, card_descriptions=described(tmp_path)) as kit:
        people = await staff(kit)
        view = await kit.services.start_process(people.olga, RequestTemporaryCard.name)
        form = {"Label": ["Visitor"], "Serial": ["vendor 1"], CHOICE: [STAFF]}
        with pytest.raises(FieldErrors, match="digits and the letters A to F"):
            await kit.services.next(people.olga, view.id, view.version, form)
        await kit.services.next(people.olga, view.id, view.version, {**form, "Serial": ["00 4A"]})
        async with kit.database.read() as tx:
            found = (await tx.scalars(select(Card).where(Card.label == "Visitor"))).one()
        assert (found.serial, found.driver, found.described_by) == ("004a", "piv", STAFF)
