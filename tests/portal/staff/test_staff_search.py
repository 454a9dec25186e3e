"""Searches find what is asked and nothing else, page by page, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import Forbidden
from portal.events import ChangeBus
from portal.model.states import Role, UserState
from portal.staff import search
from portal.staff.filters import read, search_kinds
from portal.staff.search import COUNTED_TO, PAGE
from portal.staff.sources import sources
from portal.store import migrate
from portal.store.database import Database
from protocol.errors import InlayError
from tests.support.postgresql import PrivatePostgresql
from tests.support.staff_seed import (
    DAY,
    MOMENT,
    card,
    certificate,
    device,
    many_certificates,
    process,
    revocation,
    user,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from portal.staff.views import Results
    from tests.support.portal_kit import Kit

TITLES = {"VirtualSmartCardSelfServiceProcGet": "Get virtual smart card"}
KINDS, SOURCES = search_kinds(TITLES), sources(TITLES)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgresql]:
    """One server for this file."""
    with PrivatePostgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/portal.db"
    server: PrivatePostgresql = request.getfixturevalue("server")
    return server.fresh_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A database with a few objects of each kind."""
    made = Database(url, ChangeBus())
    await migrate.upgrade(made)
    async with made.write() as tx:
        tx.add_all(
            [
                user("ada", name="Ada 100% Example", roles=["operator", "self-service"]),
                user("bob", name="Bob_by <b>Bold</b>", state="locked"),
                user("carol", name="Carol", created_at=MOMENT + DAY),
                device("jkt-1", name="laptop of Ada"),
            ]
        )
        await tx.flush()
        tx.add_all(
            [
                card("aa01", "ada", serial="48151623", label="Card 50%"),
                card("bb02", "bob", state="Locked", label="Card 50 per cent"),
                card("cc03", "carol", kind="temporary_card", state="Assigned"),
                certificate("c1", "ada", serial="3fa1c27b", state="Issued"),
                certificate("c2", "ada", serial="3fb0", profile="encryption", not_after=MOMENT + 9 * DAY),
                certificate("c3", "bob", serial="00ff", state="Revoked", ca_state="revoked"),
                certificate("c4", "bob", serial="ab12", not_after=MOMENT + 5 * DAY, created_at=MOMENT - DAY),
                process("p1", "ada"),
                process("p2", "bob", state="failed", step="open"),
            ]
        )
        await tx.flush()
        tx.add_all([revocation("c4"), revocation("c2", change="hold")])
    yield made
    await made.close()


async def find(database: Database, kind: str, after: str = "", **sent: str) -> Results:
    async with database.read() as tx:
        return await search.results(tx, SOURCES[kind], read(KINDS, kind, sent), after)


def ids(found: Results) -> list[str]:
    assert found.count == len(found.hits)
    return [hit.object.id for hit in found.hits]


_ASKED: list[tuple[str, dict[str, str], set[str]]] = [
    ("user", {}, {"ada", "bob", "carol"}),
    ("user", {"text": "ADA@"}, {"ada"}),
    ("user", {"text": "ada"}, {"ada"}),
    ("user", {"text": "%"}, {"ada"}),
    ("user", {"text": "_"}, {"bob"}),
    ("user", {"text": "<b>"}, {"bob"}),
    ("user", {"text": "' OR 1=1 --"}, set()),
    ("user", {"text": "\\"}, set()),
    ("user", {"role": "operator"}, {"ada"}),
    ("user", {"role": "approver"}, set()),
    ("user", {"state": "locked"}, {"bob"}),
    ("user", {"since": "2027-01-16"}, {"carol"}),
    ("user", {"until": "2027-01-15"}, {"ada", "bob"}),
    ("virtual_smart_card", {}, {"aa01", "bb02"}),
    ("virtual_smart_card", {"text": "50%"}, {"aa01"}),
    ("virtual_smart_card", {"text": "4815 16"}, {"aa01"}),
    ("virtual_smart_card", {"text": "0048151623"}, {"aa01"}),
    ("virtual_smart_card", {"text": "004815"}, set()),
    ("virtual_smart_card", {"text": "bb02"}, {"bb02"}),
    ("virtual_smart_card", {"text": "bob@"}, {"bb02"}),
    ("virtual_smart_card", {"state": "Active"}, {"aa01"}),
    ("temporary_card", {"state": "Assigned"}, {"cc03"}),
    ("card", {}, set()),
    ("mobile_id", {}, set()),
    ("certificate", {"state": "Issued"}, {"c1"}),
    ("certificate", {"text": "3F:A1"}, {"c1"}),
    ("certificate", {"text": "3f"}, {"c1", "c2"}),
    ("certificate", {"text": "ada", "profile": "encryption"}, {"c2"}),
    ("certificate", {"ca_state": "revoked"}, {"c3"}),
    ("certificate", {"pending": "yes"}, {"c4"}),
    ("certificate", {"since": "2027-01-15", "text": "bob"}, {"c3"}),
    ("certificate", {"text": "c2"}, {"c2"}),
    ("device", {"text": "laptop"}, {"jkt-1"}),
    ("device", {"text": "jkt-1"}, {"jkt-1"}),
    ("device", {"text": "desktop"}, set()),
    ("process", {"state": "failed"}, {"p2"}),
    ("process", {"name": "VirtualSmartCardSelfServiceProcGet", "text": "ada"}, {"p1"}),
]


async def test_what_is_found(database: Database) -> None:
    for kind, sent, expected in _ASKED:
        found = await find(database, kind, **sent)
        assert set(ids(found)) == expected, (kind, sent)


async def test_what_expires_first_stands_first(database: Database) -> None:
    found = await find(database, "certificate", expires_from="2027-01-15", expires_to="2027-01-25")
    assert ids(found) == ["c4", "c2"]
    assert found.hits[0].note == "revocation pending"
    assert found.hits[0].state == "Valid"


async def test_what_waits_for_the_ca_is_said_in_its_own_words(database: Database) -> None:
    """A hold that waits is no revocation; the filter of pending revocations leaves it out (``_ASKED``)."""
    async with database.write() as tx:
        tx.add(revocation("c3", change="release"))
    notes = {hit.object.id: hit.note for hit in (await find(database, "certificate")).hits}
    assert notes == {"c1": "", "c2": "hold pending", "c3": "release pending", "c4": "revocation pending"}


async def test_pages_are_cut_by_key_and_hold_everything_once(database: Database) -> None:
    """Also when rows are added and removed between two pages, which shifts every offset."""
    async with database.write() as tx:
        tx.add_all([user(f"u{number:03}", created_at=MOMENT - number // 10) for number in range(120)])
    first = await find(database, "user")
    assert (len(first.hits), first.count) == (PAGE, 123)
    async with database.write() as tx:
        tx.add(user("newest", created_at=MOMENT + 9 * DAY))
        await tx.delete(await tx.get_one(type(user("x")), first.hits[1].object.id))
    seen = [hit.object.id for hit in first.hits]
    after = first.after
    while after:
        page = await find(database, "user", after)
        seen += [hit.object.id for hit in page.hits]
        after = page.after
    assert len(seen) == len(set(seen)) == 123
    assert "newest" not in seen


async def test_a_cursor_that_no_page_gave(database: Database) -> None:
    """It begins at the first page, or, where it is a place, behind that place."""
    for after in ("x", "1", "9" * 40 + ".a", "1.a b", "1.a';--"):
        assert len((await find(database, "user", after)).hits) == 3, after
    assert (await find(database, "user", "-1.zz")).hits == []


async def test_counting_stops_and_says_so(database: Database) -> None:
    async with database.write() as tx:
        await many_certificates(tx, COUNTED_TO + 5)
    found = await find(database, "certificate")
    assert found.count == found.counted_to == COUNTED_TO
    exported = [
        hit
        async for hit in search.every(database, SOURCES["certificate"], read(KINDS, "certificate", {}), 5000)
    ]
    assert len({hit.object.id for hit in exported}) == len(exported) == COUNTED_TO + 5 + 4


async def test_an_export_ends_where_it_was_told(database: Database) -> None:
    asked = read(KINDS, "user", {})
    assert len([hit async for hit in search.every(database, SOURCES["user"], asked, 2)]) == 2


async def test_only_operators_whose_account_is_active(kit: Kit) -> None:
    for roles in ((Role.SELF_SERVICE,), (Role.SELF_SERVICE, Role.APPROVER)):
        session = await kit.person(f"{len(roles)}@example.org", roles)
        with pytest.raises(Forbidden):
            await kit.portal.operator.search(session, "user", {})
        with pytest.raises(Forbidden):
            await kit.portal.operator.object(session, "user", session.user.id)
        with pytest.raises(Forbidden):
            await kit.portal.operator.export(session, "user", {})
    await kit.person("op@example.org", (Role.OPERATOR,))
    await kit.portal.accounts.set_state("op@example.org", UserState.INACTIVE)
    with pytest.raises(InlayError, match="account"):
        await kit.portal.operator.search(await kit.login("op@example.org"), "user", {})


async def test_exports_are_limited_and_kept_in_the_log(kit: Kit) -> None:
    session = await kit.person("op@example.org", (Role.OPERATOR,))
    for _ in range(10):
        lines = [line async for line in await kit.portal.operator.export(session, "user", {"text": "op@"})]
        assert len(lines) == 2
    with pytest.raises(InlayError) as caught:
        await kit.portal.operator.export(session, "user", {})
    assert caught.value.code == "rate_limited"
