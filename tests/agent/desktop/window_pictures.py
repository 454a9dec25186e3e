"""Pictures of every window for the documentation: ``python -m tests.agent.desktop.window_pictures FOLDER [SCENE …]``.

With scenes, only the windows about cards that are named: ``card-blocked``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.card_search import FoundCard, Sight
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.handlers.change_card_pin import CONSEQUENCES, NOTES
from agent.handlers.encode_card import consequences
from agent.handlers.encode_in_reader import HalfDone
from agent.handlers.encode_in_reader import consequences as physical_consequences
from agent.ordered_card import what_is_seen
from agent.pin_rules import PinRules
from agent.ports import (
    CardChoice,
    CardSheet,
    CardSummary,
    CertificateLine,
    KnownSecret,
    OrderPrompt,
    UserEnvironment,
)
from protocol.errors import InlayError
from protocol.messages import Algorithm, EncodeCard, KeyOrder, KeySource, ManagementKey, PinEntry, Purpose
from tests.support.display import VirtualDisplay

ACCOUNT = "alex@portal.example"
PROMPT = OrderPrompt(
    portal_name="Example portal",
    origin="https://portal.example",
    account=f"{ACCOUNT} (Alex Example)",
    title="Create a virtual smart card",
    consequences=(
        f"A card called “Virtual smart card {ACCOUNT}” is made on this computer.",
        "Three certificates are issued for it: authentication, signature and encryption.",
        "Your programs can use the card once you type its PIN.",
    ),
    pin_policy=PinRules(digits="REQUIRED", special="DISALLOWED"),
)
CARD = CardSummary(
    label=f"Virtual smart card {ACCOUNT}",
    serial="20261122004711",
    storage_level="keystore",
    certificates=tuple(
        CertificateLine(purpose, f"CN={ACCOUNT}", "2026-11-22", "2028-11-21")
        for purpose in ("Authentication", "Signature", "Encryption")
    ),
)
STEPS = ("Making the card", "Making the keys", "Asking for the certificates", "Writing the certificates")

SHEET = CardSheet(
    title=CARD.label,
    fields=(
        ("Serial", "1193427561"),
        ("GUID", "5f0c1f2e7a4b4c0d9e8f7a6b5c4d3e2f"),
        ("Account", ACCOUNT),
        ("Portal", "portal.example"),
        ("Valid until", "2028-11-21"),
        ("Keys in", "the key store of your login"),
        ("PIN", "3 tries left"),
        ("PUK", "3 tries left"),
        ("Reader", "Virtual PCD 00 00"),
    ),
    warning=None,
    certificates=CARD.certificates,
    actions=(
        ("change-pin", "Change the PIN"),
        ("unblock", "Unblock with the PUK"),
        ("delete", "Delete the card"),
    ),
)
BLOCKED = dataclasses.replace(
    SHEET,
    fields=tuple((name, "blocked" if name == "PIN" else value) for name, value in SHEET.fields),
    warning=str(InlayError("pin_blocked")),
    actions=SHEET.actions[1:],
)
CHANGE = OrderPrompt(
    portal_name="Inlay",
    origin="",
    account="",
    title="Change the PIN of a card",
    consequences=CONSEQUENCES,
    pin_policy=PinRules(),
    confirm_label="Change PIN",
    card=f"{CARD.label} (serial 1193427561)",
    known=KnownSecret("PIN of the card", 6, 8),
    warning="The PIN is wrong. 2 tries are left: after one more wrong PIN there is only the last one.",
)
DELETE = dataclasses.replace(
    CHANGE,
    title="Delete a card",
    consequences=(
        f"Lost: Authentication certificate, CN={ACCOUNT}, until 2028-11-21.",
        f"Lost: Encryption certificate, CN={ACCOUNT}, until 2028-11-21.",
        "The portal keeps a copy of its encryption key: its support can put that on a new card.",
        "The portal portal.example is not told by this: there, the card and its certificates stay valid.",
    ),
    pin_policy=None,
    known=None,
    confirm_label="Delete",
    warning="The card and its keys are removed from this computer. That can't be undone.",
    typed="delete",
)
RENEW = dataclasses.replace(
    PROMPT,
    title="Renew your card",
    consequences=consequences(
        EncodeCard(
            card="1",
            driver="virtual",
            guid="5f0c1f2e7a4b4c0d9e8f7a6b5c4d3e2f",
            label=CARD.label,
            valid_until=1_857_600_000,
            pin=PinEntry(kind="verify"),
            keys=[
                KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex"),
                KeyOrder("9C", Purpose.SIGNATURE, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex"),
            ],
        )
    ),
    pin_policy=None,
    known=KnownSecret("PIN of the card", 6, 8),
    confirm_label="Renew",
    card=f"{CARD.label} (serial 1193427561)",
)
ENCODED = EncodeCard(
    card="1",
    driver="piv",
    guid="5f0c1f2e7a4b4c0d9e8f7a6b5c4d3e2f",
    label=f"Visitor 7 for {ACCOUNT}",
    valid_until=1_857_600_000,
    pin=PinEntry(kind="verify"),
    keys=[KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.KEEP, "CN=Alex")],
    management=ManagementKey(),
)
ENCODE = dataclasses.replace(
    PROMPT,
    account="olga@portal.example (Olga Example)",
    title="Encode a card",
    consequences=physical_consequences(ENCODED),
    pin_policy=None,
    confirm_label="Encode",
    card=ENCODED.label,
)
CHOICES = (
    CardChoice("a" * 32, f"Virtual smart card {ACCOUNT}", f"Serial 1193427561, {ACCOUNT}"),
    CardChoice("b" * 32, "Virtual smart card of a second account", "Serial 402118, second@portal.example"),
    CardChoice("c" * 32, "A card that can't be read", "The file of the card was damaged or changed."),
)

SETTLED = 1.0
"""Seconds until colours and cursor have settled, and consent without a PIN can be given."""

Scene = Callable[["Studio", WindowProcess], Awaitable[str]]
CardScene = Callable[[WindowProcess], Coroutine[Any, Any, object]]


class Studio:
    """A screen, and the pictures taken of it."""

    def __init__(self, screen: VirtualDisplay, folder: Path) -> None:
        self._screen = screen
        self._folder = folder
        self._environment = UserEnvironment({name: screen.env[name] for name in ("DISPLAY", "XAUTHORITY")})

    async def act(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._screen.xdotool, *arguments)

    async def take(
        self, name: str, scene: Scene, appearance: str, size: tuple[int, int] | None = None
    ) -> None:
        """Play a scene and save the window's inside as a picture of few colours."""
        window = await Windows(appearance=appearance).open(PROMPT, self._environment)
        assert isinstance(window, WindowProcess)
        consent = asyncio.create_task(window.consent())
        await self._until(window, "consent")
        if size is not None:
            await self.act("windowsize", "--sync", await self.act("getactivewindow"), *map(str, size))
        await self._until(window, await scene(self, window))
        await asyncio.sleep(SETTLED)
        await self.save(name, await self.act("getactivewindow"))
        consent.cancel()
        await window.close()

    async def take_cards(
        self, name: str, scene: CardScene, appearance: str, size: tuple[int, int] | None = None
    ) -> None:
        """The same for a window that a command about cards opens: the scene begins it, and ends with its window."""
        window = await Windows(appearance=appearance).open_cards(self._environment)
        assert isinstance(window, WindowProcess)
        if name.rpartition("-")[0] in AFTER_CONSENT:
            asked = asyncio.create_task(window.ask(ENCODE))
            await self._until(window, "consent")
            asked.cancel()
        before = window.page
        asking = asyncio.create_task(scene(window))
        while window.page == before:
            assert not window.closed.is_set(), window.failure
            await asyncio.sleep(0.01)
        if size is not None:
            await self.act("windowsize", "--sync", await self.act("getactivewindow"), *map(str, size))
        await asyncio.sleep(SETTLED)
        await self.save(name, await self.act("getactivewindow"))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await window.close()

    async def save(self, name: str, identifier: str) -> None:
        path = self._folder / f"window-{name}.png"
        done = await asyncio.to_thread(self._screen.run, "import", "-window", identifier, str(path))
        assert done.returncode == 0, done.stderr
        few = ("-strip", "+dither", "-colors", "128", "-define", "png:compression-level=9", f"PNG8:{path}")
        await asyncio.to_thread(self._screen.run, "convert", str(path), *few)

    async def _until(self, window: WindowProcess, page: str) -> None:
        while window.page != page:
            assert not window.closed.is_set(), window.failure
            await asyncio.sleep(0.01)


async def typing(studio: Studio, _window: WindowProcess) -> str:
    await studio.act("type", "--delay", "20", "k7mZ42")
    await studio.act("key", "Tab")
    await studio.act("type", "--delay", "20", "k7mZ42")
    return "consent"


async def breaking_rules(studio: Studio, _window: WindowProcess) -> str:
    await studio.act("type", "--delay", "20", "k7#Z")
    await studio.act("key", "Tab")
    await studio.act("type", "--delay", "20", "k8")
    return "consent"


async def untouched(_studio: Studio, _window: WindowProcess) -> str:
    return "consent"


async def number(_studio: Studio, window: WindowProcess) -> str:
    await window.show_number("417")
    return "number"


async def progress(_studio: Studio, window: WindowProcess) -> str:
    for done, text in enumerate(STEPS[:3]):
        await window.show_progress(str(done), text, done, len(STEPS))
    return "progress"


async def details(_studio: Studio, window: WindowProcess) -> str:
    await window.show_details(CARD)
    return "details"


async def error(_studio: Studio, window: WindowProcess) -> str:
    await window.show_error(InlayError("portal_unreachable", portal="portal.example", cause="no route to it"))
    return "error"


async def card(window: WindowProcess) -> object:
    return await window.show_card(SHEET)


async def blocked_card(window: WindowProcess) -> object:
    return await window.show_card(BLOCKED)


async def change_pin(window: WindowProcess) -> object:
    return await window.ask(CHANGE)


async def renew(window: WindowProcess) -> object:
    return await window.ask(RENEW)


async def encode(window: WindowProcess) -> object:
    return await window.ask(ENCODE)


async def another_card(window: WindowProcess) -> object:
    readers = ("Example reader 00 00",)
    found = FoundCard(readers[0], None, None, InlayError("card_other"))
    text = what_is_seen(Sight(None, readers, (found,)), ENCODED.label)
    await window.show_progress("card", text, 1, 7)
    await window.wait_closed()
    return None


async def half_done(window: WindowProcess) -> object:
    await window.show_error(HalfDone(InlayError("pcsc_card_removed")))
    await window.wait_closed()
    return None


async def delete(window: WindowProcess) -> object:
    return await window.ask(DELETE)


async def choose(window: WindowProcess) -> object:
    return await window.choose("Change the PIN of a card", CHOICES)


async def pick_reader(window: WindowProcess) -> object:
    rows = (
        CardChoice("1", "Example reader 00 00", "PIV card, serial 1193427561"),
        CardChoice("2", "Example reader 01 00", "PIV card, blank"),
        CardChoice("3", "Example reader 02 00", "No card is in it.", usable=False),
        CardChoice("4", "Example reader 03 00", str(InlayError("pcsc_card_mute")), usable=False),
    )
    return await window.choose("Which card is it?", rows, f"Pick the card for “{ENCODED.label}”.")


async def done(window: WindowProcess) -> object:
    await window.show_done("The PIN is changed", NOTES)
    await window.wait_closed()
    return None


CARD_SCENES: dict[str, CardScene] = {
    "card": card,
    "card-blocked": blocked_card,
    "change-pin": change_pin,
    "delete": delete,
    "renew": renew,
    "choose": choose,
    "pick-reader": pick_reader,
    "encode": encode,
    "another-card": another_card,
    "half-done": half_done,
    "done": done,
}


AFTER_CONSENT = frozenset({"pick-reader", "another-card", "half-done"})
"""Pages of an order: the window names its portal since the person was asked."""


async def main(folder: Path, scenes: list[str]) -> None:
    """Take all pictures, or those of some scenes about cards."""
    with tempfile.TemporaryDirectory() as temporary, VirtualDisplay(Path(temporary)) as screen:
        studio = Studio(screen, folder)
        if not scenes:
            await of_orders(studio)
        for name in scenes or CARD_SCENES:
            await studio.take_cards(f"{name}-light", CARD_SCENES[name], "light")
            await studio.take_cards(f"{name}-360", CARD_SCENES[name], "dark", (360, 640))


async def of_orders(studio: Studio) -> None:
    """Take the pictures of an order's windows."""
    for name, scene in (
        ("consent", typing),
        ("number", number),
        ("progress", progress),
        ("details", details),
    ):
        await studio.take(f"{name}-light", scene, "light")
        await studio.take(f"{name}-dark", scene, "dark")
    await studio.take("rules-light", breaking_rules, "light")
    await studio.take("rules-dark", breaking_rules, "dark")
    await studio.take("error-light", error, "light")
    await studio.take("error-dark", error, "dark")
    await studio.take("consent-360", typing, "light", (360, 640))
    await studio.take("details-360", details, "dark", (360, 640))
    await studio.take("consent-wide", untouched, "light", (1200, 800))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
