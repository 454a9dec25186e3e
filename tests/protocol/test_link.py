"""The link names a portal and a code, and nothing else gets through."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import errors, link

CODE = "AbCdEfGhIjKlMnOpQrSt-_"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("inlay:portal.test/" + "A" * 400, "link_too_long"),
        ("https://portal.test/" + CODE, "link_wrong_scheme"),
        ("xinlay:portal.test/" + CODE, "link_wrong_scheme"),
        ("inlay", "link_wrong_scheme"),
        ("", "link_wrong_scheme"),
        ("inlay:", "link_malformed"),
        ("inlay:portal.test", "link_malformed"),
        ("inlay:portal.test/", "link_malformed"),
        ("inlay:/" + CODE, "link_malformed"),
        ("inlay://portal.test/" + CODE, "link_malformed"),
        (f"inlay:portal.test/{CODE}/x", "link_malformed"),
        (f"inlay:user@portal.test/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test:443/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test:08443/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test:65536/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test:/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test:٣/{CODE}", "link_bad_portal"),
        (f"inlay:Portal.test/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test./{CODE}", "link_bad_portal"),
        (f"inlay:.portal.test/{CODE}", "link_bad_portal"),
        (f"inlay:-portal.test/{CODE}", "link_bad_portal"),
        (f"inlay:pörtal.test/{CODE}", "link_bad_portal"),
        (f"inlay:[::1]/{CODE}", "link_bad_portal"),
        (f"inlay:--flag portal/{CODE}", "link_bad_portal"),
        (f"inlay:portal.test/{CODE}?a=b", "link_bad_code"),
        (f"inlay:portal.test/{CODE}#a", "link_bad_code"),
        (f"inlay:portal.test/{CODE}\n", "link_bad_code"),
        (f"inlay:portal.test/{CODE[:-1]}", "link_bad_code"),
        (f"inlay:portal.test/{CODE[:-1]}=", "link_bad_code"),
        (f"inlay:portal.test/{CODE[:-1]}%", "link_bad_code"),
        (f"inlay:portal.test/{CODE[:-1]}\N{FULLWIDTH DIGIT ONE}", "link_bad_code"),
        (f"inlay:portal.test/{CODE[:-1]}\ud800", "link_bad_code"),
    ],
)
def test_refuses_anything_but_a_portal_and_a_code(text: str, cause: str) -> None:
    with pytest.raises(link.LinkError) as caught:
        link.parse(text)
    assert caught.value.cause == cause
    assert errors.TABLE[cause].why == caught.value.explanation or cause == "link_bad_code"


@given(st.text(max_size=400))
def test_any_text_is_a_link_or_a_named_error(text: str) -> None:
    try:
        parsed = link.parse(text)
    except link.LinkError as error:
        cause = error.cause
    else:
        assert link.parse(link.build(parsed.portal, parsed.code)) == parsed
        return
    assert cause in errors.TABLE


def test_takes_portal_and_code_whatever_the_case_of_the_scheme() -> None:
    assert link.parse(f"inlay:portal.test:8443/{CODE}") == link.Link("portal.test:8443", CODE)
    assert link.parse(f"INLAY:xn--prtal-kua.test/{CODE}").portal == "xn--prtal-kua.test"


def test_a_link_does_not_show_its_code() -> None:
    assert CODE not in repr(link.parse(f"inlay:portal.test/{CODE}"))


@pytest.mark.parametrize(
    "typed", ["", "ABCDE-FGHJ", "ABCDEFGHJKM", "ABCDE-FGHJU", "ABCDE FGHJ\u0130", "A" * 100]
)
def test_refuses_a_typed_code_that_is_none(typed: str) -> None:
    with pytest.raises(link.LinkError) as caught:
        link.normalise_typed_code(typed)
    assert caught.value.cause == "link_bad_code"


def test_reads_a_typed_code_as_people_write_it() -> None:
    assert link.normalise_typed_code(" abcde-fghjk ") == "ABCDEFGHJK"
    assert link.normalise_typed_code("OIL0000000") == "0110000000"


def test_imports_next_to_nothing() -> None:
    """The link is on the path between the click and the window: it may cost no import worth naming."""
    script = "import sys; before = set(sys.modules); import protocol.link; print(sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['__future__', 'protocol', 'protocol.link']"
