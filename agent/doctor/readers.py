"""Service, readers, cards, virtual readers: what PC/SC and the kernel say of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent import card_map
from agent.card_map import CardMap
from agent.doctor.findings import Finding, finding, from_error
from agent.pcsc import scard
from agent.pcsc.deadline import look_at, within
from agent.pcsc.look import Evidence
from agent.pcsc.scard import ReaderState
from agent.pcsc.service_wait import SOCKET_FOLDER
from agent.pcsc.slots import VirtualSlot, read_slots
from protocol.errors import InlayError

_SECONDS: Final = 8.0
"""How long service and card may take to answer."""
SOCKET: Final = SOCKET_FOLDER / "pcscd.comm"
_USB: Final = Path("/sys/bus/usb/devices")
_CCID_CLASS: Final = "0b"
_DROP_INS: Final = Path("/etc/systemd/system/pcscd.service.d")
_TCP_TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_LISTEN: Final = "0A"
_EVERYWHERE: Final = ("00000000", "0" * 32)


@dataclass(frozen=True, slots=True)
class Seen:
    """Evidence of service and readers.

    Attributes:
        problem: why PC/SC can't be asked; None when it answered.
        readers: all of them; None when it took the question and said nothing.
        installed: pcscd's program is there.
        socket: pcscd's socket is there.
        usb: smart card readers on USB, as the kernel names them.
    """

    problem: InlayError | None
    readers: tuple[ReaderState, ...] | None = ()
    installed: bool = True
    socket: bool = True
    usb: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ports:
    """Evidence of the virtual readers.

    Attributes:
        slots: what pcscd is configured with.
        listening: ports of them that listen.
        everywhere: of those, the ones that listen on every address.
        guard: what keeps them on this machine, in words; None when nothing was found.
    """

    slots: tuple[VirtualSlot, ...]
    listening: frozenset[int] = frozenset()
    everywhere: frozenset[int] = frozenset()
    guard: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Evidence of one card: what it showed, or why it couldn't be looked at; neither when it didn't come back."""

    reader: str
    shown: Evidence | None = None
    problem: InlayError | None = None


def see() -> Seen:
    """Ask PC/SC, and the machine where it doesn't answer."""
    usb = tuple(_usb_readers())
    try:
        readers = within(_SECONDS, scard.list_readers)
        return Seen(None, None if readers is None else tuple(readers), usb=usb)
    except InlayError as error:
        installed = shutil.which("pcscd", path="/usr/sbin:/usr/bin:/usr/local/sbin") is not None
        return Seen(error, (), installed, SOCKET.is_socket(), usb)


def judge_service(seen: Seen) -> list[Finding]:
    """What is the matter with the service."""
    if seen.readers is None:
        return [finding("service_silent", seconds=int(_SECONDS))]
    if seen.problem is None:
        return [finding("service_answers", count=len(seen.readers))]
    if seen.problem.code != "pcsc_no_service":
        return [from_error("service", seen.problem)]
    if not seen.installed:
        return [finding("service_missing")]
    return [finding("service_dead", path=str(SOCKET)) if seen.socket else finding("service_stopped")]


def judge_clients(cards: list[Card], clients: list[str]) -> list[Finding]:
    """Which programs may have a card that can't be looked at.

    Args:
        cards: what was seen of them.
        clients: programs that are connected to the service.
    """
    kept = any(
        card.shown is None and (card.problem is None or card.problem.code == "pcsc_sharing") for card in cards
    )
    return [finding("card_programs", programs=", ".join(clients))] if kept and clients else []


def judge_readers(seen: Seen, virtual: int) -> list[Finding]:
    """What readers there are, and those that should be.

    Args:
        seen: what was seen.
        virtual: how many of the readers are virtual.
    """
    if seen.problem is not None or seen.readers is None:
        return []
    found = [
        finding(
            "reader_ready",
            reader=reader.name,
            state=f"A card is in it (ATR {reader.atr.hex().upper()})."
            if reader.present
            else "No card is in it.",
        )
        for reader in seen.readers
    ]
    if seen.usb and len(seen.readers) - virtual < len(seen.usb):
        found.append(finding("reader_undriven", device=seen.usb[0]))
    if not seen.readers and not seen.usb:
        found.append(finding("reader_none"))
    return found


def look_at_cards(seen: Seen, cards: CardMap) -> list[Card]:
    """Look at every card: nothing is changed, and no try is spent."""
    found = []
    for reader in seen.readers or ():
        if not reader.present:
            continue
        try:
            found.append(Card(reader.name, within(_SECONDS, partial(look_at, reader.name, cards.aids))))
        except InlayError as error:
            found.append(Card(reader.name, problem=error))
    return found


def judge_cards(seen: list[Card], cards: CardMap, machine: Path) -> list[Finding]:
    """Which driver each card has and why, and what is wrong with it."""
    found = [finding("card_map_trouble", file=trouble.file, why=trouble.why) for trouble in cards.troubles]
    for card in seen:
        if card.problem is not None:
            texts = {
                "why": f"{card.problem.happened} {card.problem.why}",
                "next_step": card.problem.next_step,
            }
            found.append(finding("card_unread", reader=card.reader, **texts))
            continue
        if card.shown is None:
            found.append(finding("card_busy", reader=card.reader, seconds=int(_SECONDS)))
            continue
        found.append(_driver(card.reader, card.shown, cards, machine))
        if card.shown.pin_tries == 0:
            found.append(finding("card_blocked", reader=card.reader))
        elif card.shown.pin_tries == 1:
            found.append(finding("card_last_try", reader=card.reader))
    return found


def _driver(reader: str, shown: Evidence, cards: CardMap, machine: Path) -> Finding:
    chosen = cards.choose(shown)
    if chosen is None and shown.bare:
        return finding("card_bare", reader=reader)
    if chosen is None:
        entry = card_map.entry_for(shown, machine)
        return finding("card_unmapped", reader=reader, atr=shown.atr.hex().upper(), entry=entry)
    kind, why = chosen
    if kind.module is not None and not kind.module.is_file():
        return finding("card_module_missing", reader=reader, module=str(kind.module), source=kind.source)
    return finding(
        "card_driver", reader=reader, name=kind.name, driver=kind.driver, why=why, source=kind.source
    )


# --- virtual readers ---------------------------------------------------------------------------


def see_ports() -> Ports:
    """Where the virtual readers listen, from the kernel's tables: a connection, even a short one, would be a card."""
    slots = tuple(read_slots())
    wanted = {slot.port for slot in slots}
    listening: set[int] = set()
    everywhere: set[int] = set()
    for address, port in _listening():
        if port in wanted:
            listening.add(port)
            if address in _EVERYWHERE:
                everywhere.add(port)
    return Ports(slots, frozenset(listening), frozenset(everywhere), _guard())


def judge_ports(ports: Ports) -> list[Finding]:
    """Whether virtual cards have readers, and those are this machine's alone."""
    if not ports.slots:
        return [finding("vpcd_none")]
    if not ports.listening:
        return [finding("vpcd_closed")]
    if ports.everywhere and ports.guard is None:
        return [finding("vpcd_open", ports=", ".join(map(str, sorted(ports.everywhere))))]
    guard = ports.guard if ports.guard is not None else "They listen on this machine's own addresses."
    return [finding("vpcd_local", count=len(ports.listening), guard=guard)]


def _listening() -> Iterator[tuple[str, int]]:
    for table in _TCP_TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            row = line.split()
            if row[3] == _LISTEN:
                address, _, port = row[1].rpartition(":")
                yield address, int(port, 16)


def _guard() -> str | None:
    """The rule of systemd that keeps pcscd's ports on this machine; a firewall's can't be read without root."""
    for path in sorted(_DROP_INS.glob("*.conf")):
        try:
            lines = {line.strip() for line in path.read_text("utf-8", "replace").splitlines()}
        except OSError:
            continue
        if "IPAddressDeny=any" in lines:
            return f"The rule {path} keeps them on this machine."
    return None


def _usb_readers() -> Iterator[str]:
    for path in sorted(_USB.glob("*:*/bInterfaceClass")):
        try:
            if path.read_text().strip() != _CCID_CLASS:
                continue
            device = _USB / path.parent.name.partition(":")[0]
            product = device / "product"
            yield product.read_text("utf-8", "replace").strip() if product.exists() else device.name
        except OSError:  # pulled out in between
            continue
