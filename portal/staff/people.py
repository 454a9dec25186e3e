"""Accounts as an administrator changes them: with a reason, and never without an administrator left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import String, delete, or_, select
from sqlalchemy import cast as sql_cast

from portal.accounts import problems
from portal.errors import FieldErrors, NotFound, StalePage
from portal.model.options import Form, Option
from portal.model.states import Role, UserState
from portal.store import audit
from portal.store.tables import LoginSession, User

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

_ROLES: Final = Option(
    "roles",
    "Roles",
    "self-service: gets own cards. operator: searches, and works on others' cards. approver: agrees to what "
    "needs two persons. administrator: options, users, audit.",
    "choices",
    [Role.SELF_SERVICE.value],
    choices=tuple(role.value for role in Role),
)
NEW: Final = Form(
    (
        Option("email", "E-mail address", "What the person logs in with.", "text", "", low=1, high=254),
        Option("name", "Name", "As certificates show it.", "text", "", low=1, high=200),
        _ROLES,
    )
)
"""A new account, but for its password, which is never shown again."""
CHANGE: Final = Form(
    (
        _ROLES,
        Option(
            "state",
            "State",
            "active: everything. inactive: logs in and starts nothing. locked: can't log in, and is logged out now.",
            "choice",
            UserState.ACTIVE.value,
            choices=tuple(state.value for state in UserState),
        ),
        Option(
            "reason",
            "Reason",
            "Why. It stays in the account's history.",
            "text",
            "",
            low=3,
            high=200,
        ),
    )
)
_LAST: Final = "This is the last active administrator: nobody could undo it. Make another one first."


def new_account(form: Mapping[str, Sequence[str]], password: str) -> tuple[str, str, list[Role]]:
    """Read the form of a new account: address, name, roles.

    Raises:
        FieldErrors: all that is wrong, also with the password, not only the first.
    """
    sent = {name: (form.get(name) or [""])[-1].strip() for name in ("email", "name")}
    errors = problems(sent["email"].lower(), sent["name"], password)
    roles = form.get("roles", [])
    try:
        _ROLES.parse(roles)
    except FieldErrors as error:
        errors |= error.errors
    if errors:
        raise FieldErrors(errors)
    return sent["email"], sent["name"], [Role(role) for role in roles]


def mark_of(user: User) -> str:
    """What a page that shows an account sends back, so that a change in between is noticed."""
    return "|".join([user.state, *sorted(user.roles)])


async def change(
    tx: AsyncSession, user_id: str, form: Mapping[str, Sequence[str]], shown: str, actor: str, now: int
) -> None:
    """Change an account. Sent twice, it is done once.

    Args:
        tx: a writing transaction.
        user_id: whose.
        form: as a page sends it.
        shown: the mark of the account as the page showed it.
        actor: who changes it.
        now: time.

    Raises:
        NotFound: no such user.
        FieldErrors: a field to what is wrong with it; the last active administrator stays one.
        StalePage: somebody changed it meanwhile.
    """
    values = CHANGE.parse(form)
    roles, state = sorted(cast(list[str], values["roles"])), cast(str, values["state"])
    user, others = await _locked(tx, user_id)
    if (sorted(user.roles), user.state) == (roles, state):
        return
    if mark_of(user) != shown:
        raise StalePage(0)
    stays = Role.ADMINISTRATOR.value in roles and state == UserState.ACTIVE
    if _administers(user) and not stays and not any(_administers(other) for other in others):
        raise FieldErrors({"state" if Role.ADMINISTRATOR.value in roles else "roles": _LAST})
    reason = cast(str, values["reason"])
    if state != user.state:
        await _note(tx, user, "user.state", actor, now, before=user.state, after=state, reason=reason)
    if roles != sorted(user.roles):
        await _note(tx, user, "user.roles", actor, now, before=user.roles, after=roles, reason=reason)
    user.roles, user.state = roles, state
    if state == UserState.LOCKED:
        await tx.execute(delete(LoginSession).where(LoginSession.user_id == user.id))


async def _locked(tx: AsyncSession, user_id: str) -> tuple[User, list[User]]:
    """The account, and all administrators, locked in the order of their ids: two changes wait for each other."""
    administers = sql_cast(User.roles, String).contains(f'"{Role.ADMINISTRATOR.value}"', autoescape=True)
    query = select(User).where(or_(User.id == user_id, administers)).order_by(User.id)
    rows = list(await tx.scalars(query.with_for_update().execution_options(populate_existing=True)))
    user = next((row for row in rows if row.id == user_id), None)
    if user is None:
        raise NotFound("user")
    return user, [row for row in rows if row.id != user_id]


def _administers(user: User) -> bool:
    return Role.ADMINISTRATOR.value in user.roles and user.state == UserState.ACTIVE


async def _note(
    tx: AsyncSession, user: User, action: str, actor: str, now: int, **details: str | list[str]
) -> None:
    await audit.record(tx, at=now, actor=actor, action=action, kind="user", object_id=user.id, **details)
