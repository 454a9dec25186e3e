"""An operator's place at the real portal, in whose reader cards are disturbed while the portal's orders come to them.

Portal, CA and agent are the real ones, the cards simulated. Where the agent is killed it is a process of its own, and
another one sees to what it has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import select

from agent.order_ports import Submission
from agent.ports import UserEnvironment
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.store.tables import Card, Order
from portal.views import ObjectRef, ProcessView, Session
from protocol.errors import InlayError
from protocol.messages import PageEvent, Transport
from tests.cards.independent.in_reader import card_of
from tests.cards.profiles import Profile
from tests.cards.simulated import SimulatedCard
from tests.faults.portal_disturbance import PortalDisturbance
from tests.faults.tear_jobs import KILLED, PROFILE, Answers, Position
from tests.faults.tear_processes import AgentForks
from tests.support.agent_parts import running_agent
from tests.support.attack_stage import Stage
from tests.support.card_server import CardServer
from tests.support.simulated_readers import SimulatedReaders

CERTIFICATES: Final = ["authentication", "signature", "encryption"]
_OPERATOR: Final = "olga@example.org"
_SECONDS: Final = 120.0
_FIRST_SERIAL: Final = 0x01020304


class Carried(NamedTuple):
    """How an order ended that was carried out here.

    Attributes:
        end: at the portal: ``finished`` or ``undone``.
        changing: the agent has said that it changes the card.
        error: what it was undone for.
        apdus: those that the cards had.
        faults: what is wrong beside that.
    """

    end: str
    changing: bool
    error: str
    apdus: list[bytes]
    faults: list[str]

    @property
    def half_done(self) -> bool:
        """Whether it was undone, and had said that it changes the card."""
        return self.end == "undone" and self.changing


class PortalDesk:
    """The portal's page, the agent, and cards that are put in one after the other.

    Attributes:
        cards: all of them.
        number: of the last one.
        kind: of which they are.
    """

    kind: Profile = PROFILE

    def __init__(self, stage: Stage, folder: Path, agents: AgentForks) -> None:
        """Use a portal; ``folder`` gets the agent's folders."""
        self._stage, self._agents = stage, agents
        self._home = folder / "desk"
        self._trusted = False
        self.number = 0
        self.cards: list[SimulatedCard] = []
        self.olga: Session

    async def open(self) -> None:
        """Have people and options, and an agent that trusts the portal."""
        kit = self._stage.kit
        root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
        await kit.save_options(
            root,
            TEMPORARY_CARDS,
            TempCardsEncode=["true"],
            TempCardsKeyAlgorithm=["P-256"],
            TempCardsCertificates=CERTIFICATES,
        )
        self.olga = await kit.person(_OPERATOR, [Role.OPERATOR])

    async def sit_down(self) -> None:
        """The operator logs in anew: a session gets so many codes."""
        self.olga = await self._stage.kit.login(_OPERATOR)

    def card_from_its_maker(self, profile: Profile | None = None) -> SimulatedCard:
        """A card with a serial number of its own."""
        card = card_of(profile or self.kind)
        self.number += 1
        card.serial = (_FIRST_SERIAL + self.number).to_bytes(4, "big")
        self.cards.append(card)
        return card

    async def step(self, process: str, card: str, **form: list[str]) -> ProcessView:
        """A process about a temporary card, and its first step."""
        services = self._stage.kit.services
        self._stage.kit.clock.now = int(time.time())
        view = await services.start_process(self.olga, process, ObjectRef("temporary_card", card))
        return await services.next(self.olga, view.id, view.version, form)

    async def row(self, card: str) -> Card:
        """What the portal knows of a card."""
        async with self._stage.kit.database.read() as tx:
            return await tx.get_one(Card, card)

    async def carried_out(
        self,
        view: ProcessView,
        card: SimulatedCard,
        answers: Answers,
        at: Position | None = None,
        made: SimulatedCard | None = None,
    ) -> Carried:
        """Have a process's order carried out.

        Args:
            view: the process, at its code.
            card: is put in the reader.
            answers: what the person types.
            at: where the order is disturbed.
            made: was put in before, and is there still when the order begins.
        """
        self._stage.kit.clock.now = int(time.time())
        code = (await self._stage.kit.services.new_code(self.olga, view.id)).code
        readers = SimulatedReaders()
        for each in (card, made):
            if each is not None:
                each.reset()
        disturbance = PortalDisturbance(self._stage.proxy, readers, card, at, made)
        faults: list[str] = []
        killed = at is not None and at.mode == KILLED
        try:
            await (self._killed if killed else self._here)(view, readers, code, answers, disturbance, faults)
        except TimeoutError:
            faults.append("its agent never ended it")
        finally:
            await disturbance.end()
        if at is not None and not disturbance.done:
            faults.append(f"the APDU never came, of {len(readers.trace)}")
        return await self._end(view, readers.trace, faults)

    async def _here(
        self,
        view: ProcessView,
        readers: SimulatedReaders,
        code: str,
        answers: Answers,
        disturbance: PortalDisturbance,
        _faults: list[str],
    ) -> None:
        """By an agent that is part of this process."""
        proxy = self._stage.proxy
        async with running_agent(self._home, readers) as agent:
            if not self._trusted:
                self._trusted = True
                root = self._stage.kit.portal.keys.root().public
                agent.trust.add(proxy.portal, "Example portal", root, proxy.tls.ca_file.read_text())
            disturbance.core = agent
            agent.windows.answers = answers
            environment = UserEnvironment({"DISPLAY": ":9"})
            ending = agent.desk.submit(Submission(proxy.portal, code, Transport.LINK, environment))
            async with self._bound(view), asyncio.timeout(_SECONDS):
                with contextlib.suppress(InlayError):
                    await ending.wait()
            await self._ended(view)  # it has to tell the portal

    async def _killed(
        self,
        view: ProcessView,
        readers: SimulatedReaders,
        code: str,
        answers: Answers,
        disturbance: PortalDisturbance,
        faults: list[str],
    ) -> None:
        """By an agent that is a process of its own and is killed; another one sees to what is left."""
        with CardServer(readers) as server:
            async with self._agents.running(self._home, server.path) as agent:
                disturbance.agent = agent
                async with self._bound(view):
                    ended = await agent.order(self._stage.proxy.portal, code, answers)
            if ended.end != KILLED:
                faults.append(f"for its agent it ended as {ended.end}")
            await self._stage.proxy.cut()
            async with self._agents.running(self._home, server.path) as agent:
                if not await agent.settle():
                    faults.append("what it had begun was never settled")

    @contextlib.asynccontextmanager
    async def _bound(self, view: ProcessView) -> AsyncIterator[None]:
        """The operator types the number that the agent's window shows, where the page asks for it."""

        async def type_number() -> None:
            async for event in self._stage.kit.services.events(self.olga, view.id):
                if event.number_wanted:
                    async with self._stage.kit.database.read() as tx:
                        query = select(Order.number).where(Order.process_id == view.id)
                        number = (await tx.scalars(query)).one()
                    assert number is not None
                    await self._stage.kit.services.enter_number(self.olga, view.id, number)
                    return

        typing = asyncio.create_task(type_number())
        try:
            yield
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)

    async def _end(self, view: ProcessView, apdus: list[bytes], faults: list[str]) -> Carried:
        try:
            end = await self._ended(view)
        except TimeoutError:
            return Carried("none", False, "", apdus, [*faults, "at the portal it never ended"])
        async with self._stage.kit.database.read() as tx:
            order = (await tx.scalars(select(Order).where(Order.process_id == view.id))).one()
        error = "" if end.error is None else end.error.error
        if faults and error:
            faults.append(f"it was undone for {error}")
        return Carried(end.state, order.changing_at is not None, error, apdus, faults)

    async def _ended(self, view: ProcessView) -> PageEvent:
        """How a process's order has ended at the portal, as soon as it has."""
        async with asyncio.timeout(_SECONDS):
            return [event async for event in self._stage.kit.services.events(self.olga, view.id)][-1]

    async def finish(self, view: ProcessView) -> None:
        """*Next* at the details of a process whose order has ended well."""
        services = self._stage.kit.services
        view = await services.process(self.olga, view.id)
        await services.next(self.olga, view.id, view.version)
