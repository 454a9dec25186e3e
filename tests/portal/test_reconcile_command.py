"""``inlay-portal reconcile``: what it says, and its exit status, while the CA is away and when it is back."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from portal.__main__ import main
from portal.ca.authority import CaUnavailableError
from portal.ca.builtin import BuiltinCa
from portal.keys import FileKeys
from portal.store.tables import Certificate, Order, Revocation
from tests.support.portal_kit import CHEAP, P256, PASSPHRASE, running_portal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.portal_kit import Kit


class Office:
    """A portal of a folder: runs for a while, and is looked after by its command in between."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        self._database = f"sqlite+aiosqlite:///{folder}/portal.db"
        FileKeys.create(folder / "keys" / "portal.keys", PASSPHRASE, CHEAP)
        (folder / "passphrase").write_bytes(PASSPHRASE)
        content = {
            "origin": "https://portal.test",
            "name": "Example portal",
            "database": self._database,
            "key_file": "keys/portal.keys",
            "passphrase_file": "passphrase",
        }
        (folder / "portal.json").write_text(json.dumps(content))

    def runs(self, work: Callable[[Kit], Awaitable[None]]) -> None:
        """The portal runs, without what it does by itself."""

        async def run() -> None:
            async with running_portal(self._folder, database=self._database) as kit:
                await kit.portal.pause()
                await work(kit)

        asyncio.run(run())

    def reconcile(self, code: int) -> dict[str, str]:
        """What the command says, when it ends with this status."""
        assert main(["--config", str(self._folder / "portal.json"), "reconcile"]) == code
        lines = self._capsys.readouterr().out.splitlines()
        return dict(line.split(": ", 1) for line in lines)


async def leave_half_done(kit: Kit) -> None:
    """Three certificates written on a card whose device never comes back; the order's time is over."""
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(await kit.person())
    await agent.make_card()
    async with kit.database.write() as tx:
        await tx.execute(update(Order).values(deadline_at=kit.clock() - 1))


async def states(kit: Kit) -> set[tuple[str, bool]]:
    """The states of all certificates, and whether the CA calls them good."""
    async with kit.database.read() as tx:
        rows = list(await tx.scalars(select(Certificate)))
    return {(row.state, await kit.portal.ca.status(row.serial) == "good") for row in rows}


def test_it_ends_with_1_until_the_ca_has_confirmed_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(tmp_path, capsys)
    assert office.reconcile(0)["revocations pending"] == "0"
    office.runs(leave_half_done)

    async def away(*_: object) -> None:
        raise CaUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(BuiltinCa, "revoke", away)
        said = office.reconcile(1)
        assert (said["undone"], said["revocations pending"]) == ("1", "3")
        assert said["oldest since"].startswith(time.strftime("%Y-", time.gmtime()))

    async def look(kit: Kit) -> None:
        assert await states(kit) == {("Issued", True)}
        async with kit.database.write() as tx:
            await tx.execute(update(Revocation).values(next_try_at=0))

    office.runs(look)
    said = office.reconcile(0)
    assert (said["undone"], said["revocations pending"]) == ("0", "0")
    assert "oldest since" not in said

    async def look_again(kit: Kit) -> None:
        assert await states(kit) == {("Revoked", False)}

    office.runs(look_again)


def test_a_certificate_that_only_the_ca_knows_is_recovered_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA signed, and its answer was lost; asked while it is away, the command says so."""
    office = Office(tmp_path, capsys)
    issue = BuiltinCa.issue

    async def lose(ca: BuiltinCa, request: object) -> bytes:
        await issue(ca, request)  # type: ignore[arg-type] # what the portal asks for
        raise CaUnavailableError

    async def away(*_: object, **__: object) -> list[bytes]:
        raise CaUnavailableError

    async def begin(kit: Kit) -> None:
        await kit.set_options(**P256)
        _, agent = await kit.bound_agent(await kit.person())
        await agent.hear()
        assert agent.order is not None
        await agent.say(agent.card.requests(agent.order))
        await agent.hear()  # undo
        assert await states(kit) == set()

    with monkeypatch.context() as patch:
        patch.setattr(BuiltinCa, "issue", lose)
        office.runs(begin)
    with monkeypatch.context() as patch:
        patch.setattr(BuiltinCa, "find", away)
        said = office.reconcile(1)
        assert (said["recovered"], said["unanswered"]) == ("0", "3")
    said = office.reconcile(0)
    assert (said["recovered"], said["open"], said["revocations pending"]) == ("1", "2", "0")

    async def look(kit: Kit) -> None:
        assert await states(kit) == {("Revoked", False)}

    office.runs(look)
