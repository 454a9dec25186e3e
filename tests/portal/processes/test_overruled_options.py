"""What the page of options says of descriptions of cards: nothing that isn't so, then what they decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portal import config_cards
from portal.encoding.piv_rules import Part
from portal.model.card_options import CARDS, MOBILE_IDS, TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes import overruled_options
from portal.processes.card_descriptions import BUILT_IN
from tests.support import token_cards
from tests.support.piv_descriptions import STAFF, configure, described, example

if TYPE_CHECKING:
    from portal.config_cards import CardDescriptionFiles
    from portal.processes.card_descriptions import CardDescription
    from portal.processes.overruled_options import Overruled
    from tests.support.portal_kit import Kit

WRITING = (Part.ISSUE, Part.ENCODE, Part.EXTEND)


def kinds(files: dict[str, CardDescriptionFiles]) -> dict[str, CardDescription]:
    return {name: config_cards.described(name, item) for name, item in files.items()}


def said(script: str, files: dict[str, CardDescriptionFiles]) -> dict[str, Overruled]:
    return overruled_options.of_script(script, kinds(files))


def fields_alone(part: Part) -> str:
    """An example that leaves to the options all that can be left to them."""
    text = example(part)
    for slot, purpose in (("9A", "authentication"), ("9D", "encryption")):
        upper = purpose.upper()
        head = f"KeyReference=#{slot}\n"
        text = text.replace(head, f"OnlyIf=WITH_{upper}\n{head}", 1)
    text = text.replace("#P-256", "SIGNATURE_ALGORITHM").replace("#RSA-2048", "SIGNATURE_ALGORITHM")
    text = text.replace("KeySource=#import", "KeySource=ENCRYPTION_SOURCE")
    begin, end = text.index("# for doors"), text.index("# where the options")
    fields = "[Fields]\nWITH_AUTHENTICATION=\nWITH_ENCRYPTION=\n"
    fields += "" if "\nENCRYPTION_SOURCE=\n" in text else "ENCRYPTION_SOURCE=\n"
    return (text[:begin] + text[end:]).replace("[Fields]\n", fields)


def test_nothing_is_said_where_nothing_is_described_or_everything_is_left_to_the_options(
    tmp_path: Path,
) -> None:
    assert overruled_options.of_script(CARDS, {}) == {}
    assert said(MOBILE_IDS, described(tmp_path)) == {}
    assert said("VirtualSmartCardScriptOptions", described(tmp_path)) == {}
    texts = {part.value: fields_alone(part) for part in WRITING}
    files = described(tmp_path, only=WRITING, **texts)
    assert said(CARDS, files) == {}
    left = said(TEMPORARY_CARDS, files)
    assert set(left) == {"TempCardsPINEntry"}  # the PIN's place is always the description's
    assert said(CARDS, described(tmp_path, only=(Part.EXTEND,))) == {}


def test_each_option_says_what_is_done_in_its_place(tmp_path: Path) -> None:
    found = said(CARDS, described(tmp_path))
    assert {name: item.notes for name, item in found.items()} == {
        "CardsCertificates": ("“Staff card”: authentication always, encryption always.",),
        "CardsKeyAlgorithm": ("“Staff card”: 9A P-256, 9E P-256, 9D RSA-2048.",),
        "CardsRecoverEncryption": ("“Staff card”: 9D from the archive.",),
        "CardsPINEntry": ("“Staff card”: as its description says.",),
    }
    assert not any(item.wholly for item in found.values())  # PIV cards of no described kind are left


def test_where_new_holders_and_extending_differ_both_are_said(tmp_path: Path) -> None:
    found = said(TEMPORARY_CARDS, described(tmp_path))
    assert found["TempCardsRecoverEncryption"].notes == (
        "“Staff card”: 9D from the archive for a new holder.",
    )
    assert "TempCardsNewKeys" not in found  # its sources are fields
    text = example(Part.EXTEND).replace("KeySource=AUTHENTICATION_SOURCE", "KeySource=#generate", 1)
    text = text.replace("KeySource=SIGNATURE_SOURCE", "KeySource=#keep")
    found = said(TEMPORARY_CARDS, described(tmp_path, extend=text))
    assert found["TempCardsNewKeys"].notes == ("“Staff card”: 9A a new one, 9C stays.",)
    fewer = example(Part.EXTEND)
    fewer = fewer[: fewer.index("# where the options")]
    found = said(TEMPORARY_CARDS, described(tmp_path, extend=fewer))
    assert found["TempCardsCertificates"].notes == (
        "“Staff card”: authentication always, encryption always for a new holder; authentication always, signature "
        "never, encryption never when it is extended.",
    )


def test_an_option_that_no_card_is_left_to_is_told_apart(tmp_path: Path) -> None:
    text = example(Part.ISSUE).replace("OnlyIf=WITH_SIGNATURE\n", "")
    files = described(tmp_path, name=BUILT_IN, issue=text)
    found = said(CARDS, files)
    assert {name for name, item in found.items() if item.wholly} == {
        "CardsCertificates",
        "CardsRecoverEncryption",
        "CardsPINEntry",
    }
    files |= token_cards.described(tmp_path)  # its certificates are the options', and where its PIN is typed
    found = said(CARDS, files)
    assert {name for name, item in found.items() if item.wholly} == {"CardsRecoverEncryption"}
    assert found["CardsRecoverEncryption"].notes == (
        "“PIV card”: 9D from the archive.",
        "“Vendor token”: 9D from the archive.",
    )
    assert found["CardsAttestation"].notes == (
        "“Vendor token”: can't prove it: refused where it is required, and not asked otherwise.",
    )


async def test_the_administrators_page_has_it_and_saving_leaves_what_is_stored(
    kit: Kit, tmp_path: Path
) -> None:
    configure(kit, tmp_path, name=BUILT_IN, only=tuple(Part))
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    view = await kit.services.options(root, CARDS)
    assert view.fixed == {"CardsRecoverEncryption", "CardsPINEntry"}
    assert view.notes["CardsKeyAlgorithm"] == ("“PIV card”: 9A P-256, 9E P-256, 9D RSA-2048.",)
    assert STAFF not in str(view.notes)
    assert (await kit.services.options(root, MOBILE_IDS)).notes == {}
