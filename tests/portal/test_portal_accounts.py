"""Log-in, sessions, roles and options through the services that pages use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.accounts import SESSION_SECONDS
from portal.errors import FieldErrors, Forbidden, LoginRefused, NotFound, StalePage
from portal.model.states import Role, UserState
from portal.model.virtual_card_options import NAME as CARD_OPTIONS
from portal.model.virtual_card_options import SCRIPT
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.processes.read_card import ReadCardInReader
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import LoginSession, User
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Ticket
from protocol.page_messages import TICKET_SECONDS
from tests.support.portal_kit import PASSWORD, PROCESS

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit

_ADDRESS = "192.0.2.7"


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.org", "wrong"),
        ("nobody@example.org", PASSWORD),
        ("ada@example.org", ""),
        ("ada@example.org", "x" * 10_000),
    ],
)
async def test_login_refused(kit: Kit, email: str, password: str) -> None:
    """The same answer whatever is wrong."""
    await kit.person()
    with pytest.raises(LoginRefused) as caught:
        await kit.services.login(email, password, _ADDRESS)
    assert str(caught.value) == "The e-mail address or the password is wrong."


async def test_login_is_limited(kit: Kit) -> None:
    """Ten wrong passwords for an account; then even the right one waits."""
    await kit.person()
    for _ in range(10):
        with pytest.raises(LoginRefused):
            await kit.services.login("ADA@example.org ", "wrong", _ADDRESS)
    with pytest.raises(InlayError) as caught:
        await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)
    assert caught.value.code == "rate_limited"
    kit.clock.now += 901
    login = await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)
    assert login.session.user.email == "ada@example.org"


async def test_wrong_passwords_of_others_lock_nobody_out(kit: Kit) -> None:
    """Ten from a network; its neighbours are refused then, and the owner elsewhere isn't."""
    await kit.person()
    for host in range(10):
        with pytest.raises(LoginRefused):
            await kit.services.login("ada@example.org", "wrong", f"203.0.113.{host}")
    with pytest.raises(InlayError) as caught:
        await kit.services.login("ada@example.org", PASSWORD, "203.0.113.200")
    assert caught.value.code == "rate_limited"
    login = await kit.services.login("ada@example.org", PASSWORD, "198.51.100.7")
    assert login.session.user.email == "ada@example.org"


async def test_locked_users_have_no_session(kit: Kit) -> None:
    """Neither a new one nor the one they had."""
    await kit.person()
    login = await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    assert await kit.services.session(login.token) is None
    with pytest.raises(LoginRefused):
        await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)


async def test_sessions_end(kit: Kit) -> None:
    """By time, by logging out; a token that nobody has is nobody's; tokens aren't stored."""
    await kit.person()
    first = await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)
    second = await kit.services.login("ada@example.org", PASSWORD, _ADDRESS)
    assert first.token != second.token
    assert first.token not in repr(first)
    async with kit.database.read() as tx:
        stored = list(await tx.scalars(select(LoginSession.token_hash)))
    assert first.token not in stored
    assert await kit.services.session("x" * 43) is None
    await kit.services.logout(first.session)
    assert await kit.services.session(first.token) is None
    assert await kit.services.session(second.token) is not None
    kit.clock.now += SESSION_SECONDS
    assert await kit.services.session(second.token) is None


@pytest.mark.parametrize(
    ("email", "name", "password", "fields"),
    [
        ("no address", "Ada", PASSWORD, {"email"}),
        ("a@b@c", "Ada", PASSWORD, {"email"}),
        ("ada@example.org", " ", PASSWORD, {"name"}),
        ("ada@example.org", "A\x00", PASSWORD, {"name"}),
        ("ada@example.org", "Ada", "short", {"password"}),
        ("@", "", "", {"email", "name", "password"}),
    ],
)
async def test_users_refused(kit: Kit, email: str, name: str, password: str, fields: set[str]) -> None:
    """Field by field."""
    with pytest.raises(FieldErrors) as caught:
        await kit.portal.accounts.add(email, name, password, [Role.SELF_SERVICE])
    assert set(caught.value.errors) == fields


async def test_one_account_for_an_address(kit: Kit) -> None:
    """In whatever spelling; passwords are Argon2id."""
    await kit.person()
    with pytest.raises(FieldErrors):
        await kit.portal.accounts.add("Ada@Example.org", "Ada", PASSWORD, [])
    with pytest.raises(NotFound):
        await kit.portal.accounts.set_state("nobody@example.org", UserState.ACTIVE)
    async with kit.database.read() as tx:
        assert (await tx.execute(select(User.password_hash))).scalar_one().startswith("$argon2id$")


async def test_the_start_page_says_why_not(kit: Kit) -> None:
    """Not active: offered with the reason; without the role: not offered, and refused."""
    session = await kit.person()
    (offer,) = await kit.services.dashboard(session)
    assert (offer.name, offer.refused, offer.open_process) == (PROCESS, None, None)
    await kit.portal.accounts.set_state("ada@example.org", UserState.INACTIVE)
    (offer,) = await kit.services.dashboard(await kit.login())
    assert offer.refused == "Your account is inactive; it must be active."
    operator = await kit.person("op@example.org", [Role.OPERATOR])
    offers = [offer.name for offer in await kit.services.dashboard(operator)]
    assert offers == [ReadCardInReader.name, RequestTemporaryCard.name, IssueMultipleTemporaryCards.name]
    approver = await kit.person("ap@example.org", [Role.APPROVER])
    assert await kit.services.dashboard(approver) == []
    with pytest.raises(Forbidden):
        await kit.services.start_process(operator, PROCESS)
    with pytest.raises(NotFound):
        await kit.services.start_process(session, "NoSuchProcess")


async def test_options_are_the_administrator_s(kit: Kit) -> None:
    """Refused by role, by field, by version; saved with who and when; read once by a process."""
    session = await kit.person()
    with pytest.raises(Forbidden):
        await kit.services.options(session, CARD_OPTIONS)
    with pytest.raises(Forbidden):
        await kit.services.save_options(session, CARD_OPTIONS, 0, {})
    admin = await kit.person("admin@example.org", [Role.ADMINISTRATOR])
    with pytest.raises(NotFound):
        await kit.services.options(admin, "NoSuchScript")
    form = SCRIPT.as_form((await kit.services.options(admin, CARD_OPTIONS)).values)
    with pytest.raises(FieldErrors):
        await kit.services.save_options(admin, CARD_OPTIONS, 0, {**form, "ValidityDays": ["0"]})
    before = await kit.services.start_process(session, PROCESS)
    saved = await kit.services.save_options(
        admin, CARD_OPTIONS, 0, {**form, "ProfileName": ["Card of ${name}"]}
    )
    assert (saved.version, saved.saved_by) == (1, "admin@example.org")
    assert set(saved.warnings) == {"PINMaxLength"}
    with pytest.raises(StalePage):
        await kit.services.save_options(admin, CARD_OPTIONS, 0, form)
    assert (await kit.services.process(session, before.id)).facts[
        "Card"
    ] == "Virtual smart card ada@example.org"
    await kit.services.cancel(session, before.id)
    after = await kit.services.start_process(session, PROCESS)
    assert after.facts["Card"] == "Card of Ada Example"


async def test_tickets_are_for_reading_on_this_portal_s_pages(kit: Kit) -> None:
    """Signed by an order key, five minutes long."""
    session = await kit.person()
    keys = [key.public for key in kit.portal.keys.order_keys()]
    ticket = jose.verify(await kit.services.ticket(session), jose.TICKET, keys, Ticket)
    assert (ticket.level, ticket.origin, ticket.exp - ticket.iat) == (
        "read",
        "https://portal.test",
        TICKET_SECONDS,
    )
