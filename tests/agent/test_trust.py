"""The trust store: whose entries count, what is pinned, and how a portal is added in two steps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from agent.trust import CHANNEL_PATH, TrustStore
from agent.trust_desk import TrustStoreDesk
from agent.trust_fetch import portal_id
from protocol import jose, keyset
from protocol.errors import InlayError
from protocol.messages import KeySet, Message, PublicJwk, Ticket
from protocol.page_messages import TICKET_SECONDS
from tests.support.agent_parts import AgentParts, folders_in
from tests.support.fake_portal import FakePortal

ROOT = jose.SigningKey.generate()
ORDER_KEY = jose.SigningKey.generate()


def write_entry(folder: Path, portal: str, root: PublicJwk = ROOT.public, name: str = "Portal") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{portal.replace(':', '_')}.json"
    entry = {"portal": portal, "name": name, "root_key": msgspec.to_builtins(root), "added": "2026-01-02"}
    path.write_text(json.dumps(entry))
    path.chmod(0o644)
    return path


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(folders_in(tmp_path), administrator=os.geteuid())


def code_of(caught: pytest.ExceptionInfo[InlayError]) -> str:
    return caught.value.code


def test_unknown_is_unknown(store: TrustStore) -> None:
    with pytest.raises(InlayError) as caught:
        store.find("portal.test")
    assert code_of(caught) == "portal_unknown"


def test_a_users_entry_never_shadows_the_administrators(store: TrustStore, tmp_path: Path) -> None:
    write_entry(tmp_path / "etc" / "trust.d", "portal.test", name="Administrator's")
    write_entry(tmp_path / "config" / "trust.d", "portal.test", jose.SigningKey.generate().public)
    entry = store.find("portal.test")
    assert (entry.scope, entry.name, entry.root_key) == ("machine", "Administrator's", ROOT.public)
    for change in (
        lambda: store.add("portal.test", "Mine", ORDER_KEY.public, None),
        lambda: store.remove("portal.test"),
    ):
        with pytest.raises(InlayError) as caught:
            change()
        assert code_of(caught) == "portal_forbidden"


def test_policy_can_forbid_users_entries(store: TrustStore, tmp_path: Path) -> None:
    store.add("portal.test", "Mine", ROOT.public, None)
    policy = tmp_path / "etc" / "policy.json"
    policy.write_text('{"user_trust": false}')
    policy.chmod(0o644)
    assert store.entries() == []
    with pytest.raises(InlayError) as caught:
        store.add("other.test", "Mine", ROOT.public, None)
    assert code_of(caught) == "portal_forbidden"


@pytest.mark.parametrize("content", ["{", '{"user_trust": "yes"}', '{"unknown": 1}'])
def test_a_policy_that_cannot_be_read_forbids(store: TrustStore, tmp_path: Path, content: str) -> None:
    store.add("portal.test", "Mine", ROOT.public, None)
    policy = tmp_path / "etc" / "policy.json"
    policy.write_text(content)
    assert store.entries() == []


def test_a_machine_wide_file_that_others_can_write_does_not_count(store: TrustStore, tmp_path: Path) -> None:
    path = write_entry(tmp_path / "etc" / "trust.d", "portal.test")
    path.chmod(0o666)
    assert store.entries() == []
    path.chmod(0o644)
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))
    assert store.entries() == []


def test_a_machine_wide_file_of_another_user_does_not_count(tmp_path: Path) -> None:
    write_entry(tmp_path / "etc" / "trust.d", "portal.test")
    assert TrustStore(folders_in(tmp_path), administrator=os.geteuid() + 1).entries() == []


@pytest.mark.parametrize("portal", ["PORTAL.test", "portal.test:443", "portal.test/x", "..", "a b"])
def test_an_entry_that_names_no_portal_does_not_count(store: TrustStore, tmp_path: Path, portal: str) -> None:
    path = write_entry(tmp_path / "config" / "trust.d", "portal.test")
    path.write_text(path.read_text().replace('"portal.test"', json.dumps(portal)))
    assert store.entries() == []


def test_a_damaged_entry_harms_no_other(store: TrustStore, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "trust.d"
    write_entry(folder, "portal.test")
    (folder / "broken.json").write_text("{")
    assert [entry.portal for entry in store.entries()] == ["portal.test"]


def signed_set(version: int, root: jose.SigningKey = ROOT, key: jose.SigningKey = ORDER_KEY) -> str:
    now = int(time.time())
    value = KeySet(
        iss="portal.test",
        version=version,
        iat=now - 1,
        exp=now + 600,
        order_keys=keyset.order_keys([key]),
        name="Portal",
        channel_path="/elsewhere",
    )
    return keyset.sign(value, root)


def test_a_key_set_never_goes_back_not_even_after_the_entry_was_removed(
    store: TrustStore, tmp_path: Path
) -> None:
    entry = store.add("portal.test", "Portal", ROOT.public, None)
    assert store.channel_path(entry) == CHANNEL_PATH
    store.accept_key_set(entry, signed_set(3))
    assert store.channel_path(entry) == "/elsewhere"
    again = TrustStore(folders_in(tmp_path), administrator=os.geteuid())
    again.remove("portal.test")
    entry = again.add("portal.test", "Portal", ROOT.public, None)
    with pytest.raises(InlayError) as caught:
        again.accept_key_set(entry, signed_set(2))
    assert code_of(caught) == "keyset_rolled_back"


def test_a_new_root_key_starts_anew(store: TrustStore) -> None:
    store.accept_key_set(store.add("portal.test", "Portal", ROOT.public, None), signed_set(3))
    other = jose.SigningKey.generate()
    entry = store.add("portal.test", "Portal", other.public, None)
    assert store.accept_key_set(entry, signed_set(1, other)).version == 1


def test_a_remembered_key_set_that_was_altered_is_not_believed(store: TrustStore, tmp_path: Path) -> None:
    entry = store.add("portal.test", "Portal", ROOT.public, None)
    store.accept_key_set(entry, signed_set(3))
    [path] = (tmp_path / "state" / "keysets").iterdir()
    path.write_text(path.read_text().replace('"token":"', '"token":"x'))
    with pytest.raises(InlayError) as caught:
        store.accept_key_set(entry, signed_set(4))
    assert code_of(caught) == "keyset_invalid"


@pytest.mark.parametrize(
    "url",
    [
        "http://portal.test",
        "ftp://portal.test",
        "https://",
        "https://user@portal.test",
        "https://portal.test/path",
        "https://portal.test?x",
        "https://portal.test#x",
        "https://[::1]",
        "https://portal.test:99999",
        "https://por tal.test",
        "-portal",
        "javascript:alert(1)",
    ],
)
def test_only_a_plain_https_address_names_a_portal(url: str) -> None:
    with pytest.raises(InlayError) as caught:
        portal_id(url)
    assert code_of(caught) == "link_bad_portal"


@pytest.mark.parametrize(
    ("url", "portal"),
    [
        ("https://portal.test", "portal.test"),
        ("https://portal.test:443/", "portal.test"),
        ("https://Portal.test:8443", "portal.test:8443"),
        ("portal.test:8443", "portal.test:8443"),
        ("https://bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_portal_ids_have_one_spelling(url: str, portal: str) -> None:
    assert portal_id(url) == portal


# --- two steps


async def test_looking_adds_nothing(agent: AgentParts, portal: FakePortal) -> None:
    agent.trust.remove(portal.portal)
    desk = TrustStoreDesk(agent.trust)
    found = await desk.look(portal.origin, portal.tls.ca_file.read_text())
    assert found["fingerprint"] == jose.fingerprint(portal.root.public)
    assert found["origin"] == portal.origin
    assert agent.trust.entries() == []


async def test_a_portal_behind_an_unknown_authority_is_not_even_shown(
    agent: AgentParts, portal: FakePortal
) -> None:
    with pytest.raises(InlayError) as caught:
        await TrustStoreDesk(agent.trust).look(portal.origin, None)
    assert code_of(caught) == "portal_tls_untrusted"


async def test_another_fingerprint_than_the_confirmed_one_adds_nothing(
    agent: AgentParts, portal: FakePortal
) -> None:
    agent.trust.remove(portal.portal)
    desk = TrustStoreDesk(agent.trust)
    with pytest.raises(InlayError) as caught:
        await desk.add(portal.origin, portal.tls.ca_file.read_text(), "0000 0000")
    assert code_of(caught) == "fingerprint_mismatch"
    assert agent.trust.entries() == []


async def test_a_key_set_that_the_root_key_did_not_sign_adds_nothing(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.faults.key_set_signer = ORDER_KEY
    with pytest.raises(InlayError) as caught:
        await TrustStoreDesk(agent.trust).look(portal.origin, portal.tls.ca_file.read_text())
    assert code_of(caught) == "keyset_invalid"


async def test_a_portal_that_is_away_is_said(agent: AgentParts, portal: FakePortal) -> None:
    await portal.stop()
    with pytest.raises(InlayError) as caught:
        await TrustStoreDesk(agent.trust).look(portal.origin, portal.tls.ca_file.read_text())
    assert code_of(caught) == "portal_unreachable"


async def test_the_confirmed_fingerprint_adds_the_portal(agent: AgentParts, portal: FakePortal) -> None:
    agent.trust.remove(portal.portal)
    desk = TrustStoreDesk(agent.trust)
    ca = portal.tls.ca_file.read_text()
    found = await desk.look(portal.origin, ca)
    await desk.add(portal.origin, ca, found["fingerprint"].lower().replace(" ", ""))
    [row] = desk.overview()
    assert (row["portal"], row["scope"], row["name"]) == (portal.portal, "user", "Test portal")
    assert agent.trust.known_key_set(agent.trust.find(portal.portal)) is not None


# --- tickets


class WritingTicket(Message, frozen=True):
    """A ticket of a level that there is none of."""

    iss: str
    origin: str
    iat: int
    exp: int
    aud: str = "inlay"
    level: str = "write"


def ticket(portal: FakePortal, key: jose.SigningKey | None = None, **changes: object) -> str:
    now = int(time.time())
    value = Ticket(iss=portal.portal, aud="inlay", origin=portal.origin, level="read", iat=now, exp=now + 60)
    return (key or portal.key).sign(jose.TICKET, msgspec.structs.replace(value, **changes))


async def test_tickets(agent: AgentParts, portal: FakePortal) -> None:
    desk = TrustStoreDesk(agent.trust)
    good = ticket(portal)
    with pytest.raises(InlayError):
        desk.check_ticket(good, portal.origin)  # no key set was seen yet
    agent.trust.accept_key_set(agent.trust.find(portal.portal), portal.key_set())
    desk.check_ticket(good, portal.origin)
    now = int(time.time())
    for bad in (
        ticket(portal, ORDER_KEY),
        ticket(portal, iss="other.test"),
        ticket(portal, origin="https://other.test"),
        ticket(portal, iat=now - 100, exp=now - 1),
        ticket(portal, iat=now - TICKET_SECONDS - 1, exp=now + 7200),
        ticket(portal, iat=now + 600, exp=now + 700),
        portal.key.sign(jose.TICKET, WritingTicket(portal.portal, portal.origin, now, now + 60)),
        "a.b.c",
    ):
        with pytest.raises(InlayError) as caught:
            desk.check_ticket(bad, portal.origin)
        assert code_of(caught) == "not_authenticated"
    with pytest.raises(InlayError):
        desk.check_ticket(good, "https://other.test")
    assert desk.check_ticket(ticket(portal, exp=now + 7200), portal.origin) <= TICKET_SECONDS
