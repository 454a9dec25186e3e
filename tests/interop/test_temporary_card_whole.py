"""*Extend temporary card* with a real portal, a real agent and a card behind real pcscd and vpcd, from page to card.

The card is our own engine's, with a factory management key: what was put on it is read and used by OpenSC, yubikit and
ssh, none of which know who encoded it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from yubikit.piv import OBJECT_ID, SLOT, PivSession

from agent.pcsc import scard
from portal.ca.authority import Reason
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import CaState, Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.context import FactorySecrets
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.store.tables import Card, Certificate
from portal.views import ObjectRef
from tests.interop.card.clients import MODULE
from tests.support import foreign_connections
from tests.support.attack_stage import outcome
from tests.support.processes import wait_until
from tests.support.virtual_cards import FACTORY_KEY, InReader, factory_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.vsc.card import VirtualCard
    from portal.views import ProcessView, Session
    from tests.support.attack_stage import Stage
    from tests.support.fake_windows import Answer
    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop

DAY: Final = 86_400
NEW, LATER = b"246810", b"975310"
REASONS: Final = {"9A": "authentication", "9C": "signature", "9D": "encryption"}


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
def inserted(card: VirtualCard, pcscd: PrivatePcscd, stage: Stage) -> Iterator[InReader]:
    with InReader(card, pcscd.vpcd_ports[0]) as running:
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        yield running


async def step(
    stage: Stage, session: Session, process: str, card: str, form: dict[str, list[str]]
) -> ProcessView:
    services = stage.kit.services
    view = await services.start_process(session, process, ObjectRef("temporary_card", card))
    return await services.next(session, view.id, view.version, form)


async def assigned(stage: Stage, olga: Session, ada: Session, serial: str) -> str:
    """A temporary card that a person has, entered, issued and assigned by an operator; it is encoded when extended."""
    kit = stage.kit
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await kit.save_options(
        root,
        TEMPORARY_CARDS,
        TempCardsEncode=["true"],
        TempCardsKeyAlgorithm=["P-256"],
        TempCardsCertificates=list(REASONS.values()),
    )
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    await kit.services.next(olga, view.id, view.version, {"Label": ["Visitor 7"], "Serial": [serial]})
    async with kit.database.read() as tx:
        found = (await tx.scalars(select(Card.id).where(Card.label == "Visitor 7"))).one()
    await step(stage, olga, IssueTemporaryCard.name, found, {})
    await step(stage, olga, AssignTemporaryCard.name, found, {"Person": [ada.user.email]})
    return found


async def extended(stage: Stage, olga: Session, card: str, answers: Sequence[Answer], *, number: bool) -> str:
    """Extend from the page, by link; how it ended."""
    view = await step(stage, olga, ExtendTemporaryCard.name, card, {})
    return await carried_out(stage, olga, view, answers, number=number)


async def carried_out(
    stage: Stage,
    session: Session,
    view: ProcessView,
    answers: Sequence[Answer],
    *,
    number: bool,
) -> str:
    """Open the link of a process's order, and answer what the window asks; how it ended."""
    services, olga = stage.kit.services, session
    code = await services.new_code(olga, view.id)
    stage.victim.windows.answers = answers
    windows = len(stage.victim.windows.opened)
    ending = stage.open_link(stage.victim, code.link)
    if number:
        await asyncio.to_thread(wait_until, lambda: len(stage.victim.windows.opened) > windows, "the window")
        window = stage.victim.windows.opened[windows]
        await window.until("number")
        assert window.number is not None
        await stage.kit.bind(olga, view.id, window.number)
    ended = await outcome(ending)
    view = await services.process(olga, view.id)
    if ended == "finished":
        await services.next(olga, view.id, view.version)
    return ended


async def good(stage: Stage) -> dict[str, Certificate]:
    """Slot to the certificate that is valid in portal and CA: one for each."""
    await stage.kit.portal.revocations.run_due()
    async with stage.kit.database.read() as tx:
        rows = list(await tx.scalars(select(Certificate)))
    found = {row.slot: row for row in rows if row.state == "Valid"}
    for row in rows:
        status = await stage.kit.portal.ca.status(row.serial)
        assert (status is CaState.GOOD) == (row is found.get(row.slot))
    return found


def run(pcscd: PrivatePcscd, home: Path, *argv: str, stdin: str = "") -> str:
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = pcscd.run(argv, env=env, stdin=stdin)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def used_by_others(pcscd: PrivatePcscd, home: Path, certificates: dict[str, Certificate], pin: str) -> None:
    """OpenSC signs, decrypts and reads; ssh reads the key; yubikit finds certificates and GUID."""
    leaf = x509.load_der_x509_certificate(certificates["9A"].der)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    data, signature = home / "data", home / "signature"
    data.write_bytes(hashes_of(b"a message"))
    run(
        pcscd, home, "pkcs11-tool", "--module", MODULE, "--login", "--pin", pin, "--sign", "--id", "01",
        "--mechanism", "ECDSA", "--signature-format", "openssl",
        "--input-file", str(data), "--output-file", str(signature),
    )  # fmt: skip
    key.verify(signature.read_bytes(), b"a message", ec.ECDSA(hashes.SHA256()))
    for number, slot in (("01", "9A"), ("02", "9C"), ("03", "9D")):
        pem = x509.load_der_x509_certificate(certificates[slot].der).public_bytes(Encoding.PEM).decode()
        assert pem.strip() in run(pcscd, home, "pkcs15-tool", "--read-certificate", number)
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert line in run(pcscd, home, "ssh-keygen", "-D", MODULE)


def hashes_of(message: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    return digest.finalize()


def seen_by_yubikit(reader_name: str, guid: str, certificates: dict[str, Certificate], pin: str) -> None:
    with foreign_connections.yubikit(reader_name) as wrapped:
        session = PivSession(wrapped)
        assert bytes.fromhex(guid) in session.get_object(OBJECT_ID.CHUID)
        for slot, row in certificates.items():
            found = session.get_certificate(SLOT(int(slot, 16)))
            assert found.public_bytes(Encoding.DER) == row.der
        session.verify_pin(pin)


async def test_a_card_from_its_maker_is_encoded_then_extended_and_used_by_everybody(
    stage: Stage, card: VirtualCard, inserted: InReader, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    kit = stage.kit
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    serial = card.details().serial
    found = await assigned(stage, olga, ada, serial)
    factory_guid = card.guid.hex()

    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    async with kit.database.read() as tx:
        row = await tx.get_one(Card, found)
    assert (row.state, card.guid.hex()) == ("Assigned", row.guid)
    assert row.guid != factory_guid
    first = await good(stage)
    assert {slot: item.profile for slot, item in first.items()} == REASONS
    assert {item.owner_id for item in first.values()} == {row.owner_id}
    home = tmp_path / "others"
    home.mkdir()
    await asyncio.to_thread(used_by_others, pcscd, home, first, NEW.decode())
    await asyncio.to_thread(seen_by_yubikit, pcscd.readers[0], row.guid, first, NEW.decode())

    kit.clock.now += DAY
    slip: list[tuple[bytes | None, bytes | None]] = [(None, None), (b"000000", None), (NEW, None)]
    assert await extended(stage, olga, found, slip, number=False) == "finished"
    second = await good(stage)
    for slot, item in second.items():
        assert item.key_hash == first[slot].key_hash
        assert item.id != first[slot].id
    async with kit.database.read() as tx:
        old = list(await tx.scalars(select(Certificate).where(Certificate.state == "Revoked")))
    assert {item.revocation_reason for item in old} == {Reason.SUPERSEDED.value}
    assert {item.id for item in old} == {item.id for item in first.values()}
    assert card.details().pin_tries == 3
    await asyncio.to_thread(used_by_others, pcscd, home, second, NEW.decode())
    await asyncio.to_thread(seen_by_yubikit, pcscd.readers[0], row.guid, second, NEW.decode())

    ada = await kit.login()  # the day before's log-in is over
    view = await step(stage, ada, UnblockChangePin.name, found, {"Action": ["unblock"], "PUK": ["portal"]})
    assert await carried_out(stage, ada, view, [(None, None), (None, LATER)], number=True) == "finished"
    await asyncio.to_thread(used_by_others, pcscd, home, second, LATER.decode())
    view = await step(stage, ada, UnblockChangePin.name, found, {"Action": ["change"], "PUK": ["portal"]})
    assert await carried_out(stage, ada, view, [(None, None), (LATER, NEW)], number=False) == "finished"
    await asyncio.to_thread(used_by_others, pcscd, home, second, NEW.decode())


async def test_a_card_that_is_blocked_is_erased_encoded_and_used_by_everybody(
    stage: Stage, card: VirtualCard, inserted: InReader, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    """Its PUK was its maker's own; a reset card has the one that all of its kind have."""
    kit = stage.kit
    object.__setattr__(kit.portal.context, "factory", FactorySecrets(FACTORY_KEY, b"12345678"))
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, card.details().serial)
    await asyncio.to_thread(block, pcscd.readers[0])
    assert card.details().pin_tries == 0
    assert await extended(stage, olga, found, [(None, NEW), (None, None)], number=True) == "finished"
    window = stage.victim.windows.opened[-1]
    assert window.asked[1].title == "Erase the card?"
    async with kit.database.read() as tx:
        row = await tx.get_one(Card, found)
    assert (row.state, row.guid, card.details().pin_tries) == ("Assigned", card.guid.hex(), 3)
    home = tmp_path / "others"
    home.mkdir()
    certificates = await good(stage)
    await asyncio.to_thread(used_by_others, pcscd, home, certificates, NEW.decode())
    await asyncio.to_thread(seen_by_yubikit, pcscd.readers[0], row.guid, certificates, NEW.decode())


def block(reader_name: str) -> None:
    """Another program spends all tries."""
    with foreign_connections.pyscard(reader_name) as connection:
        for apdu in ("00A4040009A00000030800001000", *["002000800839393939FFFFFFFF"] * 3):
            connection.transmit(list(bytes.fromhex(apdu)))
        for _ in range(3):
            connection.transmit(list(bytes.fromhex("002C008010" + "39" * 8 + "39" * 8)))
