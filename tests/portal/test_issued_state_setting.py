"""The setting of the internal Issued state: refused at start-up, and a whole use case with a name of one's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from portal import config
from portal.__main__ import main
from portal.errors import ModelFaults
from portal.model.certificate_model import SETTING, GraphSettings, TemplateSettings
from portal.model.states import CaState
from portal.processes import ca_changes
from portal.processes.ca_changes import Change
from portal.store.tables import Certificate
from protocol.messages import Certificates, Finished, Proceed
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.stored_objects import state_of_certificate

if TYPE_CHECKING:
    from pathlib import Path

ISSUED = "Waiting for the card"
_TRANSITIONS = {
    ISSUED: ["In use", "Revoked", "Expired"],
    "In use": ["On Hold", "Revoked", "Expired"],
    "On Hold": ["In use", "Revoked", "Expired"],
    "Revoked": [],
    "Expired": [],
}
_TEMPLATES = {
    name: {"state_graph": "ours", "issued_state": ISSUED}
    for name in ("authentication", "signature", "encryption")
}
_SETTINGS: dict[str, Any] = {
    "issued_state": ISSUED,
    "certificate_state_graphs": {"ours": GraphSettings("In use", _TRANSITIONS)},
    "certificate_templates": {name: TemplateSettings("ours", ISSUED) for name in _TEMPLATES},
}


def _file(folder: Path, **changes: Any) -> Path:
    """A configuration with a certificate graph of its own."""
    content: dict[str, Any] = {
        "origin": "https://localhost:8443",
        "name": "Example portal",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys/portal.keys",
        "passphrase_file": "passphrase",
        SETTING: ISSUED,
        "certificate_state_graphs": {"ours": {"start": "In use", "transitions": _TRANSITIONS}},
        "certificate_templates": _TEMPLATES,
    }
    (folder / "passphrase").write_text("a passphrase for throw-away keys\n")
    path = folder / "portal.json"
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {
                "certificate_state_graphs": {
                    "ours": {"start": "In use", "transitions": _TRANSITIONS | {ISSUED: ["Revoked"]}}
                }
            },
            ["certificate state graph 'ours'", "rule 1", "'In use'"],
        ),
        (
            {
                "certificate_templates": _TEMPLATES
                | {"signature": {"state_graph": "ours", "issued_state": "Issued"}}
            },
            ["certificate template 'signature'", "rule 2", ISSUED],
        ),
        (
            {
                "certificate_state_graphs": {
                    "ours": {
                        "start": "In use",
                        "transitions": _TRANSITIONS | {"On Hold": [ISSUED, "Revoked"]},
                    }
                }
            },
            ["certificate state graph 'ours'", "rule 3", "'On Hold' leads to it"],
        ),
        ({SETTING: "Another"}, ["rule 1", "rule 2", "'Another'"]),
    ],
    ids=["rule 1", "rule 2", "rule 3", "the name alone"],
)
@pytest.mark.parametrize("command", ["init", "serve"])
def test_the_portal_refuses_to_start(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    named: list[str],
    command: str,
) -> None:
    """With graph, template and rule; nothing is made."""
    if command == "serve":
        assert main(["--config", str(_file(tmp_path)), "init"]) == 0
    before = sorted(tmp_path.rglob("portal.db*"))
    assert main(["--config", str(_file(tmp_path, **changes)), command]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in ["the portal doesn't start", *named])
    assert sorted(tmp_path.rglob("portal.db*")) == before


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({SETTING: ""}, SETTING),
        ({"certificate_templates": {"signature": {"state_graph": "ours"}}}, "issued_state"),
        ({"certificate_state_graphs": {"ours": {"start": "In use"}}}, "transitions"),
        ({"relation_types": [{"name": "has a", "title": "has", "inverse": "of"}]}, "relation_types"),
    ],
)
def test_settings_that_can_not_be_read(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    """The place is named."""
    with pytest.raises(config.ConfigError) as caught:
        config.load(_file(tmp_path, **changes))
    assert where in str(caught.value)


def test_relation_types_are_checked(tmp_path: Path) -> None:
    """Exactly one default."""
    two = [
        {"name": name, "title": "x", "inverse": "y", "default": True}
        for name in ("HAS_A", "REPLACES", "MORE")
    ]
    with pytest.raises(ModelFaults, match="exactly one must be the default"):
        config.load(_file(tmp_path, relation_types=two)).model()


async def test_certificates_that_the_new_graph_would_strand(tmp_path: Path) -> None:
    """A portal that has certificates in the old states doesn't start with a graph without them."""
    async with running_portal(tmp_path) as kit:
        await _card(kit)
    with pytest.raises(ModelFaults) as caught:
        async with running_portal(tmp_path, **_SETTINGS):
            raise AssertionError
    assert "1 certificates of template 'signature' are in state 'Valid'" in str(caught.value)
    async with running_portal(tmp_path) as kit:
        assert len(await kit.valid_at_ca()) == 3


async def test_the_whole_use_case_with_a_name_of_ones_own(tmp_path: Path) -> None:
    """Issued by another name until every key has proved itself, then the graph's start state; hold, release, revoke."""
    async with running_portal(tmp_path, **_SETTINGS) as kit:
        session = await _card(kit)
        (card,) = await kit.services.cards(session)
        assert {(item.state, item.ca_state) for item in card.certificates} == {("In use", CaState.GOOD)}
        for change, shown in (
            (Change.HOLD, "On Hold"),
            (Change.RELEASE, "In use"),
            (Change.REVOKE, "Revoked"),
        ):
            async with kit.database.write() as tx:
                certificate = await tx.get_one(Certificate, card.certificates[0].id, with_for_update=True)
                await ca_changes.ask(tx, certificate, change, "test", kit.clock())
            await kit.portal.revocations.run_due()
            assert await state_of_certificate(kit, card.certificates[0].id) == shown
        assert len(await kit.valid_at_ca()) == 2


async def test_an_undone_order_with_a_name_of_ones_own(tmp_path: Path) -> None:
    """What is left in the internal state is found by its name, and revoked."""
    async with running_portal(tmp_path, **_SETTINGS) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        await agent.make_card()
        (card,) = await kit.services.cards(session)
        assert {item.state for item in card.certificates} == {ISSUED}
        await kit.services.cancel(session, view.id)
        assert await kit.valid_at_ca() == []
        (card,) = await kit.services.cards(session)
        assert {item.state for item in card.certificates} == {"Revoked"}


async def _card(kit: Kit) -> Any:
    """*Get virtual smart card* to its end; the session."""
    await kit.set_options(**P256)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    assert agent.order is not None
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(agent.card.requests(agent.order))
    certificates = await agent.hear()
    assert isinstance(certificates, Certificates)
    await agent.say(agent.receipt(certificates))
    assert isinstance(await agent.hear(), Finished)
    return session
