"""Accounts and log-in sessions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, select

from portal.errors import FieldErrors, LoginRefused, NotFound
from portal.login_limits import LoginLimits
from portal.model.states import Role, UserState
from portal.passwords import MAX_LENGTH, MIN_LENGTH
from portal.processes.codes import digest
from portal.store import audit
from portal.store.tables import LoginSession, User
from portal.views import Login, Session, UserView
from protocol import jose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.clock import Clock
    from portal.passwords import Passwords
    from portal.store.database import Database

SESSION_SECONDS: Final = 8 * 3600
_MAX_EMAIL: Final = 254


class Accounts:
    """Makes users, logs them in and out."""

    def __init__(self, database: Database, passwords: Passwords, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock
        self._limits = LoginLimits(clock)

    async def add(
        self, email: str, name: str, password: str, roles: Iterable[Role], actor: str = "command line"
    ) -> UserView:
        """Make a user in state active.

        Raises:
            FieldErrors: ``email``, ``name`` or ``password``.
        """
        address = email.strip().lower()
        errors = problems(address, name, password)
        if errors:
            raise FieldErrors(errors)
        hashed = await self._passwords.hash(password)
        now = self._clock()
        async with self._database.write() as tx:
            if (await tx.execute(select(User.id).where(User.email == address))).first() is not None:
                raise FieldErrors({"email": "There is an account with this address already."})
            user = User(
                id=secrets.token_hex(16),
                email=address,
                name=name.strip(),
                state=UserState.ACTIVE.value,
                roles=sorted(role.value for role in roles),
                password_hash=hashed,
                created_at=now,
            )
            tx.add(user)
            await audit.record(
                tx, at=now, actor=actor, action="user.added", kind="user", object_id=user.id, roles=user.roles
            )
        return user_view(user)

    async def set_state(self, email: str, state: UserState, actor: str = "command line") -> UserView:
        """Set a user's state.

        Raises:
            NotFound: no such user.
        """
        async with self._database.write() as tx:
            query = select(User).where(User.email == email.strip().lower()).with_for_update()
            user = (await tx.execute(query)).scalar_one_or_none()
            if user is None:
                raise NotFound("user")
            before, user.state = user.state, state.value
            if state is UserState.LOCKED:
                await tx.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
            await audit.record(
                tx,
                at=self._clock(),
                actor=actor,
                action="user.state",
                kind="user",
                object_id=user.id,
                before=before,
                after=state.value,
            )
        return user_view(user)

    async def login(self, email: str, password: str, address: str) -> Login:
        """Log in with a new session; see ``portal.services``."""
        account = email.strip().lower()[:_MAX_EMAIL]
        counted = self._limits.take(account, address)
        async with self._database.read() as tx:
            user = (await tx.execute(select(User).where(User.email == account))).scalar_one_or_none()
        fits = await self._passwords.verify(user.password_hash if user else None, password)
        if user is None or not fits or user.state == UserState.LOCKED:
            await self._note_refusal(user, address)
            raise LoginRefused
        self._limits.succeeded(counted)
        return await self._open(user)

    async def session(self, token: str) -> Session | None:
        """The session of a cookie's value."""
        query = select(LoginSession, User).join(User, User.id == LoginSession.user_id)
        async with self._database.read() as tx:
            found = (await tx.execute(query.where(LoginSession.token_hash == digest(token)))).one_or_none()
        if found is None:
            return None
        row, user = found
        if row.expires_at <= self._clock() or user.state == UserState.LOCKED:
            return None
        return Session(row.id, user_view(user), row.csrf_token, row.expires_at)

    async def logout(self, session: Session) -> None:
        """End a session."""
        async with self._database.write() as tx:
            await tx.execute(delete(LoginSession).where(LoginSession.id == session.id))
            await audit.record(
                tx,
                at=self._clock(),
                actor=session.user.email,
                action="session.ended",
                kind="session",
                object_id=session.id,
            )

    async def _open(self, user: User) -> Login:
        now = self._clock()
        token = jose.base64url(secrets.token_bytes(32))
        row = LoginSession(
            id=secrets.token_hex(16),
            token_hash=digest(token),
            user_id=user.id,
            csrf_token=jose.base64url(secrets.token_bytes(32)),
            created_at=now,
            expires_at=now + SESSION_SECONDS,
        )
        async with self._database.write() as tx:
            await tx.execute(delete(LoginSession).where(LoginSession.expires_at <= now))
            tx.add(row)
            await audit.record(
                tx, at=now, actor=user.email, action="session.opened", kind="session", object_id=row.id
            )
        return Login(token, Session(row.id, user_view(user), row.csrf_token, row.expires_at))

    async def _note_refusal(self, user: User | None, address: str) -> None:
        async with self._database.write() as tx:
            await audit.record(
                tx,
                at=self._clock(),
                actor="portal",
                action="session.refused",
                kind="user",
                object_id=user.id if user else "unknown",
                address=address,
            )


def user_view(user: User) -> UserView:
    """A user as pages see one."""
    roles = frozenset(Role(role) for role in user.roles)
    return UserView(user.id, user.email, user.name, UserState(user.state), roles)


def problems(email: str, name: str, password: str) -> dict[str, str]:
    """What is wrong with a new account: ``email``, ``name`` or ``password`` to a sentence."""
    errors: dict[str, str] = {}
    local, at, domain = email.partition("@")
    plain = email.isascii() and email.isprintable() and " " not in email
    if not (local and at and domain) or "@" in domain or not plain or len(email) > _MAX_EMAIL:
        errors["email"] = "This is not an e-mail address."
    if not name.strip() or not name.isprintable() or len(name) > 200:
        errors["name"] = "A name of 1 to 200 printable characters is needed."
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        errors["password"] = f"A password of {MIN_LENGTH} to {MAX_LENGTH} characters is needed."
    return errors
