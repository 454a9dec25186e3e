"""The administrator's options, and what every page's HTML keeps to."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from portal.model.states import Role
from portal.model.virtual_card_options import SCRIPT
from protocol.messages import PageEvent, Step
from tests.portal.web.fake_services import FakeServices, card

if TYPE_CHECKING:
    from portal.model.options import Option
    from tests.portal.web.visitor import Page, Visitor

OPTIONS = "/admin/options/VirtualSmartCardScriptOptions"


@pytest.fixture
def administrator(person: Visitor, services: FakeServices) -> Visitor:
    services.user = replace(services.user, roles=frozenset({Role.SELF_SERVICE, Role.ADMINISTRATOR}))
    return person


def _fields(page: Page) -> list[tuple[str, str]]:
    """What a browser would send of the page's form."""
    sent = []
    for item in page.all("input"):
        if item.inside[-1].name == "form" and item.inside[-1].attributes["action"] != OPTIONS:
            continue
        if not any(around.attributes.get("action") == OPTIONS for around in item.inside):
            continue
        if item.attributes["type"] != "checkbox" or "checked" in item.attributes:
            sent.append((item.attributes["name"], item.attributes.get("value", "")))
    sent += [
        (option.inside[-1].attributes["name"], option.attributes["value"])
        for option in page.all("option")
        if "selected" in option.attributes
    ]
    return sent


def _with(fields: list[tuple[str, str]], name: str, *values: str) -> list[tuple[str, str]]:
    return [item for item in fields if item[0] != name] + [(name, value) for value in values]


async def test_only_an_administrator_sees_and_saves(person: Visitor, services: FakeServices) -> None:
    assert (await person.get(OPTIONS)).status == 403
    page = await person.post(OPTIONS, {"csrf": "c" * 43, "expected_version": "0", "ValidityDays": "1"})
    assert page.status == 403
    assert "administrator" in page.text
    assert services.values == SCRIPT.defaults()
    assert OPTIONS not in (await person.get("/start")).html


async def test_unknown_script(administrator: Visitor) -> None:
    assert (await administrator.get("/admin/options/Other")).status == 404


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ValidityDays", "0", "A whole number from 1 to 3650"),
        ("ValidityDays", "two years", "A whole number from 1 to 3650"),
        ("PINMinLength", "9", "More than 8"),
        ("PINDigits", "sometimes", "One of “Allowed”"),
        ("ProfileName", "${secret}", "is not known"),
        ("Nonsense", "1", "There is no such option."),
    ],
)
async def test_a_wrong_value_is_said_at_its_field_and_nothing_is_saved(
    administrator: Visitor, services: FakeServices, name: str, value: str, text: str
) -> None:
    fields = _with(_fields(await administrator.get(OPTIONS)), name, value)
    fields = _with(fields, "UserId", "kept ${email}")
    page = await administrator.post(OPTIONS, fields)
    assert page.status == 422
    assert text in page.text
    assert services.options_version == 0
    assert page.one("input", id="UserId").attributes["value"] == "kept ${email}"
    if name != "Nonsense":
        wrong = page.one("*", id=name)
        assert wrong.attributes["aria-invalid"] == "true"
        assert text in page.one("p", id=f"{name}-error").text
        assert f"{name}-error" in wrong.attributes["aria-describedby"]


async def test_no_certificate_at_all_is_refused(administrator: Visitor, services: FakeServices) -> None:
    fields = _with(_fields(await administrator.get(OPTIONS)), "Certificates")
    page = await administrator.post(OPTIONS, fields)
    assert page.status == 422
    assert page.one("p", id="Certificates-error").text
    assert services.options_version == 0


async def test_saved_by_somebody_else_meanwhile(administrator: Visitor, services: FakeServices) -> None:
    fields = _fields(await administrator.get(OPTIONS))
    services.options_version = 1
    page = await administrator.post(OPTIONS, fields)
    assert page.location == f"{OPTIONS}?stale"
    assert "Somebody else saved meanwhile" in (await administrator.get(page.location)).text


async def test_what_no_card_leaves_to_an_option_is_text_and_saving_keeps_what_is_stored(
    administrator: Visitor, services: FakeServices
) -> None:
    services.values |= {"RecoverEncryption": False, "Certificates": ["signature"], "ValidityDays": 17}
    services.overruled = {
        "Certificates": ("“Staff card”: <b>authentication</b> always.",),
        "RecoverEncryption": ("“Staff card”: 9D from the archive.",),
        "ValidityDays": ("“Staff card”: something else.",),
    }
    services.fixed = frozenset({"Certificates", "RecoverEncryption"})
    before = dict(services.values)
    page = await administrator.get(OPTIONS)
    assert "“Staff card”: <b>authentication</b> always." in page.text  # as text, never as HTML
    assert "“Staff card”: something else." in page.text
    shown = [
        item.attributes for item in page.all("input") if item.attributes.get("name") in services.overruled
    ]
    assert {(item["name"], item["type"]) for item in shown} == {
        ("Certificates", "hidden"),
        ("RecoverEncryption", "hidden"),
        ("ValidityDays", "number"),
    }
    fields = _with(_fields(page), "ValidityDays", "18")
    assert (await administrator.post(OPTIONS, fields)).location == f"{OPTIONS}?saved"
    assert services.values == before | {"ValidityDays": 18}


async def test_each_option_shows_default_and_meaning_and_is_saved(
    administrator: Visitor, services: FakeServices
) -> None:
    page = await administrator.get(OPTIONS)
    for option in SCRIPT.options:
        meaning = " ".join(page.one("p", id=f"{option.name}-meaning").text.split())
        assert option.meaning in meaning
        assert f"After installation: {_shown(option)}." in meaning
    fields = _with(_fields(page), "ValidityDays", "90")
    fields = _with(fields, "Certificates", "authentication")
    fields = _with(fields, "RecoverEncryption")
    saved = await administrator.post(OPTIONS, fields)
    assert saved.location == f"{OPTIONS}?saved"
    assert "Saved." in (await administrator.get(saved.location)).text
    expected = SCRIPT.defaults() | {
        "ValidityDays": 90,
        "Certificates": ["authentication"],
        "RecoverEncryption": False,
    }
    assert services.values == expected


def _shown(option: Option) -> str:
    """A default as people read it: nothing that stands behind a choice."""
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    if isinstance(option.default, list):
        return ("; " if option.captions else ", ").join(option.caption(item) for item in option.default)
    return option.caption(str(option.default))


async def test_what_stands_behind_a_choice_is_nowhere_read(administrator: Visitor) -> None:
    text = (await administrator.get(OPTIONS)).text
    for raw in ("ALLOWED", "escrow", "keystore", "tpm"):
        assert raw not in text
    assert "The portal keeps it, encrypted" in text


async def _every_page(visitor: Visitor, services: FakeServices) -> list[Page]:
    services.card_views = [card()]
    pages = [await visitor.get(path) for path in ("/start", "/cards", "/help", "/nowhere", OPTIONS)]
    wanted = PageEvent(state="running", step=Step.BINDING, number_wanted=True, tries_left=1)
    for step, order in (
        ("information", None),
        ("open", PageEvent(state="waiting")),
        ("open", wanted),
        ("details", PageEvent(state="finished")),
        ("done", None),
    ):
        services.at(step, order=order, card=card() if step == "details" else None)
        pages.append(await visitor.get("/processes/process-1"))
    visitor.cookies.clear()
    pages.append(await visitor.get("/login"))
    return pages


async def test_every_page_keeps_to_the_rules_of_html_and_access(
    administrator: Visitor, services: FakeServices
) -> None:
    for page in await _every_page(administrator, services):
        elements = page.all("*")
        ids = [item.attributes["id"] for item in elements if "id" in item.attributes]
        assert len(ids) == len(set(ids))
        levels = [int(item.name[1]) for item in elements if item.name in ("h1", "h2", "h3", "h4")]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.one("html").attributes["lang"] == "en"
        for item in elements:
            assert "style" not in item.attributes, item
            assert not [name for name in item.attributes if name.startswith("on")], item
            for name in item.attributes.get("aria-describedby", "").split():
                assert name in ids
        for script in page.all("script"):
            assert script.text == ""


async def test_every_field_has_its_label_and_every_form_its_token(
    administrator: Visitor, services: FakeServices
) -> None:
    for page in await _every_page(administrator, services):
        labels = {item.attributes.get("for") for item in page.all("label")}
        fields = [item for name in ("input", "select", "textarea") for item in page.all(name)]
        for item in fields:
            assert item.attributes.get("type") == "hidden" or item.attributes["id"] in labels, item
        for form in page.all("form"):
            assert form.attributes["method"] == "post"
            assert page.hidden(form.attributes["action"])["csrf"]


async def test_help_shows_the_fingerprint_without_a_log_in(visitor: Visitor, services: FakeServices) -> None:
    page = await visitor.get("/help")
    assert page.one("dd", id="fingerprint").text == services.info.fingerprint
    assert services.info.origin in page.text
