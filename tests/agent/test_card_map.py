"""Which driver for which card: files that don't count and say why, unknown cards, then the right one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import card_map
from agent.card_map import CardMap
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import Evidence, look
from protocol.errors import InlayError
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import PROFILES
from tests.cards.simulated import ATR, SimulatedCard, SimulatedLink

OWNER = os.geteuid()
ENTRY = 'name = "A"\ndriver = "pkcs11"\nmodule = "/opt/a.so"\n'


def load(folder: Path, **files: str) -> CardMap:
    (folder / "cards.d").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "cards.d" / f"{name}.toml").write_text(text)
    return card_map.load(folder, OWNER)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[card]\n", "it is not TOML"),
        ("\udcff", "it is not TOML"),
        ("[cards]\n", "something other than [[card]]"),
        ("card = 1\n", "something other than [[card]]"),
        ('[[card]]\ndriver = "piv"\naid = "A000"\n', "name is no text"),
        ('[[card]]\nname = "A"\naid = "A000"\n', "driver is neither"),
        ('[[card]]\nname = "A"\ndriver = "gids"\naid = "A000"\n', "driver is neither"),
        ('[[card]]\nname = "A"\ndriver = "pkcs11"\natr = "3B00"\n', "module belongs to"),
        ('[[card]]\nname = "A"\ndriver = "piv"\nmodule = "/a.so"\natr = "3B00"\n', "module belongs to"),
        ('[[card]]\nname = "A"\ndriver = "pkcs11"\nmodule = "a.so"\natr = "3B00"\n', "no absolute path"),
        (f"[[card]]\n{ENTRY}", "neither atr nor aid"),
        (f'[[card]]\n{ENTRY}atr = "3B0"\n', "atr is not 2 to 33 bytes"),
        (f'[[card]]\n{ENTRY}atr = "3B00"\natr_mask = "FF"\n', "atr_mask is not"),
        (f'[[card]]\n{ENTRY}atr = "3B00"\natr_mask = "FFFFFF"\n', "atr_mask is not as long"),
        (f'[[card]]\n{ENTRY}atr = "3B00"\nhas = ["wings"]\n', "has names something other"),
        (f'[[card]]\n{ENTRY}atr = "3B00"\nserial = "no"\n', "serial is neither true nor false"),
        (f'[[card]]\n{ENTRY}atr = "3B00"\nname_ = 1\n', "unknown word name_"),
        (f'[[card]]\n{ENTRY}aid = "A000"\n[[card]]\nname = "B"\n', "card 2: driver is neither"),
    ],
)
def test_a_file_that_can_not_be_used_says_why_and_the_others_count(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "cards.d" / "bad.toml"
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = load(tmp_path, good=f'[[card]]\n{ENTRY}atr = "3B00"\n')
    assert [kind.name for kind in found.kinds] == ["A", "PIV card"]
    [trouble] = found.troubles
    assert trouble.file == str(path)
    assert why in trouble.why


def test_a_file_that_others_may_write_does_not_count(tmp_path: Path) -> None:
    load(tmp_path, loose=f'[[card]]\n{ENTRY}atr = "3B00"\n')
    (tmp_path / "cards.d" / "loose.toml").chmod(0o666)
    found = card_map.load(tmp_path, OWNER)
    assert [kind.name for kind in found.kinds] == ["PIV card"]
    assert "root's alone" in found.troubles[0].why


def test_without_a_folder_the_shipped_map_counts(tmp_path: Path) -> None:
    found = card_map.load(tmp_path, OWNER)
    assert [kind.driver for kind in found.kinds] == ["piv"]
    assert found.troubles == ()
    assert found.aids == {bytes.fromhex("A000000308")}


def test_an_unknown_card_is_shown_how_to_be_known(tmp_path: Path) -> None:
    evidence = Evidence(bytes.fromhex("3B8C80010203"))
    assert load(tmp_path).choose(evidence) is None
    text = card_map.entry_for(evidence, tmp_path)
    chosen = load(tmp_path, added=text).choose(evidence)
    assert chosen is not None
    assert (chosen[0].driver, chosen[1]) == ("pkcs11", "its ATR is the one named")


def test_the_administrators_entries_come_first_by_file_name(tmp_path: Path) -> None:
    aid = 'aid = "A000000308"\n'
    found = load(
        tmp_path,
        b=f'[[card]]\nname = "second"\ndriver = "piv"\n{aid}',
        a=f'[[card]]\nname = "first"\ndriver = "piv"\n{aid}has = ["metadata"]\n',
    )
    plain = Evidence(b"\x3b\x00", frozenset({bytes.fromhex("A000000308")}))
    chosen = found.choose(plain)
    assert chosen is not None
    assert (chosen[0].name, chosen[1]) == ("second", "it answers to A000000308")


def test_a_mask_says_which_bits_count(tmp_path: Path) -> None:
    found = load(tmp_path, a=f'[[card]]\n{ENTRY}atr = "3B8C0000"\natr_mask = "FFFF00F0"\n')
    assert found.choose(Evidence(bytes.fromhex("3B8CAB0F"))) is not None
    assert found.choose(Evidence(bytes.fromhex("3B8CAB1F"))) is None
    assert found.choose(Evidence(bytes.fromhex("3B8CAB"))) is None


@pytest.mark.parametrize("profile", kinds(1), ids=lambda profile: profile.name)
def test_every_kind_of_piv_card_is_found_by_what_it_shows(tmp_path: Path, profile: object) -> None:
    link = SimulatedLink(card_of(profile))  # type: ignore[arg-type]
    found = load(
        tmp_path, a='[[card]]\nname = "new"\ndriver = "piv"\natr = "3B80800101"\nhas = ["metadata"]\n'
    )
    evidence = look(CardConnection(link, "Reader"), found.aids)
    assert evidence.atr == ATR
    assert evidence.pin_tries == link.card.profile.pin_tries
    assert (evidence.guid is not None) == link.card.profile.chuid
    chosen = found.choose(evidence)
    if link.card.profile.metadata:
        assert chosen is not None
        assert chosen[1] == "its ATR is the one named and it has metadata"
    else:
        assert chosen is not None
        assert (chosen[0].name, chosen[0].driver) == ("PIV card", "piv")
    assert link.resets == 0


def test_a_card_that_is_no_piv_card_is_looked_at_all_the_same(tmp_path: Path) -> None:
    link = SimulatedLink(SimulatedCard(PROFILES[0]))
    link.card.profile = link.card.profile.__class__("none", select=())
    evidence = look(CardConnection(link, "Reader"), load(tmp_path).aids)
    assert (evidence.capabilities, evidence.features) == (None, frozenset())
    link.before = lambda _number: (_ for _ in ()).throw(InlayError("pcsc_card_removed"))
    with pytest.raises(InlayError):
        look(CardConnection(link, "Reader"), frozenset())


@given(st.text(max_size=200))
def test_any_text_is_a_map_or_a_reason(text: str) -> None:
    with contextlib.suppress(card_map._Unusable):
        assert card_map._kinds(text.encode("utf-8", "replace"), "a") == []
