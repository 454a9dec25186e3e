"""Where each kind of object is searched: its table, what a filter means there, and what a row says.

Each condition can be answered from an index. A text can be answered in two ways, and ``portal.staff.search`` picks one:
``narrow`` leads from the few people and numbers that fit to the few objects; ``fits`` tells of each object, read in
their order, whether it does, which is quick when many do. A text is never a pattern: ``%`` and ``_`` in it are
themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import String, and_, cast, or_, select

from portal.processes import card_serials
from portal.processes.ca_changes import PENDING, Change
from portal.staff.times import day
from portal.staff.views import Hit, Link
from portal.store.tables import Card, Certificate, Device, KnownDevice, Process, Revocation, User

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Select, SQLColumnExpression
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.staff.filters import Filter

Conditions = list["ColumnElement[bool]"]
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{2,64}\Z")


@dataclass(frozen=True, slots=True)
class Order:
    """What pages are cut by: a column that isn't unique, the id behind it, and the direction of both."""

    column: SQLColumnExpression[int]
    newest_first: bool = True


class Source(Protocol):
    """Where a kind is searched."""

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the cells of a row."""

    def order(self, asked: Filter) -> Order:
        """What its pages are cut by."""

    def conditions(self, asked: Filter) -> Conditions:
        """What a row has to fulfil, but for the text."""

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """Ids of all that fit a text, given the ids of all people who do."""

    def fits(self, text: str) -> ColumnElement[bool]:
        """Whether a row fits a text."""

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """The rows of some ids."""


class Users:
    """People with an account."""

    columns = ("E-mail address", "Name", "Roles", "Added")

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""
        return User.id

    def order(self, _asked: Filter) -> Order:
        """By the day they were added."""
        return Order(User.created_at)

    def conditions(self, asked: Filter) -> Conditions:
        """State, role, day."""
        found = _between(asked, User.created_at)
        if asked.get("state"):
            found.append(User.state == asked.get("state"))
        if asked.get("role"):
            # a list of words in JSON: the quotes keep one role from being a part of another
            found.append(cast(User.roles, String).contains(f'"{asked.get("role")}"', autoescape=True))
        return found

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """The people themselves, or one by id."""
        return [select(User.id).where(User.id.in_([*people, text]))]

    def fits(self, text: str) -> ColumnElement[bool]:
        """By name, address or id."""
        return or_(named(text), User.id == text)

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """Address, name, roles, day."""
        rows = await tx.scalars(select(User).where(User.id.in_(ids)))
        return {
            row.id: Hit(
                Link("user", row.id, row.email),
                row.state,
                (row.email, row.name, ", ".join(row.roles), day(row.created_at)),
            )
            for row in rows
        }


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards of one kind."""

    kind: str
    columns = ("Label", "Holder", "Serial", "Valid until", "Made")

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""
        return Card.id

    def order(self, _asked: Filter) -> Order:
        """By the day they were made."""
        return Order(Card.created_at)

    def conditions(self, asked: Filter) -> Conditions:
        """Kind, state, day."""
        found = [Card.kind == self.kind, *_between(asked, Card.created_at)]
        if asked.get("state"):
            found.append(Card.state == asked.get("state"))
        return found

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """By holder, label, id, beginning of serial or GUID, and the serial whatever zeros it begins with."""
        conditions = [Card.owner_id.in_(people), *self._own(text)]
        return [select(Card.id).where(Card.kind == self.kind, condition) for condition in conditions]

    def fits(self, text: str) -> ColumnElement[bool]:
        """The same."""
        return or_(_of_person(Card.owner_id, text), *self._own(text))

    def _own(self, text: str) -> Conditions:
        found: Conditions = [Card.label.icontains(text, autoescape=True), Card.id == text]
        if number := _number(text):
            found += [_begins(Card.serial, number), _begins(Card.guid, number)]
            found.append(Card.serial.in_(card_serials.forms(number)))
        if text != number:
            found.append(Card.serial == text)  # a token's, which is kept to the letter
        return found

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """Label, holder, serial, validity, day."""
        query = select(Card, User.email).join(User, User.id == Card.owner_id).where(Card.id.in_(ids))
        return {
            row.id: Hit(
                Link(row.kind, row.id, row.label),
                row.state,
                (row.label, email, row.serial, day(row.valid_until), day(row.created_at)),
                "restored from an old copy" if row.restored_at is not None else "",
            )
            for row, email in (await tx.execute(query))
        }


class Certificates:
    """Certificates, from the moment the CA has answered."""

    columns = ("Serial", "Owner", "Profile", "Expires", "Issued", "In the CA")

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""
        return Certificate.id

    def order(self, asked: Filter) -> Order:
        """What expires first, when that was asked; else what was issued last."""
        if asked.get("expires_from") or asked.get("expires_to"):
            return Order(Certificate.not_after, newest_first=False)
        return Order(Certificate.created_at)

    def conditions(self, asked: Filter) -> Conditions:
        """Profile, both states, pending revocation, days."""
        found = _between(asked, Certificate.created_at)
        found += _between(asked, Certificate.not_after, "expires_from", "expires_to")
        for column in (Certificate.profile, Certificate.state, Certificate.ca_state):
            if wanted := asked.get(column.key):
                found.append(column == wanted)
        if asked.flag("pending"):
            revoked = select(Revocation.certificate_id).where(Revocation.change == Change.REVOKE.value)
            found.append(Certificate.id.in_(revoked))
        return found

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """By owner, id, beginning of the serial number."""
        conditions = [Certificate.owner_id.in_(people), *self._own(text)]
        return [select(Certificate.id).where(condition) for condition in conditions]

    def fits(self, text: str) -> ColumnElement[bool]:
        """The same."""
        return or_(_of_person(Certificate.owner_id, text), *self._own(text))

    def _own(self, text: str) -> Conditions:
        number = _number(text)
        return [Certificate.id == text, *([_begins(Certificate.serial, number)] if number else [])]

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """Serial, owner, profile, days, state in the CA; what waits for the CA beside the state."""
        query = (
            select(
                Certificate.id,
                Certificate.serial,
                Certificate.state,
                User.email,
                Certificate.profile,
                Certificate.not_after,
                Certificate.created_at,
                Certificate.ca_state,
                Revocation.change,
            )
            .join(User, User.id == Certificate.owner_id)
            .outerjoin(Revocation, Revocation.certificate_id == Certificate.id)
            .where(Certificate.id.in_(ids))
        )
        return {
            key: Hit(
                Link("certificate", key, serial),
                state,
                (serial, email, profile, day(not_after), day(created_at), ca_state),
                PENDING[Change(change)] if change else "",  # none waits: an outer join
            )
            for key, serial, state, email, profile, not_after, created_at, ca_state, change in (
                await tx.execute(query)
            )
        }


class Devices:
    """Devices that have claimed an order."""

    columns = ("Name", "Platform", "Inlay", "First seen", "Last seen")

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""
        return Device.jkt

    def order(self, _asked: Filter) -> Order:
        """By when they were seen last."""
        return Order(Device.last_seen_at)

    def conditions(self, asked: Filter) -> Conditions:
        """Day."""
        return _between(asked, Device.last_seen_at)

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """By name, platform, id, or a person who has used it."""
        return [
            *(select(Device.jkt).where(condition) for condition in self._own(text)),
            select(KnownDevice.jkt).where(KnownDevice.user_id.in_(people)),
        ]

    def fits(self, text: str) -> ColumnElement[bool]:
        """The same."""
        known = select(KnownDevice.jkt).where(
            KnownDevice.jkt == Device.jkt, _of_person(KnownDevice.user_id, text)
        )
        return or_(*self._own(text), known.exists())

    def _own(self, text: str) -> Conditions:
        texts = (Device.name, Device.platform)
        return [Device.jkt == text, *(column.icontains(text, autoescape=True) for column in texts)]

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """Name, platform, version, days."""
        rows = await tx.scalars(select(Device).where(Device.jkt.in_(ids)))
        return {
            row.jkt: Hit(
                Link("device", row.jkt, row.name),
                "",
                (row.name, row.platform, row.agent_version, day(row.first_seen_at), day(row.last_seen_at)),
            )
            for row in rows
        }


@dataclass(frozen=True, slots=True)
class Processes:
    """Process instances; ``titles`` are those of the processes that this portal has."""

    titles: Mapping[str, str]
    columns = ("Process", "User", "Step", "Started", "Changed")

    @property
    def id(self) -> SQLColumnExpression[str]:
        """The key."""
        return Process.id

    def order(self, _asked: Filter) -> Order:
        """By when they were started."""
        return Order(Process.created_at)

    def conditions(self, asked: Filter) -> Conditions:
        """Name, state, day."""
        found = _between(asked, Process.created_at)
        for column in (Process.name, Process.state):
            if wanted := asked.get(column.key):
                found.append(column == wanted)
        return found

    def narrow(self, text: str, people: Sequence[str]) -> Sequence[Select[str]]:
        """By user or id."""
        conditions = (Process.user_id.in_(people), Process.id == text)
        return [select(Process.id).where(condition) for condition in conditions]

    def fits(self, text: str) -> ColumnElement[bool]:
        """The same."""
        return or_(_of_person(Process.user_id, text), Process.id == text)

    async def hits(self, tx: AsyncSession, ids: Sequence[str]) -> dict[str, Hit]:
        """Title, user, step, days."""
        query = select(Process, User.email).join(User, User.id == Process.user_id).where(Process.id.in_(ids))
        return {
            row.id: Hit(
                Link("process", row.id, self.titles.get(row.name, row.name)),
                row.state,
                (
                    self.titles.get(row.name, row.name),
                    email,
                    row.step,
                    day(row.created_at),
                    day(row.changed_at),
                ),
            )
            for row, email in (await tx.execute(query))
        }


def sources(process_titles: Mapping[str, str]) -> dict[str, Source]:
    """Where each kind is searched."""
    kinds = ("virtual_smart_card", "temporary_card", "card", "mobile_id")
    return {
        "user": Users(),
        **{kind: Cards(kind) for kind in kinds},
        "certificate": Certificates(),
        "device": Devices(),
        "process": Processes(process_titles),
    }


def _between(
    asked: Filter, column: SQLColumnExpression[int], first: str = "since", last: str = "until"
) -> Conditions:
    found: Conditions = []
    if (start := asked.start_of(first)) is not None:
        found.append(column >= start)
    if (end := asked.end_of(last)) is not None:
        found.append(column < end)
    return found


def named(text: str) -> ColumnElement[bool]:
    """Whether a person's name or address (which is kept in lower case) holds a text."""
    return or_(User.email.contains(text.lower(), autoescape=True), User.name.icontains(text, autoescape=True))


def _of_person(owner: SQLColumnExpression[str], text: str) -> ColumnElement[bool]:
    return select(User.id).where(User.id == owner, named(text)).exists()


def _number(text: str) -> str:
    """A serial number as it is stored, from one that was written with spaces or colons; empty for other texts."""
    plain = text.replace(":", "").replace(" ", "").lower()
    return plain if _HEXADECIMAL.match(plain) else ""


def _begins(column: SQLColumnExpression[str], number: str) -> ColumnElement[bool]:
    """A range instead of LIKE, which no collation keeps from the index; "g" comes after every hexadecimal digit."""
    return and_(column >= number, column < number + "g")
