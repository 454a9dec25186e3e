"""From evidence to finding: each row of the table is reached by its evidence, and support finds it."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from agent import card_map, keys_system
from agent.desktop import causes, url_handler
from agent.doctor import agent_side, readers
from agent.doctor.agent_side import Answered
from agent.doctor.findings import AREAS, TABLE, Finding, finding
from agent.doctor.readers import Card, Ports, Seen
from agent.folders import Folders
from agent.pcsc.look import Evidence
from agent.pcsc.scard import ReaderState
from agent.pcsc.slots import VirtualSlot
from agent.trust import TrustStore, _file_name
from protocol import errors, jose
from protocol.errors import InlayError
from tests.support.agent_parts import folders_in

ROOT = Path(__file__).parents[3]
PIV = frozenset({bytes.fromhex("A000000308")})
PREFIXES = {code.partition("_")[0] for code in TABLE}
SHOWN = Evidence(b"\x3b\x80", PIV, guid=None, pin_tries=3)
SLOTS = (VirtualSlot("Inlay", 0, 28304), VirtualSlot("Inlay", 1, 28305))


def codes(found: list[Finding]) -> list[str]:
    return [each.code for each in found]


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", TABLE)
def test_every_row_says_what_why_and_what_to_do(code: str) -> None:
    row = TABLE[code]
    assert row.area in AREAS
    for text in (row.happened, row.why, row.next_step):
        assert text[0].isupper() or text.startswith(("{", "inlay:", "pcscd"))
    names = {name for text in row[2:] for _, name, _, _ in string.Formatter().parse(text) if name}
    assert "{" not in str(finding(code, **dict.fromkeys(names, "here")).as_json().values())


def test_a_missing_field_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError):
        finding("service_dead")


def test_no_code_is_one_of_another_table() -> None:
    assert TABLE.keys() & (errors.TABLE.keys() | causes.TABLE.keys()) == set()


def test_every_row_is_used_and_every_used_code_is_a_row() -> None:
    beside = ("findings.py", "page_view.py")  # the table itself, and what has a table of its own
    judges = [path for path in (ROOT / "agent" / "doctor").glob("*.py") if path.name not in beside]
    source = "".join(path.read_text("utf-8") for path in judges)
    used = {
        code
        for code in re.findall(r"\"([a-z_]+)\"", source)
        if code.partition("_")[0] in PREFIXES and "_" in code
    }
    assert used == TABLE.keys()


def test_support_finds_every_finding() -> None:
    text = (ROOT / "docs" / "support.md").read_text("utf-8")
    assert re.findall(r"^\| [a-z ]+ \| `([a-z_]+)` \|", text, re.MULTILINE) == list(TABLE)


# --- service and readers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (Seen(InlayError("pcsc_no_service"), installed=False, socket=False), "service_missing"),
        (Seen(InlayError("pcsc_no_service"), installed=True, socket=False), "service_stopped"),
        (Seen(InlayError("pcsc_no_service"), installed=True, socket=True), "service_dead"),
        (Seen(InlayError("pcsc_refused")), "pcsc_refused"),
        (Seen(None, None), "service_silent"),
        (Seen(None), "service_answers"),
    ],
)
def test_the_service(seen: Seen, code: str) -> None:
    [found] = readers.judge_service(seen)
    assert found.code == code
    assert found.level == ("ok" if code == "service_answers" else "problem")


def test_readers() -> None:
    full, empty = ReaderState("A", True, b"\x3b\x80"), ReaderState("Inlay 00 00", False, b"")
    assert codes(readers.judge_readers(Seen(InlayError("pcsc_no_service"), usb=("CCID",)), 0)) == []
    assert codes(readers.judge_readers(Seen(None), 0)) == ["reader_none"]
    assert codes(readers.judge_readers(Seen(None, usb=("CCID",)), 0)) == ["reader_undriven"]
    assert codes(readers.judge_readers(Seen(None, (empty,), usb=("CCID",)), 1)) == [
        "reader_ready",
        "reader_undriven",
    ]
    found = readers.judge_readers(Seen(None, (full, empty), usb=("CCID",)), 1)
    assert codes(found) == ["reader_ready", "reader_ready"]
    assert "3B80" in found[0].why


# --- cards -------------------------------------------------------------------------------------


def judged(machine: Path, card: Card) -> list[Finding]:
    kinds = card_map.load(machine, machine.stat().st_uid)
    return readers.judge_cards([card], kinds, machine)


def test_cards(tmp_path: Path) -> None:
    assert codes(judged(tmp_path, Card("A", problem=InlayError("pcsc_sharing")))) == ["card_unread"]
    assert codes(judged(tmp_path, Card("A"))) == ["card_busy"]
    assert codes(judged(tmp_path, Card("A", SHOWN))) == ["card_driver"]
    blocked, last = Evidence(b"\x3b\x80", PIV, pin_tries=0), Evidence(b"\x3b\x80", PIV, pin_tries=1)
    assert codes(judged(tmp_path, Card("A", blocked))) == ["card_driver", "card_blocked"]
    assert codes(judged(tmp_path, Card("A", last))) == ["card_driver", "card_last_try"]
    [unknown] = judged(tmp_path, Card("A", Evidence(b"\x3b\x00")))
    assert unknown.code == "card_unmapped"
    assert 'atr = "3B00"' in unknown.next_step
    [bare] = judged(
        tmp_path, Card("A", Evidence(b"\x3b\x00", frozenset({bytes.fromhex("A000000151000000")})))
    )
    assert bare.code == "card_bare"
    assert "SCP03" in bare.next_step


def test_the_card_map(tmp_path: Path) -> None:
    (tmp_path / "cards.d").mkdir()
    (tmp_path / "cards.d" / "a.toml").write_text(
        '[[card]]\nname = "A"\ndriver = "pkcs11"\nmodule = "/no/such.so"\natr = "3B00"\n'
    )
    (tmp_path / "cards.d" / "b.toml").write_text("wrong")
    found = judged(tmp_path, Card("A", Evidence(b"\x3b\x00")))
    assert codes(found) == ["card_map_trouble", "card_module_missing"]
    assert "/no/such.so" in found[1].why


# --- virtual readers ---------------------------------------------------------------------------


def test_virtual_readers() -> None:
    ports = frozenset({28304, 28305})
    assert codes(readers.judge_ports(Ports(()))) == ["vpcd_none"]
    assert codes(readers.judge_ports(Ports(SLOTS))) == ["vpcd_closed"]
    [found] = readers.judge_ports(Ports(SLOTS, ports, ports))
    assert (found.code, found.level) == ("vpcd_open", "problem")
    assert "28304, 28305" in found.why
    assert codes(readers.judge_ports(Ports(SLOTS, ports, ports, "A rule keeps them."))) == ["vpcd_local"]
    assert codes(readers.judge_ports(Ports(SLOTS, ports))) == ["vpcd_local"]


def test_the_rule_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_DROP_INS", tmp_path)
    assert readers._guard() is None
    (tmp_path / "a.conf").write_text("[Service]\n# IPAddressDeny=any\n")
    assert readers._guard() is None
    (tmp_path / "b.conf").write_text((ROOT / "packaging" / "linux" / "pcscd-loopback.conf").read_text())
    assert "b.conf" in str(readers._guard())


def test_usb_readers_are_what_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_USB", tmp_path)
    for name, kind in (("1-1:1.0", "0b"), ("1-2:1.0", "03"), ("1-3:1.0", "0b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bInterfaceClass").write_text(f"{kind}\n")
    (tmp_path / "1-1").mkdir()
    (tmp_path / "1-1" / "product").write_text("Reader of a maker\n")
    assert list(readers._usb_readers()) == ["Reader of a maker", "1-3"]


# --- the agent's side --------------------------------------------------------------------------


def test_programs_are_named_where_one_of_them_may_have_a_card() -> None:
    kept = [Card("A", problem=InlayError("pcsc_sharing"))]
    assert readers.judge_clients([], ["gpg (process 7)"]) == []
    assert readers.judge_clients([Card("A", problem=InlayError("pcsc_card_mute"))], ["gpg (process 7)"]) == []
    assert readers.judge_clients(kept, []) == []
    for cards in (kept, [Card("A")]):
        [found] = readers.judge_clients(cards, ["gpg (process 7)", "ykman (process 8)"])
        assert (found.code, found.level) == ("card_programs", "note")
        assert "gpg (process 7), ykman (process 8)" in found.happened


def test_the_agent() -> None:
    assert codes(agent_side.judge_agent(Answered(None))) == ["agent_rests"]
    assert codes(agent_side.judge_agent(Answered(None, ("It was silent.", "Restart it.")))) == [
        "agent_unwell"
    ]
    cards = [{"label": "A", "problem": None}, {"label": "B", "problem": "All readers are taken."}]
    notes = [{"code": "x", "happened": "They stay.", "why": "No logind.", "next": "End the agent."}]
    told = agent_side.judge_agent(Answered({"version": "1", "cards": cards, "notes": notes}))
    assert (told[-1].level, told[-1].happened, told[-1].next_step) == ("note", "They stay.", "End the agent.")
    found = agent_side.judge_agent(Answered({"version": "1", "cards": cards}))
    assert codes(found) == ["agent_runs", "virtual_card_hidden"]
    logs = agent_side.judge_agent(Answered({"version": "1", "traffic": True}))
    assert [(each.code, each.level) for each in logs] == [("agent_runs", "ok"), ("agent_traffic", "note")]
    assert found[1].why == "All readers are taken."


def test_links(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = url_handler.Problem(*causes.told("link_no_default"))
    monkeypatch.setattr(url_handler, "status", lambda: url_handler.Status("/a", None, problem))
    [found] = agent_side.judge_links()
    assert (found.code, found.level) == ("link_no_default", "problem")
    monkeypatch.setattr(url_handler, "status", lambda: url_handler.Status("/a", "/a", None))
    assert codes(agent_side.judge_links()) == ["link_works"]


def test_pages_without_an_agent() -> None:
    assert codes(agent_side.judge_pages(running=False)) == ["page_rests"]
    assert codes(agent_side.judge_pages(running=True)) == ["page_blocked"]


def test_no_portal(tmp_path: Path) -> None:
    assert codes(agent_side.judge_portals(folders_in(tmp_path))) == ["portal_none"]


def test_portals(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    entry = TrustStore(folders).add("portal.test", "Portal", jose.SigningKey.generate().public, None)
    found = agent_side.judge_portals(folders)
    assert codes(found) == ["portal_trusted"]
    assert entry.fingerprint in found[0].why
    remembered = folders.state / "keysets"
    remembered.mkdir()
    (remembered / _file_name(entry.portal)).write_bytes(b"damaged")
    assert codes(agent_side.judge_portals(folders)) == ["portal_stale"]


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: Folders = folders_in(tmp_path)
    monkeypatch.setattr(keys_system, "problem_unasked", lambda: None)
    assert codes(agent_side.judge_keys(folders)) == ["keys_store"]
    monkeypatch.setattr(keys_system, "problem_unasked", keys_system.KeystoreLocked)
    assert codes(agent_side.judge_keys(folders)) == ["keys_locked"]
    monkeypatch.setattr(keys_system, "problem_unasked", keys_system.KeystoreMissing)
    assert codes(agent_side.judge_keys(folders)) == ["keys_file"]
    (folders.machine / "policy.json").write_text("not a policy")
    assert codes(agent_side.judge_keys(folders)) == ["keys_none"]
