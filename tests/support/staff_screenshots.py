"""Pictures of staff's pages over a real portal: ``python -m tests.support.staff_screenshots docs/images``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from sqlalchemy import select

from portal.mail import outbox
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import Role, VirtualSmartCardState
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.lock_for_operator import LockForOperator
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store import audit
from portal.store.tables import Card, Certificate, Mail, User
from portal.views import ObjectRef
from portal.web import setup, setup_staff
from tests.support import isolation
from tests.support.batch_orders import batch_of, begun, torn, written
from tests.support.browser import Policies, Portal, chromium
from tests.support.card_scenes import card_scenes
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay
from tests.support.portal_kit import P256, PASSWORD, running_portal
from tests.support.staff_seed import DAY, revocation
from tests.support.stored_objects import put_card, put_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.async_api import BrowserContext

    from portal.views import Session
    from tests.support.portal_kit import Kit

WIDE, NARROW = 1280, 360
_TALLEST = 1700
"""A long history goes on as it begins."""
_KINDS = ((WIDE, "light"), (NARROW, "dark"))
_ALL_KINDS = ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark"))
_IN_ALL_KINDS = frozenset({"search", "object", "batch"})
STAFF = (Role.SELF_SERVICE, Role.OPERATOR, Role.ADMINISTRATOR, Role.APPROVER)
_OPTIONS = "/admin/options/TempCardsScriptOptions"


@dataclass(frozen=True)
class Stage:
    """What the pictures show: ids of objects; ``cards``: names of pictures about cards to their paths."""

    person: str
    card: str
    certificate: str
    locking: str
    locked: str
    extending: str
    batches: Mapping[str, str]
    cards: Mapping[str, str]


async def set_stage(kit: Kit, staff: Session) -> Stage:
    """A few people with cards, one that a device made, one that was locked, and a CA that doesn't answer."""
    await kit.set_options(**P256)
    holder = await kit.person("ada@example.org")
    _, agent = await kit.bound_agent(holder)
    await agent.complete()
    (card,) = await kit.services.cards(holder)
    others = [await kit.person(f"{name}@example.org") for name in ("bea", "carl", "dora")]
    for number, other in enumerate(others):
        kit.clock.now += 3700 * (number + 1)
        key = await put_card(kit, other, list(VirtualSmartCardState)[1 + number])
        for profile in ("authentication", "signature"):
            await put_certificate(kit, other, profile=profile)
        async with kit.database.write() as tx:
            (await tx.get_one(Card, key)).label = f"Virtual smart card {other.user.email}"
    own = await put_card(kit, staff)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, own)).label = f"Virtual smart card {staff.user.email}"
    pending = await put_certificate(kit, others[0], profile="encryption")
    async with kit.database.write() as tx:
        (await tx.get_one(Certificate, pending)).not_after = kit.clock() + 5 * DAY
        waits = revocation(pending, created_at=kit.clock() - 600, next_try_at=kit.clock() + 300)
        waits.last_error = "unavailable"
        tx.add(waits)
        await audit.record(
            tx,
            at=kit.clock(),
            actor=staff.user.email,
            action="certificate.revocation_asked",
            kind="certificate",
            object_id=pending,
            reason="keyCompromise",
        )
    await _mails(kit, holder.user.id)
    locking, locked, extends = await _processes(kit, staff, card.id, others[0])
    about_cards = await card_scenes(kit, staff)
    batches = await batch_scenes(kit, staff)
    return Stage(holder.user.id, card.id, pending, locking, locked, extends, batches, about_cards)


async def _mails(kit: Kit, person: str) -> None:
    """One that waits, and one that was refused."""
    async with kit.database.write() as tx:
        user = await tx.get_one(User, person)
        about = CoreObject(ObjectKind.USER, user.id)
        for subject, state, error in (
            ("Your temporary card expires soon", "waiting", "unavailable"),
            ("PIN of your card", "refused", "recipient 550 5.1.1"),
        ):
            await outbox.add(
                tx,
                kit.portal.context,
                outbox.Draft(to=user, kind="test", subject=subject, text="", about=about),
            )
            mail = (await tx.scalars(select(Mail).where(Mail.subject == subject))).one()
            mail.state, mail.last_error, mail.tries = state, error, 1
            mail.next_try_at += 60


async def _processes(kit: Kit, staff: Session, card: str, other: Session) -> tuple[str, str, str]:
    """A lock that asks for its reason, and one that is done."""
    kind = "virtual_smart_card"
    asks = await kit.services.start_process(staff, LockForOperator.name, ObjectRef(kind, card))
    (theirs,) = await kit.services.cards(other)
    done = await kit.services.start_process(staff, LockForOperator.name, ObjectRef(kind, theirs.id))
    await kit.services.next(staff, done.id, done.version, {"Reason": ["reported lost by its holder"]})
    return asks.id, done.id, await extending(kit, staff, other)


async def extending(kit: Kit, staff: Session, holder: Session) -> str:
    """A temporary card that is somebody's, and the process that extends it; the process's id."""
    asked = await kit.services.start_process(staff, RequestTemporaryCard.name)
    form = {"Label": ["Visitor 7"], "Serial": ["00 2A"]}
    await kit.services.next(staff, asked.id, asked.version, form)
    async with kit.database.read() as tx:
        card = (await tx.scalars(select(Card.id).where(Card.label == "Visitor 7"))).one()
    ref = ObjectRef("temporary_card", card)
    for process, entered in (
        (IssueTemporaryCard, {}),
        (AssignTemporaryCard, {"Person": [holder.user.email]}),
    ):
        begun = await kit.services.start_process(staff, process.name, ref)
        await kit.services.next(staff, begun.id, begun.version, entered)
    return (await kit.services.start_process(staff, ExtendTemporaryCard.name, ref)).id


async def batch_scenes(kit: Kit, staff: Session) -> dict[str, str]:
    """A batch whose first card is made, whose second one was pulled out, and whose third one is asked for."""
    batch = await batch_of(kit, staff, 5)
    process = await kit.portal.batches.complete(staff, batch)
    assert process is not None
    agent, _ = await begun(kit, staff, process)
    await written(agent, "70031442")
    _, second = await kit.portal.batches.go_on(staff, process)
    assert second is not None
    agent, _ = await begun(kit, staff, second, agent)
    await torn(kit, agent, "70031443")
    _, third = await kit.portal.batches.go_on(staff, second)
    start = await kit.services.start_process(staff, IssueMultipleTemporaryCards.name)
    return {
        "batches": "/operator/batches",
        "batch": f"/operator/batches/{batch}",
        "batch-order": f"/processes/{start.id}",
        "batch-failed": f"/processes/{second}",
        "batch-card": f"/processes/{third}",
    }


async def save_options(kit: Kit, staff: Session) -> None:
    """Two versions, for the history."""
    script = _OPTIONS.rpartition("/")[2]
    for change in ({"TempCardsValidityDays": ["21"]}, {"TempCardsEncode": ["true"]}):
        view = await kit.services.options(staff, script)
        form = {
            name: [", ".join(value)]
            if name.endswith("ExpiringDays") and isinstance(value, list)
            else [str(item) for item in value]
            if isinstance(value, list)
            else [str(value)]
            for name, value in view.values.items()
        }
        await kit.services.save_options(staff, script, view.version, form | change)


def scenes(stage: Stage) -> dict[str, str]:
    """Name of each picture to its path."""
    return {
        "search": "/operator/search?kind=certificate",
        "search-wrong": "/operator/search?kind=certificate&expires_from=soon&state=Valid",
        "search-cards": "/operator/search?kind=virtual_smart_card&state=Active",
        "object": f"/operator/objects/virtual_smart_card/{stage.card}",
        "object-certificate": f"/operator/objects/certificate/{stage.certificate}",
        "search-temporary": "/operator/search?kind=temporary_card&state=Assigned",
        "extend": f"/processes/{stage.extending}",
        "lock": f"/processes/{stage.locking}",
        "lock-done": f"/processes/{stage.locked}",
        "admin": "/admin",
        "options-temporary": _OPTIONS,
        "options-history": f"{_OPTIONS}/history",
        "graphs": "/admin/graphs",
        "queue": "/admin/queue",
        "mails": "/admin/mails",
        "audit": "/admin/audit",
        "cards-processes": "/cards",
        "user": f"/admin/users/{stage.person}",
        "user-new": "/admin/users/new",
        "options-cards": "/admin/options/CardsScriptOptions",
        **stage.batches,
        **stage.cards,
    }


async def shoot(folder: Path, work: Path, display: VirtualDisplay) -> list[str]:
    """Take all pictures; their names.

    Args:
        folder: where they go, as ``page-NAME-WIDTH-SCHEME.png``.
        work: an existing folder for the portal, certificates and the browser's profile.
        display: the browser's screen.
    """
    portal, ca = Portal(8443), ThrowAwayCA(work)
    async with running_portal(work, origin=portal.origin) as kit:
        app = web.Application()
        setup(app, kit.services)
        setup_staff(app, kit.portal.operator, kit.portal.administrator, kit.portal.batches)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 8443, ssl_context=ca.server_context()).start()
        await kit.portal.accounts.add("olga@example.org", "Olga Example", PASSWORD, STAFF)
        login = await kit.services.login("olga@example.org", PASSWORD, "192.0.2.1")
        await save_options(kit, login.session)
        stage = await set_stage(kit, login.session)
        policies = Policies().block_loopback(portal.origin)
        browser = chromium(
            display, work, portal=portal, ca_file=ca.ca_file, policies=policies, extra=["--hide-scrollbars"]
        )
        async with browser as context:
            cookie = {"name": "__Host-inlay-session", "value": login.token, "url": portal.origin}
            await context.add_cookies([cookie | {"secure": True, "httpOnly": True}])  # type: ignore[list-item]
            for name, path in scenes(stage).items():
                await _take(context, folder, name, portal.origin + path)
        await runner.cleanup()
        return list(scenes(stage))


async def _take(context: BrowserContext, folder: Path, name: str, address: str) -> None:
    page = context.pages[0]
    for width, scheme in _ALL_KINDS if name in _IN_ALL_KINDS else _KINDS:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await page.set_viewport_size({"width": width, "height": 780})
        await page.goto(address)
        await page.wait_for_load_state("load")
        path = folder / f"page-{name}-{width}-{scheme}.png"
        tall = min(await page.evaluate("document.documentElement.scrollHeight"), _TALLEST)
        await page.set_viewport_size({"width": width, "height": tall})
        await page.screenshot(path=path, animations="disabled", caret="hide")


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    isolation.enter()
    with tempfile.TemporaryDirectory(prefix="inlay-pages-") as work, VirtualDisplay(Path(work)) as display:
        names = asyncio.run(shoot(folder, Path(work), display))
        pictures = [str(path) for name in names for path in sorted(folder.glob(f"page-{name}-[0-9]*.png"))]
        display.run("mogrify", "-strip", "+dither", "-colors", "96", *pictures, seconds=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
