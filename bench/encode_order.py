"""A new card's whole encoding by Inlay and by other programs, step by step: how many APDUs, and how long.

``python -m bench.encode_order [--rounds N] [--card-ms N]``. One simulated card (it answers at once, or after some
milliseconds; every APDU is counted in it) in one reader of a real pcscd. An order is carried out by the agent's own
core, from its claim at a portal in this process to the portal's word that it is finished. Its APDUs are replayed by
pyscard: that is what card and pcscd take. Then the driver alone, yubikit and the programs do the same job. All do it
in turn, each with a card that is new.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from bench.encode_clients import Calls, Client, Given, Pkcs11Tool, Ykman, YubicoPivTool, Yubikit, run
from bench.encode_driver import Driver
from bench.encode_steps import BY_ALL, SHOWN_TO_BE_THERE, STEPS, count
from bench.one_card import OneCard, Runs, one_card
from protocol.messages import KeySource, ManagementAlgorithm, ManagementKey
from tests.cards.profiles import PROFILES, TDES
from tests.cards.simulated import PUK, factory_key
from tests.support.agent_parts import AgentParts, PcscReadersOfATest
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_order import AUTHENTICATION, ENCRYPTION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import encoding_agent, first_encoding

ROUNDS: Final = 12
_PROCESSES_EVERY: Final = 4
"""Processes take part in every fourth round: most of their time is their start."""
_CARD: Final = dataclasses.replace(
    PROFILES[1],
    name="new; 3DES, which yubico-piv-tool knows alone",
    management=(TDES,),
    chuid=False,
)
_NEW: Final = Given(factory_key(TDES), PUK.decode(), bytes(range(1, 25)), "97531864", "135790")
_MADE: Final = msgspec.structs.replace(ENCRYPTION, source=KeySource.GENERATE)
_INLAY: Final = "Inlay"
_SMALL: Final = 0.05
"""The part of the card's and pcscd's time that Inlay's own may be."""


@dataclasses.dataclass
class Done:
    """What one client did: by step how many APDUs, how long and how many processes."""

    apdus: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: dict[str, Runs] = dataclasses.field(default_factory=dict)
    processes: int = 0

    def count(self, without: frozenset[str] = frozenset()) -> int:
        """APDUs of all steps but these."""
        return sum(number for step, number in self.apdus.items() if step not in without)

    @property
    def all(self) -> Runs:
        """All steps, by round."""
        return Runs(
            [sum(steps) for steps in zip(*(runs.seconds for runs in self.seconds.values()), strict=True)]
        )


class Comparison:
    """All clients with the one card."""

    def __init__(self, place: OneCard, folder: Path, portal: FakePortal, agent: AgentParts) -> None:
        self._place, self._portal, self._agent = place, portal, agent
        self._new, self._number = place.card.twin(), 0
        self.clients: list[Client] = [
            Driver(_NEW),
            Yubikit(_NEW),
            Ykman(_NEW, folder),
            YubicoPivTool(_NEW, folder),
            Pkcs11Tool(_NEW, folder),
        ]
        self.order, self.replay, self.replay_of_driver = Runs(), Runs(), Runs()
        self.inlay = dict[str, int]()
        self.done = {client.name: Done() for client in self.clients}
        self.starts = {client.name: Runs() for client in self.clients if client.starts}

    async def round(self, *, processes: bool) -> None:
        """The job once by every client."""
        sent = await self._ordered()
        encoded = self._place.card.twin()
        self.inlay = count(sent)
        await self._replayed(self.replay, sent)
        for client in self.clients:
            if processes or client.starts is None:
                self._put(encoded if client.encoded else self._new)
                begun = len(self._place.card.commands)
                await asyncio.to_thread(self._go_through, client)
                if client.name == Driver.name:
                    await self._replayed(self.replay_of_driver, self._place.card.commands[begun:])

    async def _replayed(self, runs: Runs, sent: list[bytes]) -> None:
        self._put(self._new)
        await asyncio.to_thread(self._place.measure, runs, lambda: self._place.replay(sent))
        self._see_that_it_is_done("the replay")

    async def _ordered(self) -> list[bytes]:
        """An order's APDUs."""
        self._put(self._new)
        self._number += 1
        portal, agent, card = self._portal, self._agent, self._place.card
        replacing = ManagementKey(replace=[ManagementAlgorithm.TRIPLE_DES])
        first_encoding(portal, AUTHENTICATION, SIGNATURE, _MADE, new_puk=True, management=replacing)
        agent.windows.answers = [(None, _NEW.new_pin.encode())]
        before, begun = len(card.commands), time.perf_counter()
        await agent.submit(portal, f"{self._number:022}").wait()
        self.order.seconds.append(time.perf_counter() - begun)
        sent = card.commands[before:]
        self.order.apdus = len(sent)
        self._see_that_it_is_done(_INLAY)
        return sent

    def _put(self, fresh: object) -> None:
        """Make the card what another one is; its commands stay counted."""
        card, commands = self._place.card, self._place.card.commands
        vars(card).update(vars(fresh.twin()))  # type: ignore[attr-defined]
        card.commands = commands
        card.reset()

    def _go_through(self, client: Client) -> None:
        done, card = self.done[client.name], self._place.card
        done.processes = 0
        for step, work in client.steps(self._place):
            before, begun = len(card.commands), time.perf_counter()
            work()
            done.seconds.setdefault(step, Runs()).seconds.append(time.perf_counter() - begun)
            done.apdus[step] = len(card.commands) - before
            done.processes += len(work.calls) if isinstance(work, Calls) else 0
        self._see_that_it_is_done(client.name)
        if client.starts is not None:
            argv, check = client.starts, client.name != "pkcs11-tool"  # that has none, and ends with its help
            self._place.measure(self.starts[client.name], lambda: run(argv, check=check))

    def _see_that_it_is_done(self, name: str) -> None:
        """A client that didn't do its job would be the fastest."""
        card = self._place.card
        objects = {0x5FC102, 0x5FC107, 0x5FC105, 0x5FC10A, 0x5FC10B}
        done = (
            card.keys.keys() == {0x9A, 0x9C, 0x9D}
            and objects <= card.objects.keys()
            and card.pin.startswith(_NEW.new_pin.encode())
            and card.puk == _NEW.new_puk.encode()
            and card.keys_by_algorithm == {TDES: _NEW.new_key}
        )
        if not done:
            raise RuntimeError(f"{name} did not encode the card")

    def wider(self) -> list[str]:
        """Others that need fewer APDUs for the steps that they have than an order for the same."""
        others = self.done.keys() - {Driver.name}
        return [name for name in others if self.same_steps(name) > self.done[name].count(self.unfair(name))]

    def unfair(self, name: str) -> frozenset[str]:
        """Steps of a client that show that all is there: Inlay always has them, so they are compared apart."""
        return SHOWN_TO_BE_THERE if name != Pkcs11Tool.name else frozenset()

    def same_steps(self, name: str) -> int:
        """An order's APDUs of the steps that a client has, and of those that it needs for each of them."""
        has = self.done[name].apdus.keys() | BY_ALL
        return sum(self.inlay[step] for step in has - self.unfair(name))


@contextlib.asynccontextmanager
async def comparing(place: OneCard, folder: Path) -> AsyncIterator[Comparison]:
    """All that takes part."""
    async with (
        FakePortal(ThrowAwayCA(folder)) as portal,
        encoding_agent(folder / "home", PcscReadersOfATest(), portal) as agent,
    ):
        portal.new_puk, portal.new_key = _NEW.new_puk.encode(), _NEW.new_key
        yield Comparison(place, folder, portal, agent)


def _print(found: Comparison, load: float) -> None:
    names = [_INLAY, *found.done]
    print(f"{'APDUs':<22}" + "".join(f"{name:>17}" for name in names))
    for step in STEPS:
        others = [found.done[name].apdus.get(step) for name in found.done]
        cells = ["-" if number is None else str(number) for number in (found.inlay[step], *others)]
        print(f"{step:<22}" + "".join(f"{cell:>17}" for cell in cells))
    sums = [found.order.apdus, *(done.count() for done in found.done.values())]
    print(f"{'all':<22}" + "".join(f"{number:>17}" for number in sums))
    for name, done in found.done.items():
        if name == Driver.name:
            continue
        theirs, ours = done.count(found.unfair(name)), found.same_steps(name)
        apart = " without reading back and proofs" if found.unfair(name) else ""
        print(f"the steps of {name}{apart}: {theirs} APDUs; the same in an order: {ours}")
    for client in found.clients:
        for step, why in client.cant.items():
            print(f"{client.name} has no step “{step}”: {why}")
    _print_times(found)
    print(f"load before and after: {load:.1f}, {os.getloadavg()[0]:.1f}; {os.cpu_count()} processors")


def _print_times(found: Comparison) -> None:
    replays = {"of the order": found.replay, "of the driver": found.replay_of_driver}
    for name, runs in replays.items():
        print(f"replay of the APDUs {name}, {runs.apdus}: {_times(runs)}")
    driver, by_driver = found.done[Driver.name].all, found.replay_of_driver
    print(f"{Driver.name}: {_times(driver)}; {driver.least / by_driver.least:.2f} times its replay's")
    order, replay = found.order, found.replay
    print(
        f"order, from claim to confirmation: {_times(order)}; {order.least / replay.least:.1f} times its replay's"
    )
    _print_own("the driver", driver.least - by_driver.least, by_driver)
    _print_own("an order, with the portal and its CA in this process,", order.least - replay.least, replay)
    for name, done in found.done.items():
        starts = done.processes * found.starts[name].least if name in found.starts else 0.0
        without = f", {done.processes} starts take {starts:.0f} ms of the least" if starts else ""
        print(f"{name}: {_times(done.all)}{without}")


def _print_own(whose: str, own: float, replay: Runs) -> None:
    each = max(own, 0.0) / _SMALL / replay.apdus
    print(
        f"what {whose} takes beside card and pcscd: {own:.1f} ms, {own / replay.least:.0%} of what they take; that is "
        f"{_SMALL:.0%} with a card that takes {each:.1f} ms for each APDU"
    )


def _times(runs: Runs) -> str:
    return f"{runs.median:.1f} ms, at the least {runs.least:.1f} ms"


async def _run(place: OneCard, folder: Path, rounds: int) -> int:
    load = os.getloadavg()[0]
    async with comparing(place, folder) as found:
        for number in range(rounds):
            await found.round(processes=number % _PROCESSES_EVERY == 0)
    _print(found, load)
    return int(bool(set(found.wider()) - {Yubikit.name}))


def main() -> int:
    """Run, and print; 1 when an order needs more APDUs than a program for the steps that the program has."""
    parser = argparse.ArgumentParser(prog="python -m bench.encode_order")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--card-ms", type=float, default=0.0, help="the card waits so long before each answer"
    )
    options = parser.parse_args()
    with one_card(_CARD, options.card_ms / 1000) as place, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(place, Path(folder), options.rounds))


if __name__ == "__main__":
    sys.exit(main())
