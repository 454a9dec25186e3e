"""The administrator's page of mails that wait or were refused; what a mail says is never shown."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from portal.web.guard import read_form, require_session
from portal.web.keys import ADMINISTRATOR
from portal.web.templating import page

_MOST_CURSOR: Final = 64
_WORDS: Final = {
    "address": "The address is none that a mail can be sent to.",
    "person": "Its person's account is not active: a PIN or PUK is not sent to it. Make it active and try again, "
    "or give it up.",
    "too_late": "It was not sent in time; its text is erased.",
    "unavailable": "The mail server was not reached.",
    "certificate": "The mail server's certificate is not one that this portal trusts. Nothing was sent.",
    "tls": "The connection could not be encrypted. Nothing was sent.",
    "login": "The mail server refused the log-in.",
    "timeout": "The mail server did not answer in time.",
    "cut": "The connection was cut.",
    "keys_unavailable": "The portal's keys did not answer.",
    "internal": "Its text can't be opened with the portal's keys.",
    "connection": "The mail server takes nothing now",
    "sender": "The mail server refused the portal as sender",
    "recipient": "The mail server refused the recipient",
    "content": "The mail server refused the mail",
}
_SAID: Final = {"again": "It is tried again now.", "given-up": "It was given up."}


def told(error: str | None) -> str:
    """What became of the last try; behind it the server's codes."""
    if error is None:
        return "Not tried yet."
    word, _, code = error.partition(" ")
    text = _WORDS.get(word, _WORDS["internal"])
    return f"{text} ({code})." if code else text


async def get_mails(request: web.Request) -> web.Response:
    """``GET /admin/mails``."""
    session = await require_session(request)
    after = request.query.get("after", "")[:_MOST_CURSOR]
    view = await request.app[ADMINISTRATOR].mails(session, after)
    said = _SAID.get(request.query.get("done", ""), "")
    return page(request, "mails.html", session, view=view, paged=bool(after), said=said, told=told)


async def post_retry(request: web.Request) -> web.Response:
    """``POST /admin/mails/ID/retry``."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    await request.app[ADMINISTRATOR].retry_mail(session, request.match_info["id"])
    raise web.HTTPSeeOther("/admin/mails?done=again")


async def post_give_up(request: web.Request) -> web.Response:
    """``POST /admin/mails/ID/give-up``."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    await request.app[ADMINISTRATOR].give_up_mail(session, request.match_info["id"])
    raise web.HTTPSeeOther("/admin/mails?done=given-up")
