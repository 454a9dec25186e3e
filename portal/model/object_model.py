"""All that is configured of objects' lives: certificate graphs and templates, relation types, and the cards' graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portal.model import states
from portal.model.certificate_model import CertificateModel
from portal.model.relations import RelationTypes

if TYPE_CHECKING:
    from typing import Any

    from portal.model.graphs import StateGraph


@dataclass(frozen=True)
class ObjectModel:
    """What a portal runs with; the built-in one by default.

    Attributes:
        certificates: certificate state graphs and templates.
        relations: types of relations.
    """

    certificates: CertificateModel = field(default_factory=CertificateModel)
    relations: RelationTypes = field(default_factory=RelationTypes)

    @property
    def graphs(self) -> dict[str, StateGraph[Any]]:
        """Name to graph, of all objects that have states: the four kinds of cards, then the certificates'."""
        return {**states.OF_CARDS, **self.certificates.graphs}
