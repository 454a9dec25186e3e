"""What can't stand in an administrator's description of a PIV card about data objects, each with its line and cause.

Which objects a description writes is the protocol's (``protocol.data_objects``): the agent refuses all others, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.encoding.problems import Problem, problem
from protocol import data_objects
from protocol.data_objects import Keeper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portal.encoding.description import Section
    from portal.encoding.plan import PlannedObject

_WHY: Final = {
    Keeper.IDENTITY: "programs know the card by it, and Inlay writes it anew for each holder",
    Keeper.CERTIFICATE: "a certificate comes with its key (CertificateTemplate, RecoverCertificate)",
    Keeper.HISTORY: "by it the keys are found that go when somebody else gets the card",
    Keeper.CARD: "it is what the card itself says of its PINs and of its secure channel",
    Keeper.BIOMETRICS: "a person is told by it, and the portal has no biometrics of anybody",
    Keeper.STANDARD: "the standard (SP 800-73) keeps its tag for itself",
    Keeper.YUBICO: "Yubico's tools and drivers keep there what they know of PIN, PUK, keys and trusted certificates",
}
_OF_KEYS: Final = (
    "KeyReference",
    "KeyAlgorithm",
    "KeySource",
    "KeyPINPolicy",
    "KeyTouchPolicy",
    "CertificateTemplate",
    "RecoverCertificate",
    "revokeOnIssue",
    "CreateObjectRelation",
    "ObjectRelationType",
    "CertCoreObjectDescriptorReturnField",
)


def of_application(section: Section) -> list[Problem]:
    """What is wrong with an application that writes an object."""
    found = [
        problem("piv_object_key", section.line_of(keyword), keyword)
        for keyword in _OF_KEYS
        if keyword in section.settings
    ]
    if section.has("ObjectContent") is section.has("ObjectText"):
        found.append(problem("piv_object_content", section.line, section.name))
    return found + of_tag(section, section.text("ObjectReference") or "")


def of_tag(section: Section, tag: str) -> list[Problem]:
    """What is wrong with an object's tag; empty where that isn't known yet."""
    keeper = data_objects.keeper(tag) if tag else None
    if keeper is None:
        return []
    line = section.line_of("ObjectReference")
    return [problem("piv_object_kept", line, tag, expected=_WHY[keeper])]


def of_all(sections: Iterable[Section]) -> list[Problem]:
    """What is wrong with the objects of a description together, as far as it says what they are."""
    found, tags = [], set()
    for section in sections:
        tag = section.text("ObjectReference")
        if tag in tags:
            found.append(problem("piv_object_twice", section.line_of("ObjectReference"), tag or ""))
        if tag is not None:
            tags.add(tag)
    return found


def of_plan(objects: Sequence[PlannedObject]) -> list[Problem]:
    """What is wrong with all objects that are written, whether description or variables say what is in them."""
    size = sum(len(item.content) // 2 for item in objects)
    most, limit = data_objects.MOST, data_objects.MOST_BYTES
    if len(objects) > most:
        return [problem("piv_objects_many", 0, f"{len(objects)} objects", most=most, limit=limit)]
    if size > limit:
        return [problem("piv_objects_many", 0, f"{size} bytes", most=most, limit=limit)]
    return []
