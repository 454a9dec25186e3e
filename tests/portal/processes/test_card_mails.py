"""Mails with PIN and PUK of a card: one that isn't true any more never goes out, one that failed is said."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.config import Config, Mail
from portal.mail import outbox
from portal.mail.sender import MailSender
from portal.model.objects import CoreObject, ObjectKind
from portal.processes.abort_card import AbortCard
from portal.processes.activate_card import ActivateCard
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.lock_card import LockCard
from portal.processes.set_first_pin import SetFirstPin
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.store.tables import AuditEntry, User
from portal.store.tables import Mail as Row
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import Changing, ErrorData, Finished, Proceed, Receipt, UnblockPin, Undo, Undone
from tests.support import issued_cards as cards
from tests.support.certificates import ThrowAwayCA
from tests.support.databases import BACKENDS
from tests.support.issued_cards import Begun, Staff
from tests.support.mail_server import MailServer, mail_server
from tests.support.portal_kit import running_portal
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

AWAY = Mail(host="127.0.0.1", sender="portal@example.org", port=1)
BOTH = {"CardsPINDelivery": ["email"], "CardsPUKDelivery": ["email"]}
on_both = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def kit(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kit]:
    """A portal that may send mails, and sends none by itself: when one goes out is the test's to say."""
    monkeypatch.setattr("portal.app.MailSender", lambda context, _server: MailSender(context, None))
    async with running_portal(tmp_path, database=database_url, mail=AWAY) as running:
        yield running


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Administrator, operator, approver."""
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


async def mailed(kit: Kit, people: Staff, ada: Session, **changed: list[str]) -> tuple[str, Begun]:
    """A card that was issued, and whose mails wait."""
    await cards.options(kit, people.root, **{**BOTH, **changed})
    return await cards.issued(kit, people, ada)


async def active(kit: Kit, people: Staff, ada: Session) -> tuple[str, Begun]:
    """A card that was activated without its proof, which would drop the mail with its PIN, and whose mails wait."""
    card, work = await mailed(kit, people, ada, CardsActivationNeedsCard=["false"])
    await cards.step(kit, ada, ActivateCard.name, card, {})
    return card, work


async def waiting(kit: Kit) -> list[str]:
    """Kinds of the mails that aren't sent."""
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Row.kind).order_by(Row.kind)))


async def began(
    kit: Kit, who: Session, name: str, card: str, form: dict[str, list[str]], work: Begun
) -> tuple[ProcessView, SoftwareAgent]:
    """An order that the device with the card has claimed."""
    view = await cards.step(kit, who, name, card, form)
    code = await kit.services.new_code(who, view.id)
    agent = await kit.agent()
    agent.device, agent.card = work.agent.device, work.agent.card
    await agent.claim(code.code)
    return view, agent


async def at_work(
    kit: Kit, who: Session, name: str, card: str, form: dict[str, list[str]], work: Begun
) -> tuple[ProcessView, SoftwareAgent]:
    """An order that a device was told to go on with."""
    view, agent = await began(kit, who, name, card, form, work)
    await agreed(kit, who, view, agent)
    return view, agent


async def agreed(kit: Kit, who: Session, view: ProcessView, agent: SoftwareAgent) -> None:
    """Consent, and the number where one is asked for."""
    assert agent.order is not None
    if agent.order.binding == "number":
        await agent.consent(number="417")
        await kit.bind(who, view.id, "417")
    else:
        await agent.consent()
    assert isinstance(await agent.hear(), Proceed)


async def carried_out(kit: Kit, agent: SoftwareAgent) -> None:
    """Wait until the portal has done what the device's messages ask for."""
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)


async def sent(kit: Kit, folder: Path, answers: list[str] | None = None) -> list[str]:
    """What the mail server gets now: the texts."""
    (folder / "tls").mkdir(exist_ok=True)
    ca = ThrowAwayCA(folder / "tls")
    kit.clock.now += 60
    async with mail_server(ca) as server:
        server.answers = answers or []
        await sender(kit, server, ca).run_due()
    return [base64_or_plain(mail) for mail in server.mails]


def sender(kit: Kit, server: MailServer, ca: ThrowAwayCA) -> MailSender:
    mail = Mail(
        host="127.0.0.1", port=server.port, sender="portal@example.org", ca_file=str(ca.ca_file), seconds=5
    )
    config = Config(origin="https://portal.test", name="P", database="", key_file="", mail=mail)
    return MailSender(kit.portal.context, config.mail_server())


def base64_or_plain(mail: bytes) -> str:
    """A mail's text, however it was put on its way."""
    head, _, body = mail.partition(b"\r\n\r\n")
    return (base64.b64decode(body) if b"base64" in head else body).decode()


CHANGE, UNBLOCK = {"Action": ["change"], "PUK": ["portal"]}, {"Action": ["unblock"], "PUK": ["portal"]}


# --- a PIN that isn't true any more, or may not be


@on_both
@pytest.mark.parametrize("form", [CHANGE, UNBLOCK], ids=["change", "unblock"])
async def test_no_mail_tells_a_pin_once_an_order_that_sets_another_has_gone_to_work(
    kit: Kit, people: Staff, ada: Session, tmp_path: Path, form: dict[str, list[str]]
) -> None:
    """The card has another PIN before the portal hears of it: whatever goes out just then tells no old one."""
    card, work = await active(kit, people, ada)
    assert await waiting(kit) == ["card_pin", "card_puk"]
    view, agent = await began(kit, ada, UnblockChangePin.name, card, form, work)
    assert await waiting(kit) == ["card_pin", "card_puk"]  # nobody has agreed yet
    await agreed(kit, ada, view, agent)
    texts = await sent(kit, tmp_path)
    assert len(texts) == 1
    assert "the PUK of your card" in texts[0]
    assert work.pin not in texts[0]
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    assert (await waiting(kit), await sent(kit, tmp_path)) == ([], [])


async def test_before_consent_and_by_an_order_that_changes_no_pin_none_is_dropped(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work = await active(kit, people, ada)
    view, agent = await began(kit, ada, UnblockChangePin.name, card, UNBLOCK, work)
    await kit.services.cancel(ada, view.id)
    assert isinstance(await agent.hear(), Undo)
    await agent.say(Undone(error=ErrorData(error="cancelled_at_portal")))
    await carried_out(kit, agent)
    assert await waiting(kit) == ["card_pin", "card_puk"]
    await at_work(kit, ada, "CardsSelfServiceProcVerifyPIN", card, {}, work)
    assert await waiting(kit) == ["card_pin", "card_puk"]


@on_both
@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("card_pin_unknown", False),
        ("internal", False),
        ("journal_unusable", False),
        ("user_cancelled", True),
        ("card_puk_blocked", True),
    ],
)
async def test_a_letter_with_a_pin_that_may_not_be_true_is_not_printed(
    kit: Kit, people: Staff, ada: Session, code: str, kept: bool
) -> None:
    """The holder has the PUK already and sets a PIN, while the letter with the first one isn't printed yet."""
    ways = {"CardsPINDelivery": ["print"], "CardsPUKDelivery": ["print"]}
    card, work = await mailed(kit, people, ada, **ways)
    _, agent = await at_work(kit, ada, SetFirstPin.name, card, {}, work)
    assert [letter.kind for letter in await cards.letters(kit)] == ["pin", "puk"]
    await agent.say(Undone(error=ErrorData(error=code)))
    await carried_out(kit, agent)
    assert [letter.kind for letter in await cards.letters(kit)] == (["pin", "puk"] if kept else [])


async def test_undone_by_the_portal_while_the_card_may_have_taken_another_pin_nothing_tells_the_first(
    kit: Kit, people: Staff, ada: Session
) -> None:
    ways = {"CardsPINDelivery": ["print"], "CardsPUKDelivery": ["print"]}
    card, work = await mailed(kit, people, ada, **ways)
    view, agent = await at_work(kit, ada, SetFirstPin.name, card, {}, work)
    await kit.services.cancel(ada, view.id)
    await agent.say(Receipt(guid=agent.card.guid))  # on its way already: the card has the new PIN
    assert isinstance(await agent.hear(), Undo)
    assert await cards.letters(kit) == []
    assert await state_of_card(kit, card) == "Issued"


@on_both
@pytest.mark.parametrize("replaced", [True, False])
async def test_no_mail_tells_the_puk_of_before(kit: Kit, people: Staff, ada: Session, replaced: bool) -> None:
    card, work = await active(kit, people, ada)
    _, agent = await at_work(kit, people.olga, ChangeCardPuk.name, card, {"PUK": ["portal"]}, work)
    await agent.say(Changing())
    await agent.say(Receipt(guid=agent.card.guid, puk_replaced=replaced))
    assert isinstance(await agent.hear(), Finished)
    assert await waiting(kit) == (["card_pin"] if replaced else ["card_pin", "card_puk"])


async def test_no_mail_tells_a_puk_that_may_be_another_by_now(kit: Kit, people: Staff, ada: Session) -> None:
    card, work = await active(kit, people, ada)
    _, agent = await at_work(kit, people.olga, ChangeCardPuk.name, card, {"PUK": ["portal"]}, work)
    await agent.say(Changing())
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    await carried_out(kit, agent)
    assert await waiting(kit) == ["card_pin"]


# --- a card at its end


@on_both
async def test_an_aborted_card_has_no_mails(kit: Kit, people: Staff, ada: Session, tmp_path: Path) -> None:
    """None is made before a card is Issued, and none may wait, whatever made it."""
    card = await cards.approved(kit, people, ada)
    async with kit.database.write() as tx:
        holder = await tx.get_one(User, ada.user.id)
        about = CoreObject(ObjectKind.CARD, card)
        for kind in ("card_pin", "card_puk", "card_expiry"):
            await outbox.add(
                tx,
                kit.portal.context,
                outbox.Draft(to=holder, kind=kind, subject=kind, text="283917\n", about=about),
            )
    await cards.step(kit, people.olga, AbortCard.name, card, {"Reason": ["not needed"]})
    assert await waiting(kit) == ["card_expiry"]
    assert len(await sent(kit, tmp_path)) == 1


@on_both
@pytest.mark.parametrize("end", ["locked", "expired"])
async def test_a_card_that_is_issued_and_at_its_end_has_no_mails(
    kit: Kit, people: Staff, ada: Session, tmp_path: Path, end: str
) -> None:
    card, _ = await mailed(kit, people, ada, CardsValidityDays=["1"])
    if end == "locked":
        await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
    else:
        kit.clock.now += 86_400
        await kit.portal.expiry.run_due()
    assert await waiting(kit) == []
    assert await sent(kit, tmp_path) == []
    async with kit.database.read() as tx:
        dropped = select(AuditEntry.details).where(AuditEntry.action == "mail.dropped")
        assert {row["mail"] for row in await tx.scalars(dropped)} == {"card_pin", "card_puk"}


# --- a mail that failed


async def pin_line(kit: Kit, ada: Session, card: str) -> str:
    """What *Activate card* says of the PIN."""
    view = await kit.services.start_process(ada, ActivateCard.name, ObjectRef("card", card))
    await kit.services.cancel(ada, view.id)
    return view.facts["PIN"]


async def give_up(kit: Kit, people: Staff, kind: str) -> None:
    """An administrator gives a mail up."""
    async with kit.database.read() as tx:
        (found,) = await tx.scalars(select(Row.id).where(Row.kind == kind))
    async with kit.database.write() as tx:
        await outbox.give_up(tx, found, people.root.user.email, kit.clock())


async def pin_refused(kit: Kit, ada: Session, card: str) -> str:
    """Why its holder can't set a PIN now."""
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    return caught.value.code


@on_both
async def test_activation_says_how_the_mail_with_the_pin_stands(
    kit: Kit, people: Staff, ada: Session, tmp_path: Path
) -> None:
    card, _ = await mailed(kit, people, ada, CardsPUKDelivery=["nopuk"])
    assert "not sent yet" in await pin_line(kit, ada, card)
    assert await pin_refused(kit, ada, card) == "card_pin_told"
    assert len(await sent(kit, tmp_path, ["451 4.7.1 later"])) == 0
    assert "not sent yet" in await pin_line(kit, ada, card)
    assert len(await sent(kit, tmp_path)) == 1
    assert "that a mail told you" in await pin_line(kit, ada, card)
    assert await pin_refused(kit, ada, card) == "card_pin_told"


@on_both
@pytest.mark.parametrize("how", ["refused", "given up", "too late"])
async def test_whose_mail_with_the_pin_failed_is_told_so_and_sets_another_one(
    kit: Kit, people: Staff, ada: Session, tmp_path: Path, how: str
) -> None:
    card, work = await mailed(kit, people, ada, CardsPUKDelivery=["nopuk"])
    if how == "given up":
        await give_up(kit, people, "card_pin")
    elif how == "refused":
        assert await sent(kit, tmp_path, ["550 5.1.1 nobody here"]) == []
    else:
        async with kit.database.write() as tx:
            (await tx.scalars(select(Row))).one().until = kit.clock()
        assert await sent(kit, tmp_path) == []
    line = await pin_line(kit, ada, card)
    assert "was not sent" in line
    assert "Set PIN" in line
    _, agent = await at_work(kit, ada, SetFirstPin.name, card, {}, work)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, UnblockPin)
    assert agent.order.parameters.puk == "escrow"
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    assert (await waiting(kit), await sent(kit, tmp_path)) == ([], [])
    assert await pin_line(kit, ada, card) == "Inlay asks for the one that you have chosen with Set PIN"


async def test_a_puk_whose_mail_failed_is_not_asked_for(kit: Kit, people: Staff, ada: Session) -> None:
    card, _ = await mailed(kit, people, ada, CardsPINDelivery=["nopin"])
    view = await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    assert "Inlay asks for it" in view.facts["PUK"]
    await kit.services.cancel(ada, view.id)
    await give_up(kit, people, "card_puk")
    view = await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    assert "the portal tells it the card" in view.facts["PUK"]
