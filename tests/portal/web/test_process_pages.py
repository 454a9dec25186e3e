"""The process pages: refusals first, then from Start to Cards."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from portal.model.states import CaState, ProcessState
from portal.views import LetterView
from protocol import link
from protocol.messages import PageError, PageEvent, Step
from tests.portal.web.fake_services import GET_CARD, NOW, FakeServices, card, certificate

if TYPE_CHECKING:
    from tests.portal.web.visitor import Visitor

PROCESS = "/processes/process-1"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
TOKEN = {"csrf": "c" * 43}


@pytest.mark.parametrize(
    "path", ["/processes/other", "/processes/other/events", "/processes/other/letters", "/nowhere"]
)
async def test_what_is_not_there_or_is_somebody_elses_looks_the_same(
    person: Visitor, services: FakeServices, path: str
) -> None:
    services.at("information")
    page = await person.get(path)
    assert page.status == 404
    assert "There is no such page." in page.text


@pytest.mark.parametrize("action", ["next", "cancel", "code", "number", "completion", "letters/pin"])
async def test_another_process_can_not_be_moved(person: Visitor, services: FakeServices, action: str) -> None:
    before = services.at("open")
    page = await person.post(f"/processes/other/{action}", TOKEN | {"expected_version": "2"})
    assert page.status == 404
    assert services.process_view == before


async def test_unknown_process_is_not_started(person: Visitor, services: FakeServices) -> None:
    assert (await person.post("/processes", TOKEN | {"name": "Other"})).status == 404
    assert services.done == []


@pytest.mark.parametrize("version", ["0", "7", "-1", "1e9", "x", ""])
async def test_an_old_page_is_said_and_does_nothing(
    person: Visitor, services: FakeServices, version: str
) -> None:
    services.at("details")
    page = await person.post(f"{PROCESS}/next", TOKEN | {"expected_version": version})
    assert page.location == f"{PROCESS}?stale"
    assert "out of date" in (await person.get(page.location)).text
    assert services.done == []


async def test_next_in_the_wrong_state_names_the_state_needed(
    person: Visitor, services: FakeServices
) -> None:
    services.at("open")
    page = await person.post(f"{PROCESS}/next", TOKEN | {"expected_version": "2"})
    assert page.status == 409
    assert "The state needed: finished." in page.text


async def test_cancel_after_the_end_names_the_state_needed(person: Visitor, services: FakeServices) -> None:
    services.at("done", state=ProcessState.FINISHED)
    page = await person.post(f"{PROCESS}/cancel", TOKEN)
    assert page.status == 409
    assert "The state needed: running." in page.text


async def test_a_script_gets_refusals_as_json(person: Visitor, services: FakeServices) -> None:
    services.at("open", order=PageEvent(state="running"))
    page = await person.post(
        f"{PROCESS}/completion", TOKEN | {"completion": "wrong"}, Accept="application/json"
    )
    assert page.status == 403
    error = json.loads(page.html)["error"]
    assert error["error"] == "binding_refused"
    assert error["next_step"]


async def test_a_fault_of_the_portal_tells_nothing_of_itself(
    person: Visitor, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(services, "cards", broken)
    page = await person.get("/cards")
    assert page.status == 500
    assert "secret detail" not in page.html
    assert "fault of the portal" in page.text


async def test_what_the_ca_has_still_to_confirm_is_said_beside_the_state(
    person: Visitor, services: FakeServices
) -> None:
    """A revocation in the state's place, hold and release beside it; on hold at the CA alone is said too."""
    waiting = (
        certificate("authentication", "9A", revocation_pending=True, waits_for="revoke"),
        certificate("signature", "9C", waits_for="hold"),
        certificate("encryption", "9D", waits_for="release", ca_state=CaState.HELD),
    )
    services.card_views = [card(certificates=waiting)]
    page = await person.get("/cards")
    said = [" ".join(item.text.split()) for item in page.all("p", **{"class": "purpose"})]
    assert said == [
        "Authentication Revocation pending",
        "Signature Valid Hold pending",
        "Encryption Valid Release pending",
    ]
    details = [item.text for item in page.all("p", **{"class": "detail"})]
    assert ["on hold at the CA" in text for text in details] == [False, False, True]


async def test_hostile_names_stay_text(person: Visitor, services: FakeServices) -> None:
    services.card_views = [
        card(label=HOSTILE, device=HOSTILE, certificates=(certificate("signature", "9C", subject=HOSTILE),))
    ]
    error = PageError(HOSTILE[:10], HOSTILE, HOSTILE, HOSTILE)
    for path in ("/cards", "/start"):
        page = await person.get(path)
        assert "<img" not in page.html
        assert "<script" not in page.html
        assert "alert(1)" in page.html
    services.at("open", title=HOSTILE, facts={HOSTILE: HOSTILE}, cancel_effect=HOSTILE, error=error)
    page = await person.get(PROCESS)
    assert "<img" not in page.html
    assert [item.attributes["type"] for item in page.all("script")] == ["module"]


async def test_number_wrong_says_tries_left_and_the_third_ends(
    person: Visitor, services: FakeServices
) -> None:
    wanted = PageEvent(state="running", step=Step.BINDING, number_wanted=True, tries_left=3)
    services.at("open", order=wanted)
    page = await person.get(PROCESS)
    assert "hidden" not in page.one("section", id="number").attributes
    assert not page.all("meta", **{"http-equiv": "refresh"})  # typing would be lost
    wrong = await person.submit(page, f"{PROCESS}/number", number="111")
    assert wrong.location == f"{PROCESS}?wrong"
    page = await person.get(wrong.location)
    assert "That is not the number Inlay shows." in page.text
    assert "2 tries left." in page.text
    await person.submit(page, f"{PROCESS}/number", number="222")
    last = await person.submit(page, f"{PROCESS}/number", number="333")
    assert last.status == 409
    assert "wrong three times" in last.text


async def test_number_field_is_hidden_until_it_is_wanted(person: Visitor, services: FakeServices) -> None:
    services.at("open", order=PageEvent(state="waiting"))
    assert "hidden" in (await person.get(PROCESS)).one("section", id="number").attributes
    refused = await person.post(f"{PROCESS}/number", TOKEN | {"number": "042"})
    assert refused.status == 409


async def test_a_reload_shows_the_same_code_until_it_is_too_old(
    person: Visitor, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.at("open", order=PageEvent(state="waiting"))
    monkeypatch.setattr("portal.web.codes.time.time", lambda: NOW)
    services.now = 10**12
    first = (await person.get(PROCESS)).one("a", id="open").attributes["href"]
    assert (await person.get(PROCESS)).one("a", id="open").attributes["href"] == first
    services.now = 0
    fresh = await person.post(f"{PROCESS}/code", TOKEN, Accept="application/json")
    assert json.loads(fresh.html)["link"] != first
    await person.get(PROCESS)  # too old by now: another one
    assert services.codes == 3


async def test_no_code_is_made_or_shown_once_the_order_runs(person: Visitor, services: FakeServices) -> None:
    services.at("open", order=PageEvent(state="running", step=Step.KEYS))
    page = await person.get(PROCESS)
    assert services.codes == 0
    assert not page.all("a", id="open")
    assert [item.attributes["class"] for item in page.all("li") if "data-step" in item.attributes] == [
        "past",
        "past",
        "now",
        "ahead",
        "ahead",
        "ahead",
        "ahead",
    ]


async def test_too_many_event_streams_of_one_session_are_refused(
    person: Visitor, services: FakeServices
) -> None:
    services.at("open", order=PageEvent(state="waiting"))
    headers = {"Cookie": f"__Host-inlay-session={person.cookies['__Host-inlay-session']}"}
    streams = [await person.client.get(f"{PROCESS}/events", headers=headers) for _ in range(8)]
    assert (await person.get(f"{PROCESS}/events")).status == 429
    for _ in streams:
        services.event_queue.put_nowait(None)
    for stream in streams:
        await stream.read()
    services.event_queue.put_nowait(None)
    assert (await person.get(f"{PROCESS}/events")).status == 200


async def test_events_come_as_they_happen_and_end_with_the_order(
    person: Visitor, services: FakeServices
) -> None:
    services.at("open", order=PageEvent(state="waiting"))
    headers = {"Cookie": f"__Host-inlay-session={person.cookies['__Host-inlay-session']}"}
    stream = await person.client.get(f"{PROCESS}/events", headers=headers)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    async with asyncio.timeout(5):
        assert await stream.content.readuntil(b"\n\n") == b'event: order\ndata: {"state":"waiting"}\n\n'
        services.event_queue.put_nowait(PageEvent(state="running", step=Step.KEYS))
        assert b'"step":"keys"' in await stream.content.readuntil(b"\n\n")
        services.event_queue.put_nowait(PageEvent(state="finished"))
        assert b'"state":"finished"' in await stream.content.readuntil(b"\n\n")
        services.event_queue.put_nowait(None)
        assert await stream.content.readuntil(b"\n\n") == b"event: end\ndata: {}\n\n"
        assert await stream.content.read() == b""


async def test_cancel_says_what_it_will_do_and_does_it(person: Visitor, services: FakeServices) -> None:
    for step in ("information", "open", "details"):
        services.at(step)
        page = await person.get(PROCESS)
        assert "Nothing was made yet. The process is closed." in page.text
        done = await person.submit(page, f"{PROCESS}/cancel")
        after = await person.get(done.location)
        assert services.process_view is not None
        assert services.process_view.state is ProcessState.CANCELLED
        assert "cancelled" in after.text.lower()
        assert not after.all("a", id="open")


async def test_what_cancel_would_do_now_is_told_to_the_pages_script(
    person: Visitor, services: FakeServices
) -> None:
    services.at("open")
    assert (await person.get("/processes/another/cancel")).status == 404
    services.change(cancel_effect="The card is being changed.")
    assert json.loads((await person.get(f"{PROCESS}/cancel")).html) == {
        "effect": "The card is being changed."
    }


async def test_an_order_that_was_undone_says_why_and_what_next(
    person: Visitor, services: FakeServices
) -> None:
    error = PageError("user_cancelled", "You cancelled.", "The window was closed.", "Start again.")
    services.at("open", state=ProcessState.FAILED, can_next=False, can_cancel=False, error=error)
    page = await person.get(PROCESS)
    for text in ("You cancelled.", "The window was closed.", "Start again."):
        assert text in page.text


async def test_the_whole_way_without_a_script(person: Visitor, services: FakeServices) -> None:
    start = await person.get("/start")
    begun = await person.submit(start, "/processes", name=GET_CARD)
    information = await person.get(begun.location)
    assert "What will be done" in information.text
    moved = await person.submit(information, f"{PROCESS}/next")
    twice = await person.submit(information, f"{PROCESS}/next")
    assert moved.location == twice.location == PROCESS
    assert services.done == ["start", "next from information"]
    opening = await person.get(moved.location)
    href = opening.one("a", id="open").attributes["href"]
    assert link.parse(href).portal == services.info.id
    assert "00001-7KQ2M" in opening.text
    assert opening.one("meta", **{"http-equiv": "refresh"}).inside[-1].name == "noscript"
    services.at("details", card=card(), order=PageEvent(state="finished"), version=3)
    details = await person.get(PROCESS)
    assert "4815 1623" in details.text
    finished = await person.submit(details, f"{PROCESS}/next")
    assert finished.location == "/cards"
    services.card_views = [card()]
    cards = await person.get("/cards")
    assert "is older than one that was seen before" not in cards.text
    for text in ("Active", "Authentication", "Signature", "Encryption", "Valid"):
        assert text in cards.text


async def test_a_card_whose_old_file_came_back_is_to_be_replaced(
    person: Visitor, services: FakeServices
) -> None:
    services.card_views = [card(restored=True), card(id="card-2")]
    text = (await person.get("/cards")).text
    assert text.count("file is older than one that was seen before: replace the card.") == 1


async def test_letters_are_printed_only_by_a_form_of_this_portal(
    person: Visitor, services: FakeServices
) -> None:
    services.at("details", letters=[LetterView("pin", "PIN letter", 0, 3)])
    for kind, form, status in (("pin", {}, 403), ("puk", TOKEN, 409), ("management", TOKEN, 404)):
        assert (await person.post(f"{PROCESS}/letters/{kind}", form)).status == status
    assert (await person.post(f"{PROCESS}/letters/pin", TOKEN, origin="https://evil.example")).status == 403
    assert (await person.get(f"{PROCESS}/letters/pin")).status == 405
    assert services.done == []


async def test_the_page_hears_how_often_a_letter_was_printed_until_there_is_none(
    person: Visitor, services: FakeServices
) -> None:
    services.at("details", letters=[LetterView("pin", "PIN letter", 0, 3)])
    page = await person.get(PROCESS)
    assert "Not printed yet" in page.text
    assert [item.attributes["src"].rpartition("/")[2] for item in page.all("script")] == ["letters.js"]
    headers = {"Cookie": f"__Host-inlay-session={person.cookies['__Host-inlay-session']}"}
    stream = await person.client.get(f"{PROCESS}/letters", headers=headers)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    async with asyncio.timeout(5):
        assert b'"standing":"Not printed yet","verb":"Print","left":3' in await stream.content.readuntil(
            b"\n\n"
        )
        services.letter_queue.put_nowait([LetterView("pin", "PIN letter", 3, 0)])
        told = await stream.content.readuntil(b"\n\n")
        assert told.startswith(b"event: letters\n")
        assert b'"Printed 3 times; 0 more possible","verb":"Print again","left":0' in told
        services.letter_queue.put_nowait([])
        assert await stream.content.readuntil(b"\n\n") == b"event: end\ndata: {}\n\n"


async def test_a_letter_is_shown_and_stored_nowhere(person: Visitor, services: FakeServices) -> None:
    services.at(
        "details", letters=[LetterView("pin", "PIN letter", 1, 2), LetterView("puk", "PUK letter", 3, 0)]
    )
    page = await person.get(PROCESS)
    assert page.html.count(f'action="{PROCESS}/letters/') == 1  # the other one was printed often enough
    assert "Printed 1 time; 2 more possible" in page.text
    letter = await person.post(f"{PROCESS}/letters/pin", TOKEN)
    assert (letter.status, letter.headers["Content-Type"]) == (200, "application/pdf")
    assert letter.headers["Cache-Control"] == "no-store"
    assert letter.headers["Content-Disposition"].startswith("inline")
    assert services.done == ["letter pin"]
