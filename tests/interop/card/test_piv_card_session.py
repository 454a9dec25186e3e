"""An order's work on a card over real pcscd: found, authenticated by the portal, certified, proved; and disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent import card_map
from agent.card_search import CardSearch, FoundCard, Sight, Wanted
from agent.card_session import CardSession
from agent.pcsc import piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_authenticate import Proof, Question
from agent.piv_card import PivCard
from agent.reader_watch import ReaderWatch
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from protocol.messages import Algorithm
from tests.support.dummy_card import DummyCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import PIN, InReader, Issuer, empty_card, store_in

pytestmark = pytest.mark.interop

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


@pytest.fixture(autouse=True)
def empty_readers(pcscd: PrivatePcscd) -> None:
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")


@pytest.fixture
def own(tmp_path: Path) -> VirtualCard:
    made = empty_card(store_in(tmp_path))
    personalise.activate(made)
    return made


@pytest.fixture
def inserted(own: VirtualCard, pcscd: PrivatePcscd) -> Iterator[InReader]:
    with InReader(own, pcscd.vpcd_ports[1]) as running:
        wait_until(lambda: scard.list_readers()[1].present, "the card")
        yield running


@pytest.fixture
async def watch(pcscd: PrivatePcscd) -> AsyncIterator[ReaderWatch]:
    running = ReaderWatch()
    yield running
    await running.close()


def session_on(reader: str) -> CardSession:
    return CardSession(lambda: CardConnection(scard.connect(reader), reader))


def search_in(watch: ReaderWatch, folder: Path, wanted: Wanted) -> CardSearch:
    return CardSearch(watch, card_map.load(folder), wanted)


async def test_the_right_card_is_found_among_others_that_come_first(
    pcscd: PrivatePcscd, own: VirtualCard, watch: ReaderWatch, tmp_path: Path
) -> None:
    sights: asyncio.Queue[Sight] = asyncio.Queue()
    search = search_in(watch, tmp_path, Wanted(guid=own.guid.hex(), driver="piv"))
    waiting: asyncio.Task[FoundCard] = asyncio.create_task(search.wait(sights.put_nowait))
    other = empty_card(store_in(tmp_path / "other"))
    personalise.activate(other)
    assert (await asyncio.wait_for(sights.get(), 20)).cards == ()
    with DummyCard(pcscd.vpcd_ports[0]):
        await _told(sights, ["card_not_supported"])
    await _told(sights, [])
    with InReader(other, pcscd.vpcd_ports[0]):
        await _told(sights, ["card_other"])
        with InReader(own, pcscd.vpcd_ports[1]):
            found = await asyncio.wait_for(waiting, 20)
    assert (found.reader, found.problem) == (pcscd.readers[1], None)
    assert own.details().pin_tries == 3
    await search.close()


async def test_an_orders_work_from_the_first_command_to_the_proof(
    pcscd: PrivatePcscd, own: VirtualCard, inserted: InReader
) -> None:
    async def portal(question: Question) -> Proof:
        return Proof(own.answer_management_challenge(question.data))

    async with session_on(pcscd.readers[1]) as session:
        await session.run(piv_select.select)
        card = PivCard(session)
        await card.require(own.guid.hex())
        [algorithm] = await session.run(piv_select.management_algorithms)
        await session.authenticate(algorithm, portal)
        await card.generate("9A", Algorithm.P_256)
        asked = await card.request("9A", "CN=Card", bytearray(PIN), signs=True)
        assert asked.csr is not None
        request = x509.load_der_x509_csr(asked.csr)
        public = request.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        der = Issuer().issue(public, 0x9A)
        await card.write_certificate("9A", der)
        signature = await card.sign("9A", b"proof", bytearray(PIN))
        public.verify(signature, b"proof", ec.ECDSA(hashes.SHA256()))
        facts = await card.facts()
    assert facts.certificates == {"9A": der}
    assert facts.guid == own.guid.hex()
    assert personalise.read_certificate(own, 0x9A) == der


async def test_a_service_that_is_killed_in_the_middle_ends_the_work_and_spends_nothing(
    pcscd: PrivatePcscd, own: VirtualCard, inserted: InReader
) -> None:
    loop = asyncio.get_running_loop()
    session = session_on(pcscd.readers[1])
    await session.open()
    try:
        await session.run(piv_select.select)
        await session.run(piv_pin.verify, bytearray(PIN))
        await loop.run_in_executor(LASTING, pcscd.kill)
        with pytest.raises(InlayError) as caught:
            await session.run(piv_pin.verify, bytearray(PIN))
        assert caught.value.code == "pcsc_no_service"
    finally:
        await session.close()
        await loop.run_in_executor(LASTING, pcscd.start)
    assert own.details().pin_tries == 3


def test_a_connection_of_its_own_leaves_no_context_open(pcscd: PrivatePcscd, inserted: InReader) -> None:
    def sockets() -> int:
        return sum(
            str(path.readlink()).startswith("socket:")
            for path in Path("/proc/self/fd").iterdir()
            if path.is_symlink()
        )

    with scard.connect(pcscd.readers[1]):
        pass
    before = sockets()
    for _ in range(5):
        with scard.connect(pcscd.readers[1]):
            pass
        with pytest.raises(InlayError):
            scard.connect(pcscd.readers[0])
    assert sockets() <= before


async def _told(sights: asyncio.Queue[Sight], codes: list[str]) -> None:
    """Wait until the cards that are seen have these problems."""
    async with asyncio.timeout(20):
        while True:
            seen = await sights.get()
            if [each.problem.code for each in seen.cards if each.problem is not None] == codes:
                return
