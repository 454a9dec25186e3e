"""What readers and cards do, as values: two looks at the readers in, what happened between them out.

No PC/SC here: `agent.pcsc.monitor` looks, this compares.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderLook:
    """One reader at one moment.

    Attributes:
        name: its PC/SC name.
        present: a card is in it.
        atr: the card's answer to reset; empty when there is none.
        count: PC/SC's own count of the reader's events, the upper 16 bits of the event state: it moves with each
            card that comes or goes, also when nobody looked meanwhile.
        mute: the card doesn't answer.
        exclusive: another program kept the card for itself at the moment of the look; pcsc-lite wakes nobody when that
            begins.
    """

    name: str
    present: bool
    atr: bytes = b""
    count: int = 0
    mute: bool = False
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """All readers at one moment.

    Attributes:
        problem: code of the error table when PC/SC can't be asked (``pcsc_no_service``, ``pcsc_refused``).
        readers: in PC/SC's order; empty when it can't be asked.
    """

    problem: str | None = None
    readers: tuple[ReaderLook, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceLost:
    """PC/SC can't be asked any more; its readers and cards went before this."""

    problem: str


@dataclass(frozen=True, slots=True)
class ServiceFound:
    """PC/SC answers; its readers and cards come after this."""


@dataclass(frozen=True, slots=True)
class ReaderAdded:
    """A reader came."""

    reader: str


@dataclass(frozen=True, slots=True)
class ReaderRemoved:
    """A reader went; its card went before this."""

    reader: str


@dataclass(frozen=True, slots=True)
class CardInserted:
    """A card came; ``mute`` when it doesn't answer, and then it has no ``atr``."""

    reader: str
    atr: bytes
    mute: bool = False


@dataclass(frozen=True, slots=True)
class CardRemoved:
    """A card went."""

    reader: str


ReaderEvent = ServiceLost | ServiceFound | ReaderAdded | ReaderRemoved | CardInserted | CardRemoved


def changes(before: Look, after: Look) -> tuple[ReaderEvent, ...]:
    """What happened between two looks, in an order that makes sense: going before coming.

    A card that was taken out and put in again between the looks went and came: PC/SC's count tells.
    """
    old = {reader.name: reader for reader in before.readers}
    new = {reader.name: reader for reader in after.readers}
    found: list[ReaderEvent] = []
    for name, reader in old.items():
        if reader.present and _went(reader, new.get(name)):
            found.append(CardRemoved(name))
        if name not in new:
            found.append(ReaderRemoved(name))
    if after.problem is not None and after.problem != before.problem:
        found.append(ServiceLost(after.problem))
    if before.problem is not None and after.problem is None:
        found.append(ServiceFound())
    for name, reader in new.items():
        known = old.get(name)
        if known is None:
            found.append(ReaderAdded(name))
        if reader.present and (known is None or not known.present or _went(known, reader)):
            found.append(CardInserted(name, reader.atr, reader.mute))
    return tuple(found)


def _went(known: ReaderLook, now: ReaderLook | None) -> bool:
    """Whether the card that was there then isn't there now, or not without a break."""
    if now is None or not now.present:
        return True
    return now.count != known.count or now.atr != known.atr
