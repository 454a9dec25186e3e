"""The portal's log and its command never show an exception's text, nor a trace of Python's."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from portal import logs
from portal.__main__ import main
from portal.web import troubles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.portal_kit import Kit

SECRET = "PIN 123456"


async def test_a_page_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, kind and place; a line's end in the path stays in the line."""

    async def fail(_request: web.Request) -> web.StreamResponse:
        raise ValueError(SECRET)

    request = make_mocked_request(
        "GET", "/cards%0aERROR forged?pin=123456", headers={"Accept": "application/json"}
    )
    response = await troubles.troubles(request, fail)
    assert response.status == 500
    (record,) = caplog.records
    assert record.getMessage().startswith("GET '/cards\\nERROR forged': builtins.ValueError at fail:")
    assert "123456" not in caplog.text


async def test_a_session_that_can_not_be_read(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error page is shown all the same."""

    async def fail(_request: web.Request) -> Any:
        raise ValueError(SECRET)

    monkeypatch.setattr(troubles, "session_of", fail)
    assert await troubles._session_or_none(make_mocked_request("GET", "/")) is None
    assert "session for an error page: builtins.ValueError at fail:" in caplog.text
    assert SECRET not in caplog.text


async def test_a_call_of_an_agent_that_fails(
    kit: Kit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent gets ``internal``, the log kind and place."""

    async def fail(*_arguments: Any, **_more: Any) -> Any:
        raise ValueError(SECRET)

    session = await kit.person()
    _, code = await kit.at_open(session)
    agent = await kit.agent()
    monkeypatch.setattr(kit.portal.channel.claims, "claim", fail)
    with pytest.raises(Exception, match="fault in Inlay"):
        await agent.claim(code.code)
    assert "claim failed: builtins.ValueError at fail:" in caplog.text
    assert SECRET not in caplog.text


def test_a_database_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said in one line, without a trace and without the URL's password."""
    (tmp_path / "passphrase").write_text("a passphrase for throw-away keys\n")
    content = {
        "origin": "https://localhost:8443",
        "name": "Example portal",
        "database": f"postgresql+psycopg://portal:s3cret@/portal?host={tmp_path}/nowhere",
        "key_file": "portal.keys",
        "passphrase_file": "passphrase",
    }
    (tmp_path / "portal.json").write_text(json.dumps(content))
    assert main(["--config", str(tmp_path / "portal.json"), "init"]) == 1
    said = capsys.readouterr().err
    assert "inlay-portal: the database can't be used: sqlalchemy.exc.OperationalError at " in said
    assert "Traceback" not in said
    assert "s3cret" not in said


def test_set_up_once() -> None:
    """A second command in the same process changes nothing."""
    before = list(logging.getLogger().handlers)
    logs.set_up()
    logs.set_up()
    assert logging.getLogger().handlers == before
    assert logging.getLogger("alembic").level == logging.WARNING
