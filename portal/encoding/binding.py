"""Binds a description's fields to process variables, and makes a plan of what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from portal.encoding import object_rules, piv_rules, rules, token_rules
from portal.encoding.description import FieldRef, PinWord, Text
from portal.encoding.keywords import RETIRED, TABLE, ValueKind
from portal.encoding.plan import Plan, PlannedCertificate, PlannedObject, TaskKind
from portal.encoding.problems import EncodingError, Problem, problem
from portal.model.objects import CoreObject, ObjectKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.encoding.description import Description, Section, Value
    from portal.encoding.keywords import Keyword, PinSource
    from portal.encoding.rules import Usage

Driver = Literal["virtual", "piv", "pkcs11"]
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_]{0,63})\}", re.ASCII)
_KINDS: Final = {"virtual": "virtual smart card", "piv": "PIV card"}


class Recoverable(NamedTuple):
    """A certificate whose key the archive has."""

    template: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """A checked description with its fields bound: what an administrator sets up once for a task.

    Attributes:
        description: the description.
        usage: the task that uses it.
        variables: field to process variable.
    """

    description: Description
    usage: Usage
    variables: Mapping[str, str]


def bind(description: Description, usage: Usage, mapping: Mapping[str, str]) -> Encoding:
    """Bind a description's fields.

    Args:
        description: the description.
        usage: the task that uses it.
        mapping: field to ``${variable}``.

    Raises:
        EncodingError: what ``rules.check`` finds; a field of the mapping that isn't declared; a value that is no
            ``${variable}``; a field that is read or written and has no variable.
    """
    rules.check(description, usage)
    problems: list[Problem] = []
    variables: dict[str, str] = {}
    for name, value in mapping.items():
        found = _VARIABLE.fullmatch(value)
        if name not in description.fields:
            problems.append(problem("undeclared_field", 0, name))
        elif found is None:
            problems.append(
                problem("bad_mapping", 0, value, expected="a process variable, ${name}, is needed")
            )
        else:
            variables[name] = found[1]
    for section in description.sections:
        for setting in section.settings.values():
            if isinstance(setting.value, FieldRef) and setting.value.name not in mapping:
                written = setting.keyword.kind is ValueKind.RETURN
                code = "return_field_unmapped" if written else "field_unmapped"
                problems.append(problem(code, setting.line, setting.value.name))
    if problems:
        raise EncodingError(problems)
    return Encoding(description, usage, variables)


def plan(
    encoding: Encoding,
    variables: Mapping[str, Any],
    recoverable: Mapping[str, Recoverable] | None = None,
    driver: Driver = "virtual",
) -> Plan:
    """What a task does for a card, with what the process variables hold now.

    Args:
        encoding: description and bindings.
        variables: the process variables.
        recoverable: the certificates that may be recovered, by id.
        driver: how the card is talked to.

    Raises:
        EncodingError: a variable that is read has no value, or one that its keyword can't take; a key is used twice;
            an application that orders nothing; what can't be done with such a card.
    """
    planner = _Planner(encoding, variables, recoverable or {}, driver)
    result = planner.plan()
    if planner.problems:
        raise EncodingError(planner.problems)
    return result


class _Planner:
    """Makes a plan, and collects what is wrong."""

    def __init__(
        self,
        encoding: Encoding,
        variables: Mapping[str, Any],
        recoverable: Mapping[str, Recoverable],
        driver: Driver,
    ) -> None:
        self._encoding = encoding
        self._variables = variables
        self._recoverable = recoverable
        self._driver = driver
        self._used: set[str] = set()
        self._objects: list[PlannedObject] = []
        parts = encoding.description.applications
        self._named = {part.text("KeyReference") for part in parts}
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        """The plan; of no use when there are problems."""
        section = self._encoding.description.description
        if self._driver == "pkcs11" and not section.has(token_rules.LIBRARY):
            self._wrong("library_missing", section.line, section.name)
        self._refuse_others(section)
        usage = self._encoding.usage
        parts = self._encoding.description.applications
        certificates = tuple(item for part in parts for item in self._application(part))
        self.problems += object_rules.of_plan(self._objects)
        return Plan(
            kind=TaskKind.PRODUCTION if usage is rules.Usage.PRODUCTION else TaskKind.OPERATION,
            certificates=certificates,
            objects=tuple(self._objects),
            pin=_pin_source(section),
            initialise=section.has("InitToken"),
            label=self._text(section, "InitialLabel"),
            set_pin=section.has("SetPIN"),
            puk=self._reference(section.value("InitialPUK")),
            block=section.has("BlockCard"),
            clear=self._read_variables() if section.has("ClearFields") else (),
        )

    def _refuse_others(self, section: Section) -> None:
        if self._driver == "pkcs11":
            return  # what can't be done was refused when the description was read
        for name, setting in section.settings.items():
            keys = isinstance(setting.value, PinWord) and setting.value.source == "pad"
            pad = keys and self._driver == "virtual"
            literal_pin = name == "PIN" and _pin_source(section) is None
            drawn = name == "InitialPUK" and section.has("InitToken")  # a new card draws its PUK itself
            kept = (
                setting.keyword.for_piv_cards if self._driver == "piv" else setting.keyword.for_virtual_cards
            )
            if not kept or pad or literal_pin or drawn:
                word = setting.word if name == "PIN" else name
                self._wrong("not_for_this_card", setting.line, word, kind=_KINDS[self._driver])

    def _application(self, section: Section) -> list[PlannedCertificate]:
        self._refuse_others(section)
        only = self._text(section, "OnlyIf")
        if "OnlyIf" in section.settings and only != "true":
            return []
        if section.has("ObjectReference"):
            self._object(section)
            return []
        slot = self._text(section, "KeyReference") or ""
        if section.has("RecoverCertificate"):
            return self._recover(section, slot)
        if not section.has("CertificateTemplate"):
            if not (section.has("WriteCertificate") or section.has("WriteCertKeyList")):
                self._wrong("orders_nothing", section.line, section.name)
            return []
        template = self._text(section, "CertificateTemplate") or ""
        algorithm = self._text(section, "KeyAlgorithm") or ""
        source = self._text(section, "KeySource") or "generate"
        if source == "import_if_possible" and self._driver != "piv":
            source = "import"  # all others can
        return [self._certificate(section, slot, Recoverable(template, algorithm), source)]

    def _object(self, section: Section) -> None:
        tag = self._text(section, "ObjectReference") or ""
        content = (
            self._text(section, "ObjectContent") or (self._text(section, "ObjectText") or "").encode().hex()
        )
        self.problems += object_rules.of_tag(section, tag)
        if any(item.tag == tag for item in self._objects):
            self._wrong("piv_object_twice", section.line_of("ObjectReference"), tag)
        self._objects.append(PlannedObject(section.name, tag, content.lower()))

    def _recover(self, section: Section, slot: str) -> list[PlannedCertificate]:
        value = section.value("RecoverCertificate")
        held = self._held(value, section.line_of("RecoverCertificate"))
        ids = [_certificate_id(item) for item in (held if isinstance(held, list) else [held])]
        free = [name for name in RETIRED if name not in {slot, *self._used, *self._named}]
        if len(ids) > 1 + len(free):
            self._wrong("no_slot_left", section.line_of("RecoverCertificate"), section.name, limit=len(free))
        found = []
        for name, place in zip(ids, (slot, *free), strict=False):
            known = self._recoverable.get(name or "")
            if known is None:
                keyword, line = TABLE["RecoverCertificate"], section.line_of("RecoverCertificate")
                expected = "a certificate whose key the archive has"
                self._wrong("bad_value", line, str(name), keyword=keyword.name, expected=expected)
            else:
                found.append(self._certificate(section, place, known, "import", recovers=name))
        return found

    def _certificate(
        self, section: Section, slot: str, what: Recoverable, source: str, *, recovers: str | None = None
    ) -> PlannedCertificate:
        if slot in self._used:
            self._wrong("slot_twice", section.line_of("KeyReference"), slot)
        self._used.add(slot)
        self._check_key(section, slot, what.template, source, recovers=recovers is not None)
        pin_policy, touch_policy = self._text(section, "KeyPINPolicy"), self._text(section, "KeyTouchPolicy")
        if self._driver == "piv" and not piv_rules.of_policy(slot, pin_policy or ""):
            self.problems.append(piv_rules.weaker_pin(section, slot, pin_policy or ""))
        written = section.value("CertCoreObjectDescriptorReturnField") if recovers is None else None
        return PlannedCertificate(
            application=section.name,
            slot=slot,
            template=what.template,
            algorithm=what.algorithm,
            source=cast(Any, source),
            relation=section.relation,
            relation_type=section.text("ObjectRelationType"),
            return_variable=self._variable(written) if isinstance(written, FieldRef) else None,
            hold=section.has("revokeOnIssue"),
            recovers=recovers,
            optional=recovers is not None
            and self._driver != "virtual",  # how much fits, only the card can tell
            pin_policy=cast(Any, pin_policy),
            touch_policy=cast(Any, touch_policy),
        )

    def _check_key(self, section: Section, slot: str, template: str, source: str, *, recovers: bool) -> None:
        code = None
        if self._driver == "pkcs11":
            erases = self._encoding.description.description.has("InitToken")
            code = token_rules.of_key(slot, source, erases=erases)
        elif self._driver == "piv":
            code = piv_rules.of_key(slot, template, source, recovers=recovers)
        if code is not None:
            line = section.line_of("KeyReference")
            self._wrong(code, line, slot, template=template, source=source)

    def _text(self, section: Section, name: str) -> str | None:
        """A literal, or what a field holds: a text that its keyword can take; None where the keyword is missing."""
        setting = section.settings.get(name)
        if setting is None:
            return None
        if isinstance(setting.value, Text):
            return setting.value.text
        held = self._held(setting.value, setting.line)
        if held is None:
            return None
        text = str(held).lower() if isinstance(held, bool) else held
        if not isinstance(text, str) or not text or not setting.keyword.fits(text):
            self._bad(setting.keyword, setting.line, str(held))
            return None
        return text

    def _held(self, value: Value | None, line: int) -> Any:
        """What a field's variable holds; None, and a problem, where it holds nothing."""
        if not isinstance(value, FieldRef):
            return None
        name = self._variable(value)
        held = self._variables.get(name)
        if held is None or held == []:
            self._wrong("variable_missing", line, name)
            return None
        return held

    def _reference(self, value: Value | None) -> str | None:
        """Where a secret is found: never the secret of a variable itself."""
        match value:
            case Text(text):
                return f"#{text}"
            case FieldRef():
                return self._variable(value)
            case _:
                return None

    def _variable(self, value: FieldRef) -> str:
        return self._encoding.variables[value.name]

    def _read_variables(self) -> tuple[str, ...]:
        read = {
            self._variable(setting.value)
            for section in self._encoding.description.sections
            for setting in section.settings.values()
            if isinstance(setting.value, FieldRef) and setting.keyword.kind is not ValueKind.RETURN
        }
        return tuple(sorted(read))

    def _bad(self, keyword: Keyword, line: int, word: str) -> None:
        self._wrong("bad_value", line, word, keyword=keyword.name, expected=keyword.expected)

    def _wrong(self, code: str, line: int, word: str, **fields: str | int) -> None:
        self.problems.append(problem(code, line, word, **fields))


def _pin_source(section: Section) -> PinSource | None:
    value = section.value("PIN")
    erases = section.has("InitToken") and not section.has(token_rules.LIBRARY)
    if isinstance(value, FieldRef) and section.has("SetPIN") and not erases:
        return "given" if section.value("InitialPUK") is not None else None
    return value.source if isinstance(value, PinWord) else None


def _certificate_id(value: Any) -> str | None:
    """The id in a certificate's descriptor; None where it is something else."""
    is_certificate = isinstance(value, CoreObject) and value.kind is ObjectKind.CERTIFICATE
    return value.id if is_certificate else None
