"""The card map: from what a card shows to the driver that speaks to it, as data that an administrator extends.

Entries come from ``/etc/inlay/cards.d/*.toml`` (files that only root could have written; by name) and then from
``card_drivers.toml`` beside this file. A file that can't be used is named with what is wrong in it; the others count.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from agent.config import read_machine_file
from agent.pcsc.look import Evidence
from agent.pcsc.piv_select import FEATURES

FOLDER: Final = "cards.d"
_SHIPPED: Final = Path(__file__).with_name("card_drivers.toml")
_WORDS: Final = frozenset({"name", "driver", "module", "atr", "atr_mask", "aid", "has", "serial"})
_HEX: Final = re.compile(r"([0-9A-Fa-f]{2}){2,33}")


class _Unusable(Exception):
    """What is wrong with an entry, for its author."""


@dataclass(frozen=True, slots=True)
class CardKind:
    """One entry.

    Attributes:
        name: what people call the card.
        driver: who speaks to it.
        module: the maker's PKCS#11 module, with driver ``pkcs11``.
        atr: ATR that the card's has to be, where the mask has ones; None when any will do.
        atr_mask: as long as the ATR.
        aid: name that the card has to answer to.
        has: what it has to have: of ``agent.pcsc.piv_select.FEATURES``.
        source: the file it stands in.
        serial: whether what it says to GET SERIAL is its own number; else all such cards say the same.
    """

    name: str
    driver: Literal["piv", "pkcs11"]
    module: Path | None
    atr: bytes | None
    atr_mask: bytes
    aid: bytes | None
    has: frozenset[str]
    source: str
    serial: bool = True

    def why(self, evidence: Evidence) -> str | None:
        """Why a card is of this kind, in words; None when it isn't."""
        reasons = []
        if self.atr is not None:
            if not _masked(evidence.atr, self.atr, self.atr_mask):
                return None
            reasons.append("its ATR is the one named")
        if self.aid is not None:
            if self.aid not in evidence.aids:
                return None
            reasons.append(f"it answers to {self.aid.hex().upper()}")
        if not self.has <= evidence.features:
            return None
        reasons += [f"it has {name.replace('_', ' ')}" for name in sorted(self.has)]
        return " and ".join(reasons)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file of the map that can't be used, and what is wrong in it."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class CardMap:
    """All entries, the administrator's first, and the files that can't be used."""

    kinds: tuple[CardKind, ...]
    troubles: tuple[Trouble, ...]

    @property
    def aids(self) -> frozenset[bytes]:
        """Names that cards have to be asked by."""
        return frozenset(kind.aid for kind in self.kinds if kind.aid is not None)

    @property
    def features(self) -> frozenset[str]:
        """What cards have to be asked for, so that a kind can be told from another."""
        return frozenset[str]().union(*(kind.has for kind in self.kinds))

    def choose(self, evidence: Evidence) -> tuple[CardKind, str] | None:
        """The first kind that a card is of, and why; None for an unknown card."""
        for kind in self.kinds:
            why = kind.why(evidence)
            if why is not None:
                return kind, why
        return None


def load(machine: Path, owner: int = 0) -> CardMap:
    """Read the map.

    Args:
        machine: the administrator's folder.
        owner: user id of the administrator.
    """
    kinds: list[CardKind] = []
    troubles: list[Trouble] = []
    for path in sorted((machine / FOLDER).glob("*.toml")):
        raw = read_machine_file(path, owner)
        if raw is None:
            troubles.append(Trouble(str(path), "it isn't root's alone to write, or is too large"))
            continue
        try:
            kinds += _kinds(raw, str(path))
        except _Unusable as error:
            troubles.append(Trouble(str(path), str(error)))
    kinds += _kinds(_SHIPPED.read_bytes(), _SHIPPED.name)
    return CardMap(tuple(kinds), tuple(troubles))


def entry_for(evidence: Evidence, machine: Path) -> str:
    """What an administrator writes, and where, so that an unknown card is known."""
    return (
        f"# {machine / FOLDER}/my-card.toml\n"
        "[[card]]\n"
        'name = "…"\n'
        'driver = "pkcs11"\n'
        'module = "/path/of/the/maker\'s/module.so"\n'
        f'atr = "{evidence.atr.hex().upper()}"\n'
    )


def _kinds(raw: bytes, source: str) -> list[CardKind]:
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _Unusable("it is not TOML: " + str(error).partition("\n")[0][:120]) from None
    entries = document.get("card", [])
    if set(document) - {"card"} or not isinstance(entries, list):
        raise _Unusable("it holds something other than [[card]] tables")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_kind(entry, source))
        except _Unusable as error:
            raise _Unusable(f"card {number}: {error}") from None
    return found


def _kind(entry: Mapping[str, Any], source: str) -> CardKind:
    unknown = sorted(set(entry) - _WORDS)
    if unknown:
        raise _Unusable(f"unknown word {unknown[0][:40]}")
    driver, module = _text(entry, "driver"), _text(entry, "module")
    if driver not in ("piv", "pkcs11"):
        raise _Unusable("driver is neither piv nor pkcs11")
    if (driver == "pkcs11") != (module is not None):
        raise _Unusable("module belongs to driver pkcs11, and to no other")
    if module is not None and not module.startswith("/"):
        raise _Unusable("module is no absolute path")
    atr, aid, mask = _hex(entry, "atr"), _hex(entry, "aid"), _hex(entry, "atr_mask")
    if atr is None and aid is None:
        raise _Unusable("neither atr nor aid says which card is meant")
    if mask is not None and (atr is None or len(mask) != len(atr)):
        raise _Unusable("atr_mask is not as long as atr")
    has = entry.get("has", [])
    if not isinstance(has, list) or not all(isinstance(name, str) and name in FEATURES for name in has):
        raise _Unusable("has names something other than " + ", ".join(sorted(FEATURES)))
    serial = entry.get("serial", True)
    if not isinstance(serial, bool):
        raise _Unusable("serial is neither true nor false")
    return CardKind(
        name=_text(entry, "name") or "",
        driver="piv" if driver == "piv" else "pkcs11",
        module=None if module is None else Path(module),
        atr=atr,
        atr_mask=mask if mask is not None else b"\xff" * len(atr or b""),
        aid=aid,
        has=frozenset(has),
        source=source,
        serial=serial,
    )


def _text(entry: Mapping[str, Any], word: str) -> str | None:
    value = entry.get(word)
    if value is None and word != "name":
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        raise _Unusable(f"{word} is no text of 1 to 200 characters")
    return value


def _hex(entry: Mapping[str, Any], word: str) -> bytes | None:
    value = entry.get(word)
    if value is None:
        return None
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise _Unusable(f"{word} is not 2 to 33 bytes in hexadecimal digits")
    return bytes.fromhex(value)


def _masked(seen: bytes, wanted: bytes, mask: bytes) -> bool:
    if len(seen) != len(wanted):
        return False
    return all((one ^ other) & bits == 0 for one, other, bits in zip(seen, wanted, mask, strict=True))
