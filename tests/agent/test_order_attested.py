"""Orders whose card is to prove that it made its keys: cards that can't, or won't, or are torn out; then all kinds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from agent.handlers import card_attesting
from portal.ca import attestation
from portal.ca.x509 import spki
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    CertificateRequest,
    EncodeCard,
    KeyOrder,
    KeySource,
    PinEntry,
    Purpose,
    Requests,
)
from tests.cards.independent.attestation import root
from tests.cards.independent.in_reader import independent, is_independent, kinds
from tests.cards.profiles import ATTEST, PROFILES, SERIAL, Profile
from tests.cards.simulated import PIN, SimulatedCard, read
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.attesting_maker import Maker, der
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    ENCRYPTION,
    encode,
    encoding_agent,
    kept,
    order,
    personalised,
    put_back,
    undone,
    untouched,
)
from tests.support.simulated_readers import SimulatedReaders

MAKER = Maker()
EACH = kinds(8, lambda kind: kind.chuid or is_independent(kind))
ABLE = next(each for each in PROFILES if ATTEST in each.yubico)


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        running.windows.answers = [(None, None), (PIN, None)]
        yield running


def able(maker: Maker | None = MAKER) -> SimulatedCard:
    card = personalised(ABLE)
    if maker is not None:
        card.attest_by(maker)
    return card


def asked(portal: FakePortal) -> Requests:
    found = portal.orders[CODE].requests
    assert found is not None
    return found


def no_issuer(card: SimulatedCard) -> None:
    del card.objects[0x5FFF01]


def malformed_issuer(card: SimulatedCard) -> None:
    card.objects[0x5FFF01] = b"\x70\x82\xff\xff\x30"


def endless_issuer(card: SimulatedCard) -> None:
    card.objects[0x5FFF01] = b"\x70\x82\x06\x01" + b"\x30" * 0x601


@pytest.mark.parametrize("fault", [no_issuer, malformed_issuer, endless_issuer])
async def test_a_card_that_can_attest_and_has_nothing_to_do_it_with(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, fault: Callable[[SimulatedCard], None]
) -> None:
    card = able()
    fault(card)
    readers.put(card)
    encode(portal, AUTHENTICATION, attest="required")
    assert await order(agent, portal) == "card_attestation_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)
    assert card.keys == {}


@pytest.mark.parametrize("statement", [None, b"", b"\x30" * 1537])
@pytest.mark.parametrize("attest", ["required", "where_possible"])
async def test_a_card_that_says_nothing_or_too_much_of_a_key_that_it_made(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    statement: bytes | None,
    attest: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = able()
    if statement is None:
        card.maker = None
    else:
        monkeypatch.setattr(Maker, "statement", lambda *_, **__: statement)
    readers.put(card)
    encode(portal, AUTHENTICATION, attest=attest)
    if attest == "required":
        assert await order(agent, portal) == "card_attestation_refused"
        assert (await undone(portal)).requests is None
    else:
        assert await order(agent, portal) == "finished"
        assert asked(portal).attestation_issuer is None


def keys(count: int) -> list[KeyOrder]:
    slots = ["9A", "9C", "9D", "9E", *(f"{number:02X}" for number in range(0x82, 0x96))]
    return [
        KeyOrder(slot, Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.GENERATE, "CN=A")
        for slot in slots[:count]
    ]


async def test_more_than_fits_into_one_message_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(able())
    encode(portal, *keys(card_attesting.MOST_REQUIRED + 1), attest="required")
    assert await order(agent, portal) == "encoding_unsupported"
    assert agent.windows.opened == []


class _Stating:
    """A card that states as much as it may."""

    async def run(self, work: Any, *_: object) -> bytes:
        return b"\x30" * 1536


class _Guarding:
    async def guard(self, work: Any) -> Any:
        return await work


@pytest.mark.parametrize(
    ("attest", "count"), [("required", card_attesting.MOST_REQUIRED), ("where_possible", 24)]
)
async def test_the_longest_statements_fit_or_are_left_out_from_the_end(attest: str, count: int) -> None:
    ordered = EncodeCard(
        card="c",
        driver="piv",
        guid="00" * 16,
        label="C",
        valid_until=1,
        pin=PinEntry(kind="verify"),
        keys=keys(count),
        attest=attest,  # type: ignore[arg-type]
    )
    attesting = card_attesting.Attesting(_Guarding(), _Stating(), ordered)  # type: ignore[arg-type]
    await attesting.prepare()
    asking = Requests(
        guid="00" * 16,
        serial="1" * 20,
        requests=[CertificateRequest(slot=key.slot, csr=b"\x30" * 650) for key in keys(24)],
    )
    found = await attesting.attested(asking)
    with_one = [item.slot for item in found.requests if item.attestation is not None]
    assert with_one == [key.slot for key in keys(24)][: len(with_one)]
    assert len(with_one) == count if attest == "required" else len(with_one) >= card_attesting.MOST_REQUIRED
    assert len(codec.encode(found)) * 4 / 3 < codec.MAX_FRAME_BYTES - 1_000


async def test_torn_out_between_the_key_and_its_statement(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = able()
    readers.put(card)
    put_back(readers, card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if apdu[1] == 0xF9 and 0x9A in card.keys and not torn:
            torn.append(number)
            return "after"
        return None

    readers.tear = tear
    encode(portal, AUTHENTICATION, attest="required")
    assert await order(agent, portal) == "finished"
    assert torn
    statement = asked(portal).requests[0].attestation
    assert statement is not None
    public = x509.load_der_x509_certificate(statement).public_key()
    assert public == card.keys[0x9A][1].public_key()


@pytest.mark.parametrize("attest", ["required", "where_possible"])
@pytest.mark.parametrize(
    "profile", kinds(8, lambda each: each.chuid or is_independent(each)), ids=lambda each: each.name
)
async def test_every_kind_of_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, attest: str
) -> None:
    card = personalised(profile)
    able = ATTEST in profile.yubico
    if able and not is_independent(profile):
        card.attest_by(MAKER)
    before = (dict(card.objects), dict(card.keys))
    readers.put(card)
    encode(portal, AUTHENTICATION, SIGNATURE, attest=attest)
    if ATTEST not in profile.yubico and attest == "required":
        assert await order(agent, portal) == "card_attestation_missing"
        assert (await undone(portal)).changing == 0
        assert untouched(readers)
        assert (card.objects, card.keys) == before
        return
    assert await order(agent, portal) == "finished"
    found = asked(portal)
    if not able:
        assert found.attestation_issuer is None
        return
    assert found.attestation_issuer == dict(read(card.objects[0x5FFF01]))[0x70]
    for item in found.requests:
        assert item.attestation is not None
        leaf = x509.load_der_x509_certificate(item.attestation)
        assert leaf.public_key() == card.keys[int(item.slot, 16)][1].public_key()


@pytest.mark.parametrize(
    "profile", independent(0, lambda each: ATTEST in each.yubico), ids=lambda each: each.name
)
async def test_the_portal_believes_a_card_of_another_hand_what_it_states(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    """But for one that is too old to state which card it is: such a card tells the portal no serial number either."""
    readers.put(card := personalised(profile))
    encode(portal, AUTHENTICATION, SIGNATURE, attest="required")
    assert await order(agent, portal) == "finished"
    trusted, issuer = attestation.roots([root()]), asked(portal).attestation_issuer
    assert issuer is not None
    for item in asked(portal).requests:
        assert item.attestation is not None
        public = spki(card.keys[int(item.slot, 16)][1].public_key())
        expected = attestation.Expected(item.slot, public, int.from_bytes(card.serial))
        if SERIAL in profile.yubico:
            said = attestation.verify(item.attestation, issuer, expected, trusted, int(time.time()))
            assert said.rpartition(".")[0] in profile.name
            expected = dataclasses.replace(expected, serial=7)
        with pytest.raises(InlayError) as caught:
            attestation.verify(item.attestation, issuer, expected, trusted, int(time.time()))
        assert caught.value.code == "attestation_other_card"


async def test_keys_that_stay_or_come_from_elsewhere_are_not_stated(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = able()
    readers.put(card)
    encode(portal, SIGNATURE, attest="required")
    assert await order(agent, portal) == "finished"
    agent.windows.answers = [*agent.windows.answers, (None, None), (PIN, None)]
    encode(portal, AUTHENTICATION, kept(SIGNATURE), ENCRYPTION, attest="required")
    assert await order(agent, portal, OTHER_CODE) == "finished"
    found = portal.orders[OTHER_CODE].requests
    assert found is not None
    assert [(item.slot, item.attestation is not None) for item in found.requests] == [
        ("9A", True),
        ("9C", False),
    ]
    assert msgspec.structs.asdict(found)["attestation_issuer"] == der(MAKER.issuer)
