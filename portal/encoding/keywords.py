"""The keywords of encoding descriptions: the one table. The reference in the documents is generated from it."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from protocol import data_objects
from protocol.messages import Algorithm, KeyPinPolicy, KeyTouchPolicy, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable


PinSource = Literal["verify", "new", "change", "pad", "auto", "given"]


class SectionKind(enum.StrEnum):
    """Kinds of sections; of ``APPLICATION`` there may be many."""

    ENCODING = "Encoding"
    FIELDS = "Fields"
    DESCRIPTION = "Description"
    APPLICATION = "Application_X"


class ValueKind(enum.StrEnum):
    """What stands to the right of the equals sign."""

    FLAG = "true or false"
    WORD = "one of the words given"
    NAME = "a name: letters, digits, _ . : and -"
    TEXT = "text to the end of the line"
    TYPE = "number, comma, name"
    RETURN = "a declared field, which is written"
    VALUE = "a declared field, or # and a literal"
    PIN = "a declared field, # and a literal, or a ! word for an entry at the card's place"


class Origin(enum.StrEnum):
    """Whose a keyword is."""

    DOCUMENTED = "N"
    """publicly documented for the product family whose descriptions we read"""
    OURS = "ours"


class Keyword(NamedTuple):
    """A row of the table.

    Attributes:
        name: as it is written; case counts.
        section: where it belongs.
        kind: what its value is.
        origin: whose it is.
        meaning: for the reference.
        words: possible words, also of a literal; none: anything.
        needs: keywords that have to stand beside it in the same section (with a flag: when it is true).
    """

    name: str
    section: SectionKind
    kind: ValueKind
    origin: Origin
    meaning: str
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def for_virtual_cards(self) -> bool:
        """Whether it can be kept for a virtual smart card; the others wait for a card in a reader."""
        return self.section is SectionKind.ENCODING or self.name in _VIRTUAL

    @property
    def for_piv_cards(self) -> bool:
        """Whether it can be kept for a PIV card in a reader."""
        return self.for_virtual_cards or self.name in _PIV

    def fits(self, literal: str) -> bool:
        """Whether a literal, or what a field holds, is possible."""
        check = _LITERALS.get(self.name)
        if check is not None:
            return check(literal)
        return not self.words or literal in self.words

    @property
    def expected(self) -> str:
        """What would be possible, for people."""
        return _FORMS.get(self.name) or (", ".join(self.words) if self.words else self.kind.value)


RETIRED: Final = tuple(f"{number:02X}" for number in range(0x82, 0x96))
"""The retired keys of a card (SP 800-73pt1-5, table 4b)."""


def is_slot(text: str) -> bool:
    """Whether a text names a key of a card by its PIV reference (SP 800-73pt1-5, table 4b)."""
    return re.fullmatch(r"9[ACDE]|8[2-9A-F]|9[0-5]", text, re.ASCII) is not None


def is_object(text: str) -> bool:
    """Whether a text names a data object of a PIV card by its tag (SP 800-73pt1-5, table 3)."""
    return re.fullmatch(r"5F[0-9A-F]{4}|7E|7F61", text, re.ASCII) is not None


def _is_content(text: str) -> bool:
    return re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", text, re.ASCII) is not None and _is_short(text, 2)


def _is_short(text: str, characters: int = 1) -> bool:
    return 0 < len(text.encode()) <= characters * data_objects.MOST_BYTES


_E, _D, _A = SectionKind.ENCODING, SectionKind.DESCRIPTION, SectionKind.APPLICATION
_N, _O = Origin.DOCUMENTED, Origin.OURS
_K = ValueKind
_BOTH_WAYS: Final = ("true", "false")
_ALGORITHMS: Final = tuple(item.value for item in Algorithm)
_SOURCES: Final = ("generate", "import", "import_if_possible", "keep")
_PIN_POLICIES: Final = tuple(item.value for item in KeyPinPolicy)
_TOUCH_POLICIES: Final = tuple(item.value for item in KeyTouchPolicy)
_TEMPLATES: Final = tuple(item.value for item in Purpose)
_LITERALS: Final[dict[str, Callable[[str], bool]]] = {
    "KeyReference": is_slot,
    "ObjectReference": is_object,
    "ObjectContent": _is_content,
    "ObjectText": _is_short,
}
_VIRTUAL: Final = frozenset(
    {"InitToken", "InitialLabel", "InitialPUK", "SetPIN", "PIN", "ClearFields", "BlockCard"}
    | {"revokeOnIssue", "CreateObjectRelation", "ObjectRelationType", "CertCoreObjectDescriptorReturnField"}
    | {"KeyReference", "KeyAlgorithm", "KeySource", "CertificateTemplate", "RecoverCertificate", "OnlyIf"}
)
_PIV: Final = frozenset({"KeyPINPolicy", "KeyTouchPolicy", "ObjectReference", "ObjectContent", "ObjectText"})
_FORMS: Final = {
    "KeyReference": "a key's PIV reference: 9A, 9C, 9D, 9E or 82 to 95",
    "ObjectReference": "a data object's tag: 5F and four hexadecimal digits, A to F in capitals",
    "ObjectContent": f"hexadecimal, at most {data_objects.MOST_BYTES} bytes",
    "ObjectText": f"text, at most {data_objects.MOST_BYTES} bytes",
    "PIN": "a declared field, # and a literal, !FROM_USER_DIALOG_1_FIELD (2, 3) or "
    "!FROM_PROTECTED_AUTHENTICATION_PATH (…_AUTO)",
}


def _flag(
    name: str, section: SectionKind, origin: Origin, meaning: str, needs: tuple[str, ...] = ()
) -> Keyword:
    return Keyword(name, section, _K.FLAG, origin, meaning, _BOTH_WAYS, needs)


_ROWS: Final = (
    Keyword("Type", _E, _K.TYPE, _N, "Number and name of the encoding technology; chip cards are `1024,Chip`."),
    Keyword("Devices", _E, _K.TEXT, _N, "Numbers of printers and encoders. Read, and of no effect here."),
    Keyword("Subtype", _E, _K.TEXT, _N, "In place of `Devices`. Read, and of no effect here."),
    _flag("SkipEject", _E, _N, "Leave the card in the printer. Read, and of no effect here."),
    Keyword("MessagingServerField", _E, _K.VALUE, _N, "Server that finds the client. Read, and of no effect here: "
            "an order reaches the agent by its code."),
    Keyword("PKCS11Library", _D, _K.NAME, _N, "The card is made through PKCS#11, by its maker's module. A name for "
            "people, never a path: which module speaks to a card is told by the card map of the machine it is in."),
    Keyword("MiniDriverLibrary", _D, _K.TEXT, _N, "The Windows minidriver to use, named in the same way."),
    _flag("InitToken", _D, _N, "Erase and initialise the card first.", ("InitialLabel",)),
    Keyword("InitialPUK", _D, _K.VALUE, _N, "The PUK that the card has, or gets with `InitToken`."),
    Keyword("InitialLabel", _D, _K.VALUE, _N, "The label that the card gets."),
    _flag("SetPIN", _D, _N, "Set the PIN: with `InitialPUK` a new one, otherwise changed from the old one.", ("PIN",)),
    Keyword("PIN", _D, _K.PIN, _N, "Where the PIN comes from. With `SetPIN` and `InitialPUK` a field is the "
            "card that the portal draws a PIN for; its variable holds the card's descriptor, never the PIN."),
    Keyword("PUK", _D, _K.VALUE, _N, "The PUK, where an operation needs it."),
    _flag("ClearFields", _D, _N, "Empty the process variables of all fields that were read when the task has ended."),
    Keyword("CardManagerKey", _D, _K.VALUE, _N, "The card's management key. It stays with the portal, which answers "
            "the card's challenge."),
    _flag("RetrieveAllTokens", _D, _N, "Read the serial numbers of all cards in readers: an operation by itself.",
          ("AllTokensIccsnsField",)),
    Keyword("AllTokensIccsnsField", _D, _K.RETURN, _N, "Receives those numbers, with commas between them."),
    _flag("UseICCSNwithATR", _D, _N, "Serial numbers are followed by a hyphen and the card's ATR."),
    _flag("UseSelectCriteriaIccsn", _D, _N, "Take the card that has this serial number, and no other.",
          ("SelectCriteriaIccsn",)),
    Keyword("SelectCriteriaIccsn", _D, _K.VALUE, _N, "The serial number."),
    _flag("BlockCard", _D, _N, "Block PIN and PUK when everything else is done."),
    _flag("WriteCertificate", _A, _N, "Write a certificate without its key.", ("Certificate",)),
    Keyword("Certificate", _A, _K.VALUE, _N, "The certificate, base64 of its DER."),
    _flag("WriteCertKeyList", _A, _N, "Write certificates with their keys.", ("CertKeyList",)),
    Keyword("CertKeyList", _A, _K.VALUE, _N, "The list: `certificate,key;certificate,key;…`, each base64."),
    _flag("revokeOnIssue", _A, _N, "The CA issues the certificate on hold. The portal still shows its start state, "
          "until a Change State step says otherwise.", ("CertificateTemplate",)),
    Keyword("CreateObjectRelation", _A, _K.WORD, _N, "Whether the certificate is related to the card. `always`: also "
            "when the task fails; an error where there is no card. `success`, the default: only when the whole task "
            "succeeds; without a card, none. `never`: not.", ("always", "success", "never")),
    Keyword("ObjectRelationType", _A, _K.NAME, _N, "Type of that relation; without it the default type."),
    Keyword("CertCoreObjectDescriptorReturnField", _A, _K.RETURN, _N, "Receives the descriptor of the certificate "
            "that was issued, also when the task ends in an error. Of no effect for a recovered one."),
    Keyword("KeyReference", _A, _K.VALUE, _O, "The key on the card."),
    Keyword("KeyAlgorithm", _A, _K.VALUE, _O, "The key's algorithm.", _ALGORITHMS, ("KeyReference",)),
    Keyword("KeySource", _A, _K.VALUE, _O, "`generate`, the default: made on the card. `import`: made by the archive "
            "and kept there. `import_if_possible`: the same, but a PIV card that takes no keys from elsewhere makes it "
            "itself. `keep`: the key that the card has is certified anew.", _SOURCES, ("KeyReference",)),
    Keyword("KeyPINPolicy", _A, _K.VALUE, _O, "When the key asks for the PIN: `always`: before each use; `once`: "
            "before the first; `never`. Without it as the standard has it for its place (9C `always`, 9E `never`, "
            "others `once`), and never less often than that. For PIV cards alone: one that can't have such a key "
            "is refused before anything on it is changed.", _PIN_POLICIES, ("KeyReference",)),
    Keyword("KeyTouchPolicy", _A, _K.VALUE, _O, "When the key asks for a touch of the card: `always`: at each use; "
            "`cached`: one counts for 15 seconds; `never`, as it is without it. For PIV cards alone, see "
            "`KeyPINPolicy`.",
            _TOUCH_POLICIES, ("KeyReference",)),
    Keyword("CertificateTemplate", _A, _K.VALUE, _O, "Request a certificate of this template for the key.", _TEMPLATES,
            ("KeyReference", "KeyAlgorithm")),
    Keyword("RecoverCertificate", _A, _K.VALUE, _O, "Field with the descriptors of certificates, newest first, to be "
            "written with their keys from the archive: the first to `KeyReference`, the others to retired keys, "
            "82 onwards.", needs=("KeyReference",)),
    Keyword("ObjectReference", _A, _K.VALUE, _O, "In place of a key: the data object of a PIV card that is written, by "
            "its tag. `5FC106` (security object), `5FC108` (facial image), `5FC109` (printed information), or one of a "
            "maker's own, `5Fxxxx` but for `5FC1xx` and `5FFFxx`. Needs `ObjectContent` or `ObjectText`."),
    Keyword("ObjectContent", _A, _K.VALUE, _O, "What is in it (the value of tag 53), hexadecimal. It is written as it "
            "is.", needs=("ObjectReference",)),
    Keyword("ObjectText", _A, _K.VALUE, _O, "The same as text, which is written in UTF-8.",
            needs=("ObjectReference",)),
    Keyword("OnlyIf", _A, _K.VALUE, _O, "Field with true or false: an application that it is false for is left out.",
            _BOTH_WAYS),
)  # fmt: skip

TABLE: Final[dict[str, Keyword]] = {row.name: row for row in _ROWS}
PIN_ENTRIES: Final[dict[str, tuple[PinSource, str]]] = {
    "!FROM_USER_DIALOG_1_FIELD": ("verify", "the PIN is asked for in a window, once"),
    "!FROM_USER_DIALOG_2_FIELD": ("new", "a new PIN is asked for in a window, twice"),
    "!FROM_USER_DIALOG_3_FIELD": ("change", "the old PIN is asked for once and the new one twice"),
    "!FROM_PROTECTED_AUTHENTICATION_PATH": ("pad", "on the reader's PIN pad, and nowhere else"),
    "!FROM_PROTECTED_AUTHENTICATION_PATH_AUTO": (
        "auto",
        "on the PIN pad where the reader has one, else in a window",
    ),
}
"""Word to what it asks for, and its meaning."""
