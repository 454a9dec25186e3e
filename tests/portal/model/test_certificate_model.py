"""The three rules of the internal state, and what else certificate graphs and templates must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import ModelFaults, WrongReason, WrongState
from portal.model.certificate_model import (
    PROFILES,
    SETTING,
    CertificateModel,
    GraphSettings,
    TemplateSettings,
)
from portal.model.graphs import Why

if TYPE_CHECKING:
    from collections.abc import Mapping

ISSUED = "Waiting for the card"


def graph(**changes: list[str]) -> dict[str, GraphSettings]:
    """A graph of an administrator's own, by the name "ours"."""
    transitions = {
        ISSUED: ["In use", "Revoked", "Expired"],
        "In use": ["On Hold", "Revoked", "Expired"],
        "On Hold": ["In use", "Revoked", "Expired"],
        "Revoked": [],
        "Expired": [],
    }
    return {
        "ours": GraphSettings("In use", transitions | {k.replace("_", " "): v for k, v in changes.items()})
    }


def templates(**changes: TemplateSettings) -> dict[str, TemplateSettings]:
    """A template for each profile."""
    return {profile: TemplateSettings("ours", ISSUED) for profile in PROFILES} | changes


def _faults(
    graphs: Mapping[str, GraphSettings], found: Mapping[str, TemplateSettings], issued: str = ISSUED
) -> list[str]:
    with pytest.raises(ModelFaults) as caught:
        CertificateModel(issued, graphs, found)
    return list(caught.value.faults)


def _without(state: str) -> dict[str, GraphSettings]:
    (settings,) = graph().values()
    kept = {
        name: [item for item in after if item != state]
        for name, after in settings.transitions.items()
        if name != state
    }
    return {"ours": GraphSettings(settings.start, kept)}


def test_rule_1_a_graph_without_the_internal_state() -> None:
    """Names graph and rule."""
    (fault,) = _faults(_without(ISSUED), templates())
    assert fault.startswith(f"certificate state graph 'ours': rule 1 of {SETTING}: ")
    assert ISSUED in fault


def test_rule_1_no_transition_to_the_start_state() -> None:
    """The internal state is there and leads elsewhere."""
    (fault,) = _faults(graph(**{ISSUED: ["Revoked"]}), templates())
    assert fault.startswith(f"certificate state graph 'ours': rule 1 of {SETTING}: ")
    assert "'In use'" in fault


def test_rule_1_is_asked_of_every_graph() -> None:
    """One that no template uses, too."""
    (fault,) = _faults(graph() | {"spare": _without(ISSUED)["ours"]}, templates())
    assert "graph 'spare': rule 1" in fault


def test_rule_2_a_template_without_the_internal_state() -> None:
    """Names template and rule."""
    (fault,) = _faults(graph(), templates(signature=TemplateSettings("ours", "Issued")))
    assert fault.startswith(f"certificate template 'signature': rule 2 of {SETTING}: ")


def test_rule_3_the_internal_state_as_start_state() -> None:
    """It would be valid at once."""
    (settings,) = graph(**{ISSUED: [ISSUED, "In use", "Revoked"]}).values()
    faults = _faults({"ours": GraphSettings(ISSUED, settings.transitions)}, templates())
    where = f"certificate state graph 'ours': rule 3 of {SETTING}: "
    assert f"{where}the internal state {ISSUED!r} must not be its start state." in faults


def test_rule_3_a_transition_into_the_internal_state() -> None:
    """A certificate that has left it would look as if it never had."""
    (fault,) = _faults(graph(On_Hold=["In use", "Revoked", ISSUED]), templates())
    assert fault.startswith(f"certificate state graph 'ours': rule 3 of {SETTING}: ")
    assert "'On Hold' leads to it" in fault


@pytest.mark.parametrize("name", ["On Hold", "Revoked", "Expired"])
def test_rule_3_the_name_of_another_state(name: str) -> None:
    """States that the portal uses itself can't be the internal one."""
    faults = _faults(graph(), {profile: TemplateSettings("ours", name) for profile in PROFILES}, name)
    assert any(f"rule 3 of {SETTING}" in fault and f"uses {name!r} itself" in fault for fault in faults)


def test_the_built_in_graph_with_another_name() -> None:
    """The setting alone isn't enough: graphs and templates must follow, and each that doesn't is named."""
    with pytest.raises(ModelFaults) as caught:
        CertificateModel("Somewhere")
    rules = sorted(fault.split(" of ")[0] for fault in caught.value.faults)
    assert rules == [
        "certificate state graph 'certificate': rule 1",
        *(f"certificate template {profile!r}: rule 2" for profile in sorted(PROFILES)),
    ]


@pytest.mark.parametrize(
    ("graphs", "found", "fault"),
    [
        (graph(In_use=["Revoked", "Nowhere"]), templates(), "'Nowhere', which is not one of its states"),
        ({"ours": GraphSettings("Gone", graph()["ours"].transitions)}, templates(), "'Gone' is not one of"),
        (_without("On Hold"), templates(), "the state 'On Hold' is missing"),
        (
            graph(In_use=["On Hold", "Expired"]),
            templates(),
            "from 'In use' a transition to 'Revoked' is missing",
        ),
        (graph(Revoked=["In use"]), templates(), "nothing may follow 'Revoked'"),
        (graph(Odd=["Even"], Even=["Odd"]), templates(), "no final state is reached from Even, Odd"),
        (
            graph(),
            templates(signature=TemplateSettings("theirs", ISSUED)),
            "there is no certificate state graph 'theirs'",
        ),
        (graph(), templates(stamp=TemplateSettings("ours", ISSUED)), "the CA has no profile of this name"),
        (graph(), dict(list(templates().items())[:2]), "template 'encryption' is missing"),
    ],
)
def test_what_else_does_not_fit(
    graphs: dict[str, GraphSettings], found: dict[str, TemplateSettings], fault: str
) -> None:
    """Each fault is one sentence that names the place."""
    assert any(fault in item for item in _faults(graphs, found))


def test_states_that_certificates_are_in_already() -> None:
    """A change of the configuration doesn't strand what is there."""
    model = CertificateModel(ISSUED, graph(), templates())
    (fault,) = model.unknown({("signature", "Valid"): 3, ("signature", "In use"): 4})
    assert fault.startswith("3 certificates of template 'signature' are in state 'Valid'")


def test_a_graph_of_ones_own() -> None:
    """Transitions, states that would do, and the reasons of transitions that mean what the built-in ones mean."""
    model = CertificateModel(ISSUED, graph(Odd=["Revoked"]), templates())
    ours = model.graph("encryption")
    assert (ours.start, ours.internal, ours.valid, model.issued) == (ISSUED, ISSUED, "In use", ISSUED)
    assert ours.check(ISSUED, "In use", Why.TASK_SUCCEEDED) == "In use"
    assert ours.check("Odd", "Revoked", Why.LOST) == "Revoked"
    with pytest.raises(WrongReason):
        ours.check(ISSUED, "In use", Why.LOST)
    with pytest.raises(WrongState) as caught:
        ours.check("Revoked", "In use")
    assert caught.value.would_do == ["On Hold", ISSUED]
    assert model.states == {ISSUED, "In use", "On Hold", "Revoked", "Expired", "Odd"}


def test_the_built_in_model() -> None:
    """One graph for three templates."""
    model = CertificateModel()
    assert {model.graph(profile).name for profile in PROFILES} == {"certificate"}
    assert (model.issued, model.graph("signature").valid) == ("Issued", "Valid")
