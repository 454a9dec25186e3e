"""A portal whose cards are made through PKCS#11, and an agent that it drives, from a process's begin to its end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.config_cards import CardDescriptionFiles
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes import card_letters
from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.card_descriptions import CHOICE
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_card import RequestCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import Card, CardLetter, Process
from portal.views import ObjectRef
from tests.support import issued_cards
from tests.support.agent_parts import without_keystore
from tests.support.attack_stage import outcome, running_stage
from tests.support.token_readers import SO_PIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from portal.views import ProcessView, Session
    from tests.support.agent_parts import HasReaders
    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA
    from tests.support.fake_windows import Answer
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

NAME: Final = "Vendor token"
"""What staff pick such cards by."""
EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
PAST_CONSENT: Final = (None, None)


def described(folder: Path, puk: bytes = SO_PIN, **changes: Any) -> dict[str, CardDescriptionFiles]:
    """The card descriptions of the documents' examples, for a portal's configuration."""
    puk_file = folder / "token-puk"
    puk_file.write_bytes(puk + b"\n")
    puk_file.chmod(0o600)
    files = {word: str(EXAMPLES / f"token-{word}.dsc") for word in ("issue", "encode", "extend")}
    return {NAME: CardDescriptionFiles(str(puk_file), **{**files, **changes})}


@asynccontextmanager
async def token_stage(
    folder: Path,
    tls: ThrowAwayCA,
    readers: HasReaders,
    monkeypatch: pytest.MonkeyPatch,
    puk: bytes = SO_PIN,
    **changes: Any,
) -> AsyncIterator[Stage]:
    """Such a portal, and an agent with these readers on a machine without a key store."""
    without_keystore(monkeypatch)
    configured = described(folder, puk, **changes)
    async with running_stage(folder, tls, readers, card_descriptions=configured) as running:
        yield running


async def approved(kit: Kit, people: Staff, holder: Session, kind: str = NAME) -> str:
    """A card of this kind that can be issued; its id."""
    view = await kit.services.start_process(people.olga, RequestCard.name, ObjectRef("user", holder.user.id))
    form = {"Label": ["Badge"], "Reason": ["new here"], CHOICE: [kind]}
    view = await kit.services.next(people.olga, view.id, view.version, form)
    await issued_cards.decide(kit, people.paul, view, "approve")
    async with kit.database.read() as tx:
        process = await tx.get_one(Process, view.id)
        card: str = process.variables["card"].id
    return card


async def recovery_agreed(kit: Kit, people: Staff, holder: Session) -> None:
    """Two persons agree that this person's keys may leave the archive."""
    ref = ObjectRef("user", holder.user.id)
    view = await kit.services.start_process(people.olga, ArchiveRecovery.name, ref)
    await kit.services.next(people.olga, view.id, view.version, {"Reason": ["old mail"]})
    seen = await kit.services.process(people.paul, view.id)
    await kit.services.next(people.paul, view.id, seen.version, {"Decision": ["agree"]})


async def assigned(kit: Kit, olga: Session, holder: Session, serial: str, **options: list[str]) -> str:
    """A temporary card of this kind that a person has; it is encoded when it is extended."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    form = {
        "TempCardsEncode": ["true"],
        "TempCardsKeyAlgorithm": ["P-256"],
        "TempCardsCertificates": ["authentication", "encryption"],
        **options,
    }
    await kit.save_options(root, TEMPORARY_CARDS, **form)
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    wanted = {"Label": ["Visitor 7"], "Serial": [serial], CHOICE: [NAME]}
    await kit.services.next(olga, view.id, view.version, wanted)
    async with kit.database.read() as tx:
        found = (await tx.scalars(select(Card.id).where(Card.label == "Visitor 7"))).one()
    await temporary(kit, olga, IssueTemporaryCard.name, found)
    await temporary(kit, olga, AssignTemporaryCard.name, found, {"Person": [holder.user.email]})
    return found


async def temporary(
    kit: Kit, session: Session, process: str, card: str, form: dict[str, list[str]] | None = None
) -> ProcessView:
    """Start a process on a temporary card, and take its first step."""
    view = await kit.services.start_process(session, process, ObjectRef("temporary_card", card))
    return await kit.services.next(session, view.id, view.version, form or {})


async def carried_out(stage: Stage, session: Session, view: ProcessView, answers: Sequence[Answer]) -> str:
    """Open the link of a process's order, type the number if one is shown, and answer the window; how it ended."""
    code = await stage.kit.services.new_code(session, view.id)
    windows = stage.victim.windows
    windows.answers = answers
    before = len(windows.opened)
    ending = stage.open_link(stage.victim, code.link)
    typing = asyncio.create_task(_type_number(stage, session, view.id, before))
    try:
        ended = await outcome(ending)
        await stage.kit.ended(session, view.id)  # the portal knows it, too
        return ended
    finally:
        typing.cancel()
        await asyncio.gather(typing, return_exceptions=True)


async def done(stage: Stage, session: Session, view: ProcessView, answers: Sequence[Answer]) -> None:
    """Carry an order out that goes well, and close its process."""
    ended = await carried_out(stage, session, view, answers)
    assert ended == "finished"
    view = await stage.kit.services.process(session, view.id)
    await stage.kit.services.next(session, view.id, view.version)


async def first_pin(kit: Kit, card: str) -> bytes:
    """The PIN that the portal has drawn, as its letter would tell it."""
    async with kit.database.read() as tx:
        letter = await tx.get_one(CardLetter, (card, card_letters.PIN))
        return bytes(card_letters.secret_of(kit.portal.context, await tx.get_one(Card, card), letter))


async def _type_number(stage: Stage, session: Session, process: str, before: int) -> None:
    windows = stage.victim.windows
    async with windows.changed:
        await windows.changed.wait_for(lambda: len(windows.opened) > before)
    window = windows.opened[before]
    await window.until("number")
    assert window.number is not None
    await stage.kit.bind(session, process, window.number)
