"""Certificate state graphs and templates: data that an administrator may set, checked before the portal starts.

A certificate is made in the *internal* state ("Issued" as installed): at the CA, and not yet proved on a card. When the
whole task has succeeded it goes to the *start state* of its graph. The name of the internal state is the setting
``stateGraphDefinitionManager.certificateInternalIssuedState``. Three rules hold for it:

1. every certificate state graph contains it, with a transition to the graph's start state;
2. it is configured in every certificate template;
3. it is used for nothing else: it isn't a start state, nothing leads to it, and it isn't the name of a state that has
   another meaning here.

The portal itself moves certificates to On Hold, Revoked and Expired, so every graph has these, whatever else it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from portal.errors import ModelFaults
from portal.model import states
from portal.model.graphs import StateGraph, Why
from portal.model.states import CertificateState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SETTING: Final = "stateGraphDefinitionManager.certificateInternalIssuedState"
PROFILES: Final = ("authentication", "signature", "encryption")
"""What certificates are for; each needs a template of this name."""
_MEANT: Final = (CertificateState.ON_HOLD, CertificateState.REVOKED, CertificateState.EXPIRED)
"""States that the portal itself moves certificates to."""
State = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class GraphSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate state graph as it is configured.

    Attributes:
        start: the state a certificate has when its task has succeeded.
        transitions: state to the states that may follow; a state without any is final.
    """

    start: State
    transitions: dict[State, list[State]]


class TemplateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate template as it is configured.

    Attributes:
        state_graph: name of its graph.
        issued_state: the internal state its certificates are made in.
    """

    state_graph: State
    issued_state: State


def built_in_graph() -> GraphSettings:
    """The graph as installed."""
    return GraphSettings(
        CertificateState.VALID.value,
        {
            state.value: sorted(item.value for item in after)
            for state, after in states.CERTIFICATE.transitions.items()
        },
    )


BUILT_IN_GRAPHS: Final = {"certificate": built_in_graph()}
BUILT_IN_TEMPLATES: Final = {
    profile: TemplateSettings("certificate", CertificateState.ISSUED.value) for profile in PROFILES
}


class CertificateGraph(StateGraph[str]):
    """A checked certificate state graph.

    Attributes:
        name: its name in the configuration.
        internal: the state a certificate is made in; ``StateGraph.start`` is the same.
        valid: the graph's start state in the mission's sense: what a certificate is when its task has succeeded.
    """

    def __init__(self, name: str, settings: GraphSettings, internal: str) -> None:
        super().__init__("certificate", internal, _with_reasons(settings, internal))
        self.name = name
        self.internal = internal
        self.valid = settings.start


class CertificateModel:
    """The graphs and templates that this portal runs with.

    Args:
        issued: the internal state's name.
        graphs: name to certificate state graph.
        templates: name to certificate template.

    Raises:
        ModelFaults: a rule is broken; all that are, with graph or template and rule.
    """

    def __init__(
        self,
        issued: str = CertificateState.ISSUED.value,
        graphs: Mapping[str, GraphSettings] = BUILT_IN_GRAPHS,
        templates: Mapping[str, TemplateSettings] = BUILT_IN_TEMPLATES,
    ) -> None:
        faults = [
            *_graph_faults(graphs),
            *_rule_1(issued, graphs),
            *_rule_2(issued, templates),
            *_rule_3(issued, graphs),
            *_template_faults(graphs, templates),
        ]
        if faults:
            raise ModelFaults(faults)
        self.issued = issued
        self.graphs = {name: CertificateGraph(name, settings, issued) for name, settings in graphs.items()}
        self._of_template = {name: self.graphs[item.state_graph] for name, item in templates.items()}

    @property
    def states(self) -> frozenset[str]:
        """The states of all graphs."""
        return frozenset().union(*(graph.states for graph in self.graphs.values()))

    def graph(self, profile: str) -> CertificateGraph:
        """The graph of a certificate with this profile."""
        return self._of_template[profile]

    def unknown(self, present: Mapping[tuple[str, str], int]) -> list[str]:
        """What is wrong with certificates that are stored already.

        Args:
            present: profile and state to how many certificates have them.

        Returns:
            A sentence for each state that the graph of its certificates doesn't have.
        """
        return [
            f"{count} certificates of template {profile!r} are in state {state!r}, which certificate state graph "
            f"{self.graph(profile).name!r} doesn't have: keep that state in the graph until none of them is in it."
            for (profile, state), count in sorted(present.items())
            if state not in self.graph(profile).states
        ]


def _with_reasons(settings: GraphSettings, internal: str) -> dict[str, dict[str, tuple[Why, ...]]]:
    """The reasons of the built-in graph for the transitions that mean the same; none, so any, for others."""
    known = states.CERTIFICATE.reasons
    meaning: dict[str, CertificateState] = {state.value: state for state in _MEANT}
    meaning |= {internal: CertificateState.ISSUED, settings.start: CertificateState.VALID}

    def reasons(before: str, after: str) -> tuple[Why, ...]:
        if before not in meaning or after not in meaning:
            return ()
        return tuple(sorted(known.get((meaning[before], meaning[after]), ())))

    return {
        state: {follows: reasons(state, follows) for follows in after}
        for state, after in settings.transitions.items()
    }


def _graph_faults(graphs: Mapping[str, GraphSettings]) -> Iterator[str]:
    """What any state graph must be, whatever its states are called."""
    for name, settings in graphs.items():
        where = f"certificate state graph {name!r}"
        unknown = sorted(
            {item for after in settings.transitions.values() for item in after} - set(settings.transitions)
        )
        if unknown:
            yield f"{where}: transitions lead to {unknown[0]!r}, which is not one of its states."
            continue
        if settings.start not in settings.transitions:
            yield f"{where}: its start state {settings.start!r} is not one of its states."
        for meant in _MEANT:
            if meant not in settings.transitions:
                yield f"{where}: the state {meant.value!r} is missing; the portal moves certificates to it."
        table = {state: {item: () for item in after} for state, after in settings.transitions.items()}
        for state, after in settings.transitions.items():
            if after and CertificateState.REVOKED not in after:
                yield f"{where}: from {state!r} a transition to 'Revoked' is missing; the CA may revoke at any time."
        if settings.transitions.get(CertificateState.REVOKED):
            yield f"{where}: nothing may follow 'Revoked'."
        stuck = StateGraph("certificate", settings.start, table).stuck()
        if stuck:
            yield f"{where}: no final state is reached from {', '.join(sorted(stuck))}."


def _rule_1(issued: str, graphs: Mapping[str, GraphSettings]) -> Iterator[str]:
    for name, settings in graphs.items():
        where = f"certificate state graph {name!r}: rule 1 of {SETTING}:"
        if issued not in settings.transitions:
            yield f"{where} it must contain the internal state {issued!r}."
        elif settings.start not in settings.transitions[issued]:
            yield f"{where} it needs a transition from {issued!r} to its start state {settings.start!r}."


def _rule_2(issued: str, templates: Mapping[str, TemplateSettings]) -> Iterator[str]:
    for name, template in templates.items():
        if template.issued_state != issued:
            yield (
                f"certificate template {name!r}: rule 2 of {SETTING}: issued_state must be the internal state "
                f"{issued!r}, and is {template.issued_state!r}."
            )


def _rule_3(issued: str, graphs: Mapping[str, GraphSettings]) -> Iterator[str]:
    for name, settings in graphs.items():
        where = f"certificate state graph {name!r}: rule 3 of {SETTING}: the internal state {issued!r}"
        if settings.start == issued:
            yield f"{where} must not be its start state."
        sources = sorted(state for state, after in settings.transitions.items() if issued in after)
        if sources:
            yield f"{where} must not be used for anything else, and {sources[0]!r} leads to it."
        if issued in frozenset(_MEANT):
            yield f"{where} must not be used for anything else, and the portal uses {issued!r} itself."


def _template_faults(
    graphs: Mapping[str, GraphSettings], templates: Mapping[str, TemplateSettings]
) -> Iterator[str]:
    for name, template in templates.items():
        if name not in PROFILES:
            yield f"certificate template {name!r}: the CA has no profile of this name ({', '.join(PROFILES)})."
        if template.state_graph not in graphs:
            yield f"certificate template {name!r}: there is no certificate state graph {template.state_graph!r}."
    for profile in PROFILES:
        if profile not in templates:
            yield f"certificate template {profile!r} is missing."
