"""A sample of tears against the portal itself: each certificate that its CA calls good is on a card with its key.

A temporary card is encoded, and extended, from the operator's page to the card: by the real portal with its built-in
CA, by a real agent, with a simulated card. It is disturbed in each of the ways of `tests.faults.tears`; what becomes of
the certificates is what `tests.support.issued_ledger` says of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from cryptography import x509
from sqlalchemy import select

from agent import keys_system
from agent.order_ports import Submission
from agent.ports import UserEnvironment
from portal import option_store
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import CaCertificate, Card, Order
from portal.views import ObjectRef, ProcessView, Session
from protocol.messages import Transport
from tests.cards.simulated import SimulatedCard
from tests.faults.tear_jobs import KILLED, MODES, NEW_PIN, PROFILE, TORN, Answers
from tests.faults.tear_judgement import holds
from tests.faults.tear_processes import AgentForks
from tests.support.agent_parts import running_agent
from tests.support.attack_stage import Stage, outcome, running_stage
from tests.support.card_server import CardServer
from tests.support.certificates import ThrowAwayCA
from tests.support.simulated_readers import SimulatedReaders

_SECONDS: Final = 60.0
_SLOTS: Final = ("9A", "9C", "9D")
_CERTIFICATES: Final = ["authentication", "signature", "encryption"]
_TRIES: Final = (PROFILE.pin_tries, PROFILE.puk_tries)


class At(NamedTuple):
    """A moment: before or after the APDU of this number, of a first encoding or of an extension."""

    first: bool
    apdu: int
    side: str


_MOMENTS: Final = {
    # of some forty APDUs of a first encoding, of some thirty of an extension
    "torn": [At(True, 12, "after"), At(True, 22, "before"), At(False, 16, "after")],
    "cut": [At(True, 14, "before"), At(True, 30, "after"), At(False, 20, "before")],
    "killed": [At(True, 22, "after"), At(False, 9, "before"), At(False, 24, "after")],
}


class Desk:
    """An operator's place: the portal's page, the agent, and cards that are put in one after the other.

    Attributes:
        cards: all of them.
        ended: how each order ended at the portal.
        half_done: whether the last one was undone, and had said that it changes the card.
    """

    def __init__(self, stage: Stage, folder: Path, agents: AgentForks) -> None:
        self._stage, self._agents = stage, agents
        self._home = folder / "desk"
        self._trusted = False
        self.cards: list[SimulatedCard] = []
        self.ended: list[str] = []
        self.half_done = False

    async def open(self) -> None:
        """Have people and options, and an agent that trusts the portal."""
        kit = self._stage.kit
        root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
        async with kit.database.read() as tx:
            saved = await option_store.current(tx, TEMPORARY_CARDS)
        form = option_store.script_of(TEMPORARY_CARDS).as_form(saved.values)
        form |= {
            "TempCardsEncode": ["true"],
            "TempCardsKeyAlgorithm": ["P-256"],
            "TempCardsCertificates": _CERTIFICATES,
        }
        await kit.services.save_options(root, TEMPORARY_CARDS, saved.version, form)
        self._olga: Session = await kit.person("olga@example.org", [Role.OPERATOR])

    async def new_card(self) -> tuple[str, SimulatedCard]:
        """A card from its maker, and the object that stands for it at the portal: assigned to somebody."""
        kit, olga = self._stage.kit, self._olga
        holder = await kit.person(f"visitor-{len(self.cards)}@example.org")
        card = SimulatedCard(PROFILE)
        card.serial = (0x01020304 + len(self.cards)).to_bytes(4, "big")
        self.cards.append(card)
        label, serial = f"Visitor {len(self.cards)}", str(int.from_bytes(card.serial, "big"))
        view = await kit.services.start_process(olga, RequestTemporaryCard.name)
        await kit.services.next(olga, view.id, view.version, {"Label": [label], "Serial": [serial]})
        async with kit.database.read() as tx:
            found = (await tx.scalars(select(Card.id).where(Card.label == label))).one()
        await self._step(IssueTemporaryCard.name, found)
        await self._step(AssignTemporaryCard.name, found, Person=[holder.user.email])
        return found, card

    async def extend(
        self, found: str, card: SimulatedCard, disturb: Callable[[SimulatedReaders], None] | None = None
    ) -> str:
        """Extend a card here; how it ended at the portal."""
        view, code, answers = await self._begun(found)
        readers = SimulatedReaders()
        card.reset()
        readers.put(card)
        if disturb is not None:
            disturb(readers)
        async with running_agent(self._home, readers) as agent:
            if not self._trusted:
                self._trusted = True
                tls = self._stage.proxy.tls.ca_file.read_text()
                root = self._stage.kit.portal.keys.root().public
                agent.trust.add(self._stage.proxy.portal, "Example portal", root, tls)
            agent.windows.answers = answers
            environment = UserEnvironment({"DISPLAY": ":9"})
            portal = self._stage.proxy.portal
            ending = agent.desk.submit(Submission(portal, code, Transport.LINK, environment))
            async with self._bound(view):
                await outcome(ending)
        return await self._end(view)

    async def extend_torn(self, found: str, card: SimulatedCard, at: At) -> str:
        """Extend it, and tear it out and put it back."""

        def disturb(readers: SimulatedReaders) -> None:
            readers.torn = lambda reader: readers.put(card, reader)
            readers.tear = lambda number, _apdu: at.side if number == at.apdu else None

        return await self.extend(found, card, disturb)

    async def extend_cut(self, found: str, card: SimulatedCard, at: At) -> str:
        """Extend it, and cut the channel."""
        loop, proxy = asyncio.get_running_loop(), self._stage.proxy

        def cut(number: int, _apdu: bytes) -> None:
            if number == at.apdu:
                cutting = asyncio.run_coroutine_threadsafe(proxy.cut(), loop)
                if at.side == "before":
                    cutting.result(_SECONDS)

        def disturb(readers: SimulatedReaders) -> None:
            readers.tear = cut

        return await self.extend(found, card, disturb)

    async def extend_killed(self, found: str, card: SimulatedCard, at: At) -> str:
        """Extend it by an agent that is a process of its own, kill that, and have another one see to what is left."""
        view, code, answers = await self._begun(found)
        card.reset()
        readers, agents = SimulatedReaders(), self._agents
        readers.put(card)
        with CardServer(readers) as server:
            async with agents.running(self._home, server.path) as agent:

                def kill(number: int, side: str) -> None:
                    if (number, side) == (at.apdu, at.side):
                        agent.kill()
                        raise ConnectionAbortedError

                readers.tear = lambda number, _apdu: kill(number, "before")
                readers.answered = lambda number: kill(number, "after")
                async with self._bound(view):
                    ended = await agent.order(self._stage.proxy.portal, code, answers)
            assert ended.end == KILLED
            await self._stage.proxy.cut()
            async with agents.running(self._home, server.path) as agent:
                assert await agent.settle()
        return await self._end(view)

    async def _begun(self, found: str) -> tuple[ProcessView, str, Answers]:
        """A process at its code, and what the holder types: a new PIN, or the card's, again where it was away."""
        kit = self._stage.kit
        kit.clock.now = int(time.time())
        view = await self._step(ExtendTemporaryCard.name, found)
        code = await kit.services.new_code(self._olga, view.id)
        first = view.facts["PIN"].startswith("chosen anew")
        typed: Answers = [(None, NEW_PIN)] if first else [(None, None), (NEW_PIN, None), (NEW_PIN, None)]
        return view, code.code, typed

    @contextlib.asynccontextmanager
    async def _bound(self, view: ProcessView) -> AsyncIterator[None]:
        """The operator types the number that the agent's window shows, where the page asks for it."""

        async def type_number() -> None:
            async for event in self._stage.kit.services.events(self._olga, view.id):
                if event.number_wanted:
                    async with self._stage.kit.database.read() as tx:
                        query = select(Order.number).where(Order.process_id == view.id)
                        number = (await tx.scalars(query)).one()
                    assert number is not None
                    await self._stage.kit.services.enter_number(self._olga, view.id, number)
                    return

        typing = asyncio.create_task(type_number())
        try:
            yield
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)

    async def _end(self, view: ProcessView) -> str:
        end = await self._stage.kit.ended(self._olga, view.id)
        self.ended.append(end.state)
        async with self._stage.kit.database.read() as tx:
            order = (await tx.scalars(select(Order).where(Order.process_id == view.id))).one()
        self.half_done = end.state == "undone" and order.changing_at is not None
        if end.state == "finished":
            view = await self._stage.kit.services.process(self._olga, view.id)
            await self._stage.kit.services.next(self._olga, view.id, view.version)
        return end.state

    async def _step(self, process: str, card: str, **form: list[str]) -> ProcessView:
        services = self._stage.kit.services
        view = await services.start_process(self._olga, process, ObjectRef("temporary_card", card))
        return await services.next(self._olga, view.id, view.version, form)

    async def judge(self, encoded: int) -> None:
        """Every certificate that is good at the CA is on a card with its key; so many cards have all of theirs."""
        kit = self._stage.kit
        good = await kit.valid_at_ca()
        async with kit.database.read() as tx:
            rows = list(await tx.scalars(select(CaCertificate).where(~CaCertificate.own)))
        assert [row.serial for row in rows if row.reason == "certificateHold"] == []
        at = [self._place(x509.load_der_x509_certificate(row.der)) for row in rows if row.request_id in good]
        assert len(set(at)) == len(at)
        assert len(at) == encoded * len(_SLOTS)
        for card in self.cards:
            assert (card.pin_left, card.puk_left) == _TRIES

    def _place(self, certificate: x509.Certificate) -> tuple[int, str]:
        """On which card it is, and in which slot, with its key."""
        (found,) = [
            (number, slot)
            for number, card in enumerate(self.cards)
            for slot in _SLOTS
            if holds(card, slot, certificate)
        ]
        _, key = self.cards[found[0]].keys[int(found[1], 16)]
        assert key.public_key() == certificate.public_key()
        return found


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentForks]:
    with AgentForks(tmp_path_factory.mktemp("agents")) as running:
        yield running


@pytest.fixture
async def desk(
    tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch, agents: AgentForks
) -> AsyncIterator[Desk]:
    def missing() -> object:
        raise keys_system.KeystoreMissing

    monkeypatch.setattr(keys_system, "_trusted_backend", missing)
    async with running_stage(tmp_path, https_ca) as stage:
        opened = Desk(stage, tmp_path, agents)
        await opened.open()
        yield opened


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", MODES)
async def test_no_certificate_is_good_without_its_card(desk: Desk, mode: str) -> None:
    ways = {TORN: desk.extend_torn, "cut": desk.extend_cut, "killed": desk.extend_killed}
    encoded, encoded_card = await desk.new_card()
    assert await desk.extend(encoded, encoded_card) == "finished"
    await desk.judge(1)
    cards = 1
    for at in _MOMENTS[mode]:
        found, card = await desk.new_card() if at.first else (encoded, encoded_card)
        before = cards
        cards += at.first
        if await ways[mode](found, card, at) != "finished":
            # half done: what its slots had before is revoked, too; a card from its maker had none
            await desk.judge(before - (desk.half_done and not at.first))
            assert await desk.extend(found, card) == "finished"
        await desk.judge(cards)
    # torn out and cut off it goes on where it was; an agent that was killed undoes what it can't finish
    assert ("undone" in desk.ended) == (mode == "killed")
