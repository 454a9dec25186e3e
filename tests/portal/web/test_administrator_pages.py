"""The administrator's pages: refused first, then options and their history, graphs, queue, audit log, accounts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from portal import option_store
from portal.mail import outbox
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import Role, UserState
from portal.store import audit
from portal.store.tables import AuditEntry, Mail, User
from tests.support.portal_kit import PASSWORD
from tests.support.staff_seed import certificate, revocation, user

if TYPE_CHECKING:
    from tests.portal.web.desk import Desk
    from tests.portal.web.visitor import Page, Visitor

HOSTILE = "<script>alert(1)</script>"
OPTIONS = "/admin/options/TempCardsScriptOptions"
_PAGES = [
    "/admin",
    "/admin/graphs",
    "/admin/queue",
    "/admin/mails",
    "/admin/audit",
    "/admin/users/new",
    OPTIONS,
    f"{OPTIONS}/history",
]


@pytest.fixture
async def root(desk: Desk) -> Visitor:
    return await desk.person("root@example.org", Role.ADMINISTRATOR)


def posts(user_id: str) -> dict[str, dict[str, str]]:
    """Every form of an administrator, with what it would do."""
    return {
        "/admin/queue/retry": {},
        "/admin/mails/x/retry": {},
        "/admin/mails/x/give-up": {},
        "/admin/audit/verify": {},
        "/admin/users/new": {
            "email": "new@example.org",
            "name": "N",
            "roles": "administrator",
            "password": PASSWORD,
        },
        f"/admin/users/{user_id}": {
            "roles": "administrator",
            "state": "active",
            "reason": "because",
            "shown": "active|self-service",
        },
        OPTIONS: {"expected_version": "0", "TempCardsValidityDays": "1"},
    }


async def stored(desk: Desk, email: str) -> User:
    async with desk.kit.database.read() as tx:
        return (await tx.scalars(select(User).where(User.email == email))).one()


async def logged(desk: Desk, action: str) -> list[AuditEntry]:
    async with desk.kit.database.read() as tx:
        return list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == action)))


def sent_by(page: Page, action: str) -> list[tuple[str, str]]:
    """What a browser would send of a form as it stands."""
    inside = [
        item for item in page.all("*") if any(f.attributes.get("action") == action for f in item.inside)
    ]
    sent = [
        (item.attributes["name"], item.attributes.get("value", ""))
        for item in inside
        if item.name == "input" and (item.attributes["type"] != "checkbox" or "checked" in item.attributes)
    ]
    return sent + [
        (item.inside[-1].attributes["name"], item.attributes["value"])
        for item in inside
        if item.name == "option" and "selected" in item.attributes
    ]


def changed(sent: list[tuple[str, str]], name: str, *values: str) -> list[tuple[str, str]]:
    return [item for item in sent if item[0] != name] + [(name, value) for value in values]


@pytest.mark.parametrize("role", [Role.SELF_SERVICE, Role.OPERATOR, Role.APPROVER])
async def test_others_are_refused_every_page_and_post(desk: Desk, role: Role) -> None:
    other = await desk.person("other@example.org", role)
    me = await stored(desk, "other@example.org")
    token = (await other.get("/start")).hidden("/logout")
    for path in [*_PAGES, f"/admin/users/{me.id}"]:
        assert (await other.get(path)).status == 403, path
    for path, form in posts(me.id).items():
        assert (await other.post(path, token | form)).status == 403, path
    assert "/admin" not in (await other.get("/start")).html
    assert (await stored(desk, "other@example.org")).roles == [role.value]
    async with desk.kit.database.read() as tx:
        assert len(list(await tx.scalars(select(User)))) == 1
        assert (await option_store.current(tx, "TempCardsScriptOptions")).version == 0


async def test_posts_need_token_origin_and_session(desk: Desk, root: Visitor) -> None:
    me = await stored(desk, "root@example.org")
    token = (await root.get("/start")).hidden("/logout")
    for path, form in posts(me.id).items():
        assert (await root.post(path, form)).status == 403
        assert (await root.post(path, form | {"csrf": "x" * 43})).status == 403
        assert (await root.post(path, token | form, "https://evil.example")).status == 403
        assert (await desk.stranger().post(path, form)).location == "/login"
    assert await logged(desk, "audit.verified") == []


async def test_an_administrator_whose_account_was_closed(desk: Desk, root: Visitor) -> None:
    await desk.kit.portal.accounts.set_state("root@example.org", UserState.INACTIVE)
    for path in _PAGES:
        assert (await root.get(path)).status == 403, path


@pytest.mark.parametrize(
    "path", ["/admin/options/Nothing", "/admin/options/Nothing/history", "/admin/users/nobody"]
)
async def test_what_is_not_there(root: Visitor, path: str) -> None:
    assert (await root.get(path)).status == 404


async def test_options_of_every_script_their_history_and_a_stale_page(desk: Desk, root: Visitor) -> None:
    home = await root.get("/admin")
    for script in option_store.SCRIPTS:
        assert home.all("a", href=f"/admin/options/{script}")
        assert (await root.get(f"/admin/options/{script}")).status == 200
    unread = "No process of this version reads them yet."
    for script in option_store.SCRIPTS:
        page = await root.get(f"/admin/options/{script}")
        assert (unread in page.text) == (script in option_store.UNREAD)
    page = await root.get(OPTIONS)
    form = sent_by(page, OPTIONS)
    for wrong in ("", "7, x", "0", "366", "7, -1", ",".join(map(str, range(1, 12)))):
        refused = await root.post(OPTIONS, changed(form, "TempCardsEmailBeforeExpiringDays", wrong))
        assert refused.status == 422, wrong
        described = refused.one("input", id="TempCardsEmailBeforeExpiringDays").attributes
        assert "TempCardsEmailBeforeExpiringDays-error" in described["aria-describedby"]
        assert described["value"] == wrong
    good = changed(form, "TempCardsEmailBeforeExpiringDays", "3 14,7, 7")
    assert (await root.post(OPTIONS, good)).location == f"{OPTIONS}?saved"
    assert (await root.post(OPTIONS, good)).location == f"{OPTIONS}?stale"
    newer = sent_by(await root.get(OPTIONS), OPTIONS)
    assert ("TempCardsEmailBeforeExpiringDays", "14, 7, 3") in newer
    newer = changed(changed(newer, "TempCardsEncode", "true"), "TempCardsPINEntry", "pad")
    assert (await root.post(OPTIONS, newer)).location.endswith("?saved")
    history = await root.get(f"{OPTIONS}/history")
    assert [item.text for item in history.all("h2")] == ["Version 2", "Version 1"]
    assert [item.text for item in history.all("del")] == ["no", "In Inlay's window", "7, 3"]
    pad = "At the keys of the reader and nowhere else"
    assert [item.text for item in history.all("ins")] == ["yes", pad, "14, 7, 3"]
    assert history.text.count("root@example.org") == 2


async def test_graphs_are_drawn_under_the_policy(root: Visitor) -> None:
    page = await root.get("/admin/graphs")
    assert len(page.all("svg", role="img")) == 5
    assert "Registered to Active" in page.html
    assert not page.all("style")
    assert not [item for item in page.all("*") if "style" in item.attributes]


async def test_the_queue_says_what_waits_and_asks_again(desk: Desk, root: Visitor) -> None:
    assert "Nothing waits" in (await root.get("/admin/queue")).text
    now = desk.kit.clock()
    async with desk.kit.database.write() as tx:
        tx.add(user("eve"))
        await tx.flush()
        tx.add_all(certificate(f"c{number:02}", "eve", subject=f"CN={HOSTILE}") for number in range(60))
        await tx.flush()
        tx.add_all(
            revocation(f"c{number:02}", created_at=now - 60, next_try_at=now + 900, last_error="timeout")
            for number in range(60)
        )
    page = await root.get("/admin/queue")
    assert HOSTILE not in page.html
    assert "Revocations60" in page.text
    assert len(page.one("tbody").text.split("timeout")) == 51
    second = await root.get("/admin/queue" + page.one("a", rel="next").attributes["href"])
    assert len(second.one("tbody").text.split("timeout")) == 11
    assert "60 revocations" in (await root.get("/admin")).text
    asked = await root.submit(page, "/admin/queue/retry")
    assert asked.location == "/admin/queue?asked=60"
    assert len(await logged(desk, "ca.retry_asked")) == 1
    for query in ("?asked=<b>", "?after=" + "x" * 500):
        assert (await root.get(f"/admin/queue{query}")).status == 200


async def test_the_audit_log_is_filtered_and_checked(desk: Desk, root: Visitor) -> None:
    async with desk.kit.database.write() as tx:
        for number in range(130):
            actor = HOSTILE if number % 2 else "portal"
            await audit.record(
                tx, at=desk.kit.clock(), actor=actor, action=f"x.{number}", kind="user", object_id="eve"
            )
    page = await root.get("/admin/audit?actor=portal&object=eve&before=")
    assert HOSTILE not in page.html
    assert "x.128" in page.text
    assert "x.129" not in page.text
    assert (await root.get("/admin/audit?action=x.7")).text.count("x.7") == 1
    older = await root.get(
        "/admin/audit" + (await root.get("/admin/audit")).one("a", rel="next").attributes["href"]
    )
    assert "x.3" in older.text
    assert "No row fits" in (await root.get("/admin/audit?until=2000-01-01&actor=%25")).text
    wrong = await root.get("/admin/audit?since=yesterday")
    assert (wrong.status, "since-error" in wrong.html) == (422, True)
    checked = await root.submit(page, "/admin/audit/verify")
    assert "The log is unbroken" in checked.text
    async with desk.kit.database.write() as tx:
        await tx.execute(text("UPDATE audit SET actor = 'nobody' WHERE action = 'x.5'"))
    (row,) = await logged(desk, "x.5")
    checked = await root.submit(page, "/admin/audit/verify")
    assert f"row {row.number}: changed" in checked.text
    results = [entry.details["result"] for entry in await logged(desk, "audit.verified")]
    assert results == ["unbroken", f"row {row.number}: changed"]


async def test_checks_are_limited(root: Visitor) -> None:
    page = await root.get("/admin/audit")
    for _ in range(6):
        assert (await root.submit(page, "/admin/audit/verify")).status == 200
    assert (await root.submit(page, "/admin/audit/verify")).status == 429


_NEW = {"email": "Eve@Example.org", "name": f"Eve {HOSTILE}", "roles": "operator", "password": PASSWORD}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"email": "nothing"}, "email"),
        ({"email": "root@example.org"}, "email"),
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"password": "short"}, "password"),
        ({"roles": "emperor"}, "roles"),
    ],
)
async def test_a_new_account_that_is_refused(
    desk: Desk, root: Visitor, change: dict[str, str], wrong: str
) -> None:
    page = await root.get("/admin/users/new")
    refused = await root.submit(page, "/admin/users/new", **_NEW | change)
    assert refused.status == 422
    assert refused.one("p", id=f"{wrong}-error").text.strip()
    assert refused.all("*", autofocus="")[0].attributes["id"] == wrong
    assert PASSWORD not in refused.html
    assert HOSTILE not in refused.html
    async with desk.kit.database.read() as tx:
        assert len(list(await tx.scalars(select(User)))) == 1


async def test_a_new_account(desk: Desk, root: Visitor) -> None:
    page = await root.get("/admin/users/new")
    added = await root.submit(page, "/admin/users/new", **_NEW)
    eve = await stored(desk, "eve@example.org")
    assert added.location == f"/admin/users/{eve.id}?added"
    assert eve.roles == ["operator"]
    assert [entry.actor for entry in await logged(desk, "user.added")] == ["command line", "root@example.org"]
    assert (await root.get(added.location)).status == 200
    assert (await desk.kit.login("eve@example.org")).user.name == f"Eve {HOSTILE}"


async def test_roles_and_state_are_changed_with_a_reason(desk: Desk, root: Visitor) -> None:
    eve = await desk.person("eve@example.org", Role.SELF_SERVICE)
    me = await stored(desk, "eve@example.org")
    path = f"/admin/users/{me.id}"
    form = changed(sent_by(await root.get(path), path), "roles", "self-service", "operator")
    assert (await root.post(path, form)).status == 422  # no reason
    form = changed(form, "reason", "new in the team")
    for _ in range(2):  # sent twice
        assert (await root.post(path, form)).location == f"{path}?saved"
    (entry,) = await logged(desk, "user.roles")
    assert entry.details == {
        "before": ["self-service"],
        "after": ["operator", "self-service"],
        "reason": "new in the team",
    }
    assert (await eve.get("/operator/search")).status == 200
    stale = changed(form, "roles", "approver")
    assert (await root.post(path, stale)).location == f"{path}?stale"
    locked = changed(sent_by(await root.get(path), path), "state", "locked")
    assert (await root.post(path, changed(locked, "reason", "left"))).location == f"{path}?saved"
    assert (await eve.get("/start")).location.startswith("/login")
    history = await root.get(f"/operator/objects/user/{me.id}")
    assert "Why: left" in history.text


async def test_the_last_administrator_stays_one(desk: Desk, root: Visitor) -> None:
    me = await stored(desk, "root@example.org")
    path = f"/admin/users/{me.id}"
    form = changed(sent_by(await root.get(path), path), "reason", "tired")
    for name, value in (("roles", "self-service"), ("state", "locked"), ("state", "inactive")):
        refused = await root.post(path, changed(form, name, value))
        assert refused.status == 422
        assert "the last active administrator" in refused.one("p", id=f"{name}-error").text
    await desk.person("second@example.org", Role.ADMINISTRATOR)
    assert (await root.post(path, changed(form, "roles", "self-service"))).location == f"{path}?saved"
    assert (await root.get("/admin")).status == 403


async def test_two_administrators_can_t_take_the_role_from_each_other_at_once(
    desk: Desk, root: Visitor
) -> None:
    second = await desk.person("second@example.org", Role.ADMINISTRATOR)
    mine, theirs = await stored(desk, "root@example.org"), await stored(desk, "second@example.org")
    asked = []
    for visitor, other in ((root, theirs), (second, mine)):
        path = f"/admin/users/{other.id}"
        form = changed(sent_by(await visitor.get(path), path), "reason", "quarrel")
        asked.append(visitor.post(path, changed(form, "roles", "self-service")))
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status for answer in answers) in ([303, 403], [303, 422])
    left = [await stored(desk, email) for email in ("root@example.org", "second@example.org")]
    assert sorted(user.roles for user in left) == [["administrator"], ["self-service"]]


async def test_mails_are_shown_without_what_they_say(desk: Desk, root: Visitor) -> None:
    me, context = await stored(desk, "root@example.org"), desk.kit.portal.context
    about = CoreObject(ObjectKind.USER, me.id)
    async with desk.kit.database.write() as tx:
        for kind in ("card_pin", "card_puk"):
            await outbox.add(
                tx,
                context,
                outbox.Draft(to=me, kind=kind, subject=HOSTILE, text="283917", about=about, secret=True),
            )
        first, second = list(await tx.scalars(select(Mail).order_by(Mail.id)))
        first.state, first.last_error = "refused", "recipient 550 5.1.1"
    page = await root.get("/admin/mails")
    assert "283917" not in page.html
    assert HOSTILE not in page.html
    assert "The mail server refused the recipient (550 5.1.1)." in page.html
    done = await root.submit(page, f"/admin/mails/{first.id}/retry")
    assert done.location == "/admin/mails?done=again"
    done = await root.submit(page, f"/admin/mails/{second.id}/give-up")
    assert done.location == "/admin/mails?done=given-up"
    async with desk.kit.database.read() as tx:
        assert [(row.id, row.state) for row in await tx.scalars(select(Mail))] == [(first.id, "waiting")]
    assert (await root.submit(page, f"/admin/mails/{second.id}/retry")).status == 404
    assert [entry.details["mail"] for entry in await logged(desk, "mail.given_up")] == [second.kind]
