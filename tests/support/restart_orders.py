"""The agent and its cards for `bench.restarts`, and the orders that are under way while pcscd goes and comes back.

The person types what they are asked, also while there is no service. Each order waits for the card, and goes on when
it is back; one that ends otherwise is undone, and another one finishes the card.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.device import Device
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol import link
from protocol.messages import Binding, OrderState, StorageLevel, VerifyPin
from tests.support.daemon_process import DaemonProcess, TerminalOrder
from tests.support.fake_order import AUTHENTICATION, SIGNATURE, OrderAtPortal
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import encode
from tests.support.virtual_cards import CHEAP, FACTORY_KEY, PIN, PUK, InReader, factory_card

SLOT: Final = 5
"""Where the card is that orders are about; the agent's own takes the first free one."""
_PIN_ASKED: Final = b"PIN of the card (an empty line cancels): "
ANSWERS: Final = {b"Type yes: ": b"yes", _PIN_ASKED: PIN}


class OrderKind(NamedTuple):
    """An order, and the moment at which pcscd goes.

    Attributes:
        name: which, and when.
        operation: has the portal's next order carry it out.
        moment: waits for the moment; the person answers meanwhile, except where ``asks``.
        away: what happens while there is no service.
        asks: the moment is the question for the PIN, which is typed without a service.
    """

    name: str
    operation: Callable[[RestartStage], None]
    moment: Callable[[OrderUnderWay], Awaitable[object]]
    away: Callable[[OrderUnderWay], Awaitable[None]]
    asks: bool = False


class OrderUnderWay:
    """One order on a terminal.

    Attributes:
        name: of its kind.
        stage: where it is carried out.
        code: of the order.
    """

    def __init__(self, stage: RestartStage, kind: OrderKind, code: str) -> None:
        self.name, self.stage, self.code = kind.name, stage, code
        self._kind = kind
        self._terminal = TerminalOrder(stage.agent, link.build(stage.portal.portal, code))
        self._ending: asyncio.Task[dict[str, Any]] | None = None

    async def until_the_moment(self) -> None:
        """Begin, and go on until pcscd is to go."""
        await self._terminal.begin()
        if self._kind.asks:
            await self._terminal.answer(b"Type yes: ", b"yes")
            await self._terminal.until(_PIN_ASKED)
        else:
            self._answer()
        await self._kind.moment(self)

    async def while_it_is_away(self) -> None:
        """What happens while there is no service."""
        if self._kind.asks:
            self._terminal.type(PIN)
            self._answer()
        await self._kind.away(self)

    async def at_portal(self) -> OrderAtPortal:
        """The order as the portal has it, once it is claimed."""
        return await self.stage.portal.claimed(self.code)

    async def ended(self) -> str:
        """How it ended, at the agent and at the portal alike."""
        assert self._ending is not None
        answer = await self._ending
        self.stage.portal.faults.silent = set()
        over = {OrderState.FINISHED, OrderState.UNDONE}
        at = await (await self.at_portal()).until(lambda item: item.state in over)
        assert ("result" in answer) == (at.state is OrderState.FINISHED), (answer, at.state)
        return "finished" if "result" in answer else f"undone, {answer['error']['error']}"

    def _answer(self) -> None:
        self._ending = asyncio.create_task(self._terminal.answer_all(ANSWERS))


class RestartStage:
    """What a restart happens to.

    Attributes:
        agent: the daemon.
        portal: gives it orders.
        pcscd: goes and comes back.
        card: the card that orders are about.
        readers: of that card, and of the agent's own.
    """

    def __init__(
        self,
        agent: DaemonProcess,
        portal: FakePortal,
        pcscd: PrivatePcscd,
        card: VirtualCard,
        lasting: ThreadPoolExecutor,
    ) -> None:
        self.agent, self.portal, self.pcscd, self.card = agent, portal, pcscd, card
        self.readers = [pcscd.readers[SLOT]]
        self._lasting = lasting
        self._number = 0

    async def in_thread(self, work: Callable[[], object]) -> None:
        """Start or end a program, in the thread that lasts."""
        await asyncio.get_running_loop().run_in_executor(self._lasting, work)

    async def begin(self, kind: OrderKind) -> OrderUnderWay:
        """Begin an order, and go on until its moment."""
        self._number += 1
        kind.operation(self)
        order = OrderUnderWay(self, kind, f"{self._number:022d}")
        await order.until_the_moment()
        return order

    async def carry_out(self, kind: OrderKind) -> str:
        """Carry an order out without any disturbance."""
        order = await self.begin(kind)
        await order.while_it_is_away()
        return await order.ended()

    async def see_that_the_card_is_good(self) -> None:
        """See that an order of each operation is finished undisturbed, and that no try of PIN or PUK is gone."""
        for kind in ORDERS[:2]:
            ended = await self.carry_out(kind)
            assert ended == "finished", (kind.name, ended)
        details = self.card.details()
        assert (details.pin_tries, details.puk_tries) == (3, 3)


def _verify(stage: RestartStage) -> None:
    guid = stage.card.guid.hex()
    stage.portal.operation = VerifyPin(card="card-1", driver="piv", guid=guid, label="Card 7")


def _encode(stage: RestartStage) -> None:
    encode(stage.portal, AUTHENTICATION, SIGNATURE, guid=stage.card.guid.hex())


def _encode_and_wait(stage: RestartStage) -> None:
    _encode(stage)
    stage.portal.faults.silent = {"requests"}


async def _at_once(_order: OrderUnderWay) -> None:
    return


async def _is_changed(order: OrderUnderWay) -> None:
    await (await order.at_portal()).until(lambda at: at.changing > 0)


async def _portal_is_asked(order: OrderUnderWay) -> None:
    await (await order.at_portal()).until(lambda at: at.requests is not None)


async def _portal_answers(order: OrderUnderWay) -> None:
    at = await order.at_portal()
    assert at.requests is not None
    portal = order.stage.portal
    await portal.say(at, portal.ca.answer(at.order, at.requests, at.consented))


ORDERS: Final = (
    OrderKind("verify PIN while it is asked for", _verify, _at_once, _at_once, asks=True),
    OrderKind("encode while the card is changed", _encode, _is_changed, _at_once),
    OrderKind("verify PIN before the card is looked for", _verify, OrderUnderWay.at_portal, _at_once),
    OrderKind("encode while the portal is awaited", _encode_and_wait, _portal_is_asked, _portal_answers),
)


@contextlib.asynccontextmanager
async def restart_stage(
    folder: Path, pcscd: PrivatePcscd, portal: FakePortal, lasting: ThreadPoolExecutor
) -> AsyncIterator[RestartStage]:
    """The agent with its own card in a reader, and another card in another one; it knows the portal's keys."""
    portal.binding, portal.management_keys = Binding.NONE, [FACTORY_KEY]
    agent = DaemonProcess(folder)
    device = Device(agent.state, allow_file=True)
    own_store = CardStore(agent.state / "cards" / "file", device.secret(StorageLevel.FILE))
    own = personalise.create(own_store, label="Own", pin=bytearray(PIN), puk=bytearray(PUK), cost=CHEAP)
    personalise.activate(own)
    device.key()
    card = factory_card(folder)
    stage = RestartStage(agent, portal, pcscd, card, lasting)
    with InReader(card, pcscd.vpcd_ports[SLOT]):
        await stage.in_thread(agent.start)
        try:
            await agent.trust(portal.origin, portal.tls.ca_file)
            await stage.carry_out(ORDERS[0])  # with it the agent learns the portal's keys
            [row] = (await agent.ask("cards", {}))["result"]["cards"]
            stage.readers.append(row["reader"])
            yield stage
        finally:
            await stage.in_thread(agent.stop)
