"""PIV cards that an administrator has described, of several profiles, from the real portal's page to the card."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.encoding.piv_rules import Part
from portal.model import archive_options
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Certificate, Order
from tests.cards.independent.in_reader import INDEPENDENT, InReader, card_of
from tests.cards.profiles import IMPORT, PROFILES, Profile
from tests.cards.simulated import SimulatedCard
from tests.cards.test_cards_from_the_portal import LATER, NEW, Desk
from tests.support.agent_parts import without_keystore
from tests.support.attack_stage import running_stage
from tests.support.piv_descriptions import configure, example
from tests.support.simulated_readers import SimulatedReaders

if TYPE_CHECKING:
    from tests.support.certificates import ThrowAwayCA

EXTEND = ExtendTemporaryCard.name
OWN = (0x9A, 0x9D, 0x9E)
TAKES_KEYS = [each for each in PROFILES if IMPORT in each.yubico and each.takes_keys]
TAKES_NONE = [each for each in PROFILES if IMPORT not in each.yubico]
_FEW = frozenset(
    {
        "standard card, nothing beyond SP 800-73",
        "six tries, no CHUID, no CCC, no discovery object",
        "nothing longer over anything shorter",
        "AES-128, sets its key, extended lengths alone",
    }
)


@pytest.fixture
async def desk(tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """An operator's desk, where the options choose a certificate for authentication alone."""
    without_keystore(monkeypatch)
    readers = SimulatedReaders()
    async with running_stage(tmp_path, https_ca, readers) as stage:
        root = await stage.kit.person("root@example.org", [Role.ADMINISTRATOR])
        await stage.kit.save_options(
            root,
            TEMPORARY_CARDS,
            TempCardsEncode=["true"],
            TempCardsKeyAlgorithm=["P-256"],
            TempCardsCertificates=["authentication"],
        )
        ada = await stage.kit.person()
        await stage.kit.person("bob@example.org")
        yield Desk(stage, readers, await stage.kit.person("olga@example.org", [Role.OPERATOR]), ada)


def made_on_the_card(part: Part) -> str:
    """The example of a part, whose encryption key any card can make."""
    text = example(part).replace("KeySource=#import", "KeySource=#generate").replace("#RSA-2048", "#P-256")
    return text.replace("KeySource=ENCRYPTION_SOURCE", "KeySource=#generate")


async def valid(desk: Desk) -> dict[str, Certificate]:
    async with desk.stage.kit.database.read() as tx:
        rows = await tx.scalars(select(Certificate).where(Certificate.state == "Valid"))
        return {row.slot: row for row in rows}


@pytest.mark.parametrize("profile", TAKES_NONE[:2], ids=lambda profile: profile.name)
async def test_a_card_that_takes_no_key_is_refused_where_the_description_brings_one(
    desk: Desk, tmp_path: Path, profile: Profile
) -> None:
    """The option would have the card make it; the description says in so many words that it comes."""
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE,))
    desk.readers.put(card := SimulatedCard(profile))
    before = (dict(card.objects), dict(card.keys), card.pin)
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "card_import_missing"
    assert (card.objects, card.keys, card.pin) == before
    assert (await desk.row(found)).state == "Assigned"


@pytest.mark.parametrize("profile", TAKES_KEYS[:2], ids=lambda profile: profile.name)
async def test_a_card_that_takes_keys_gets_the_archives(desk: Desk, tmp_path: Path, profile: Profile) -> None:
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE,))
    desk.readers.put(SimulatedCard(profile))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    said = desk.window.asked[0].consequences
    assert said[0] == "The card gets new keys and certificates for authentication; the old keys go."
    certificates = await valid(desk)
    assert {slot: (row.profile, row.algorithm, row.key_source) for slot, row in certificates.items()} == {
        "9A": ("authentication", "P-256", "generate"),
        "9E": ("authentication", "P-256", "generate"),
        "9D": ("encryption", "RSA-2048", "import"),
    }
    assert certificates["9D"].archived_key_id is not None


@pytest.mark.parametrize(
    "profile", [each for each in PROFILES if each.name in _FEW], ids=lambda profile: profile.name
)
async def test_encoded_extended_and_given_to_the_next_one_by_the_description(
    desk: Desk, tmp_path: Path, profile: Profile
) -> None:
    texts = {part.value: made_on_the_card(part) for part in (Part.ENCODE, Part.EXTEND)}
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE, Part.EXTEND), **texts)
    desk.readers.put(card := SimulatedCard(profile))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    assert card.pin == NEW.ljust(8, b"\xff")
    first = await valid(desk)
    assert {slot: row.profile for slot, row in first.items()} == {
        "9A": "authentication",
        "9E": "authentication",
        "9D": "encryption",
    }
    assert set(OWN) <= card.keys.keys()
    # AUTO in a reader without keys: the window asks
    assert await desk.ordered(EXTEND, found, [(None, None), (NEW, None)]) == "finished"
    second = await valid(desk)
    assert [second[slot].key_hash == first[slot].key_hash for slot in ("9A", "9E", "9D")] == [
        True,
        True,
        False,
    ]
    assert {row.id for row in second.values()}.isdisjoint(row.id for row in first.values())
    await desk.step(WithdrawTemporaryCard.name, found, {"Reason": ["came back"]})
    await desk.step(AssignTemporaryCard.name, found, {"Person": ["bob@example.org"]})
    assert await desk.ordered(EXTEND, found, [(None, LATER)]) == "finished"
    assert card.pin == LATER.ljust(8, b"\xff")
    third = await valid(desk)
    assert {row.key_hash for row in third.values()}.isdisjoint(row.key_hash for row in second.values())


TOUCHED = "KeyReference=#9A\nKeyPINPolicy=#always\nKeyTouchPolicy=#cached\n"


def with_policies(part: Part) -> str:
    return made_on_the_card(part).replace("KeyReference=#9A\n", TOUCHED, 1)


@pytest.mark.parametrize(
    "profile",
    [
        PROFILES[0],
        *(each for each in INDEPENDENT if each.name.startswith(("CanoKey", "Nitrokey", "PivApplet"))),
    ],
    ids=lambda profile: profile.name,
)
async def test_a_card_that_does_not_show_that_it_can_have_such_a_key_is_as_it_was(
    desk: Desk, tmp_path: Path, profile: Profile
) -> None:
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE,), encode=with_policies(Part.ENCODE))
    desk.readers.put(card := card_of(profile))
    before = (dict(card.objects), dict(card.keys), card.pin)
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "card_policy_missing"
    assert (dict(card.objects), dict(card.keys), card.pin) == before
    assert (await desk.row(found)).state == "Assigned"


@pytest.mark.parametrize(
    "profile",
    [each for each in INDEPENDENT if each.name.startswith("YubiKey")],
    ids=lambda profile: profile.name,
)
async def test_a_card_that_can_has_them_and_a_key_that_stays_needs_them(
    desk: Desk, tmp_path: Path, profile: Profile
) -> None:
    texts = {part.value: made_on_the_card(part) for part in (Part.ENCODE, Part.EXTEND)}
    configure(
        desk.stage.kit,
        tmp_path,
        only=(Part.ENCODE, Part.EXTEND),
        **{**texts, "encode": with_policies(Part.ENCODE)},
    )
    desk.readers.put(card := card_of(profile))
    assert isinstance(card, InReader)
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    policies = {
        slot: (card.inner.slots[slot].pin_policy, card.inner.slots[slot].touch_policy) for slot in OWN
    }
    assert policies == {0x9A: (3, 3), 0x9D: (2, 1), 0x9E: (1, 1)}
    texts["extend"] = with_policies(Part.EXTEND)
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE, Part.EXTEND), **texts)
    assert await desk.ordered(EXTEND, found, [(None, None), (NEW, None)]) == "finished"
    texts["extend"] = texts["extend"].replace("#cached", "#always")
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE, Part.EXTEND), **texts)
    before = dict(card.objects)
    assert await desk.ordered(EXTEND, found, [(None, None), (NEW, None)]) == "card_policy_other"
    assert card.objects == before
    assert (await desk.row(found)).state == "Assigned"


async def test_objects_of_a_description_are_on_the_card_and_gone_for_the_next_one(
    desk: Desk, tmp_path: Path
) -> None:
    objects = "[Application_8]\nObjectReference=#5FC109\nObjectContent=#0103416461FE00\n"
    picture = bytes(
        number * 31 % 251 for number in range(11_900)
    )  # with the others almost all that an order takes
    objects += f"[Application_8_Face]\nObjectReference=#5FC108\nObjectContent=#{picture.hex()}\n"
    objects += "[Application_9]\nObjectReference=#5F0001\nObjectText=HOLDER\n"
    text = made_on_the_card(Part.ENCODE)
    with_objects = text.replace("[Fields]\n", "[Fields]\nHOLDER=\n") + objects
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE,), encode=with_objects)
    desk.readers.put(card := SimulatedCard(PROFILES[0]))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    assert card.objects[0x5FC109] == bytes.fromhex("0103416461fe00")
    assert card.objects[0x5FC108] == picture
    assert card.objects[0x5F0001] == b"ada@example.org"
    configure(desk.stage.kit, tmp_path, only=(Part.ENCODE,), encode=text)
    await desk.step(WithdrawTemporaryCard.name, found, {"Reason": ["came back"]})
    await desk.step(AssignTemporaryCard.name, found, {"Person": ["bob@example.org"]})
    assert await desk.ordered(EXTEND, found, [(None, LATER)]) == "finished"
    assert not card.objects.keys() & {0x5FC109, 0x5FC108, 0x5F0001}
    await desk.step(WithdrawTemporaryCard.name, found, {"Reason": ["came back"]})
    await desk.step(AssignTemporaryCard.name, found, {"Person": ["ada@example.org"]})
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    async with desk.stage.kit.database.read() as tx:
        orders = await tx.scalars(select(Order.parameters).where(Order.changing_at.is_not(None)))
    named = [[item["tag"] for item in order.get("objects", ())] for order in orders]
    tags = ["5F0001", "5FC108", "5FC109"]
    assert sorted(map(sorted, named)) == [[], tags, tags]  # what is gone goes but once


@pytest.mark.parametrize("place", ["82", "85", None])
async def test_earlier_keys_go_where_the_description_says_or_nowhere(
    desk: Desk, tmp_path: Path, place: str | None
) -> None:
    """The card gets new keys; the encryption key that it had comes back beside the new one."""
    kit = desk.stage.kit
    root = await kit.person("rita@example.org", [Role.ADMINISTRATOR])
    await kit.save_options(root, archive_options.NAME, RecoverInReaderTwoPersons=[])
    text = example(Part.EXTEND)
    text = text[: text.index("# earlier")] if place is None else text.replace("=#82", f"=#{place}")
    configure(kit, tmp_path, only=(Part.ENCODE, Part.EXTEND), extend=text)
    desk.readers.put(card := SimulatedCard(TAKES_KEYS[0]))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(EXTEND, found, [(None, NEW)]) == "finished"
    had = (await valid(desk))["9D"]
    await kit.save_options(root, TEMPORARY_CARDS, TempCardsNewKeys=["true"])
    assert await desk.ordered(EXTEND, found, [(None, None), (NEW, None)]) == "finished"
    assert (await valid(desk))["9D"].key_hash != had.key_hash
    assert {slot for slot in card.keys if slot in range(0x82, 0x96)} == ({int(place, 16)} if place else set())
    if place is not None:
        assert had.der in card.objects[0x5FC10D + int(place, 16) - 0x82]
