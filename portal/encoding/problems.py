"""What can be wrong with an encoding description: one row for each cause, each problem with its line and word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from portal.errors import PortalError

if TYPE_CHECKING:
    from collections.abc import Iterable

CAUSES: Final[dict[str, str]] = {
    "not_text": "The file is no UTF-8 text.",
    "too_long": "{word} is more than is possible: at most {limit}.",
    "not_a_line": "“{word}” is neither a section, nor KEYWORD=VALUE, nor a comment (a comment's line starts with #).",
    "outside_section": "“{word}” stands before the first section.",
    "unknown_section": "There is no section [{word}]. Sections: [Encoding], [Fields], [Description], [Application_X].",
    "missing_section": "The section [{word}] is missing.",
    "duplicate_section": "The section [{word}] stands there twice; first in line {first}.",
    "unknown_keyword": "The keyword {word} is not known.{hint}",
    "wrong_section": "The keyword {word} does not belong to [{section}] but to {belongs}.",
    "duplicate_keyword": "{word} stands in [{section}] twice; first in line {first}.",
    "missing_keyword": "{word} needs {needed} beside it in [{section}].",
    "bad_field_name": "“{word}” can't be a field's name: letters, digits and _, a letter first.",
    "field_with_value": "The field {word} has a value here. Fields are bound to process variables outside the file.",
    "undeclared_field": "The field {word} is not declared in [Fields].",
    "bad_value": "“{word}” is no value of {keyword}: {expected}.",
    "pin_entry_misfit": "{word} does not fit: {expected}.",
    "not_alone": "{word} is an operation by itself and can't stand beside {other}.",
    "always_without_card": "CreateObjectRelation=always can't be kept: this operation may run without a card.",
    "return_field_unmapped": "The field {word} receives a descriptor and has to be mapped to a process variable.",
    "field_unmapped": "The field {word} is read and has to be mapped to a process variable.",
    "bad_mapping": "“{word}” can't be mapped: {expected}.",
    "variable_missing": "The process variable {word} has no value.",
    "orders_nothing": "[{word}] orders nothing: it needs CertificateTemplate or RecoverCertificate.",
    "slot_twice": "The key {word} is used by two applications.",
    "no_slot_left": "There are more certificates to recover than the card has retired keys ({limit}).",
    "two_libraries": "MiniDriverLibrary and PKCS11Library name two drivers for one card: leave one of them out.",
    "token_management_key": "{word} does not go with PKCS11Library: such a card has no management key. Its PUK is what "
    "it is changed by: InitialPUK.",
    "token_block": "{word}=true does not go with PKCS11Library: PKCS#11 has no command that blocks a card while it is "
    "made.",
    "token_label": "{word} does not go with PKCS11Library unless InitToken=true stands beside it: the card gets its "
    "label when it is erased, and at no other time.",
    "token_erased": "{word}=true does not go with PKCS11Library unless SetPIN=true stands beside it: a card that was "
    "erased has no PIN, and without one nothing is written on it.",
    "token_puk_missing": "{word}=true does not go with PKCS11Library unless InitialPUK stands beside it: such a card "
    "is erased, and gets its PIN, by its PUK alone.",
    "token_puk_literal": "{word} has to be a field beside PKCS11Library, bound to the card: the PUK stands in a file "
    "of its own (puk_file), never in a description.",
    "token_pin_missing": "PKCS11Library needs {word} beside it: nothing is written on such a card without its PIN.",
    "token_pin_entry": "PIN={word} does not go with PKCS11Library here: {expected}.",
    "token_key_without_pin": "The key {word} does not go with PKCS11Library: it is one that is used without a PIN, and "
    "the keys of such a card want theirs.",
    "token_import": "KeySource=import does not go with PKCS11Library for {word}: a key from the archive is there to "
    "decrypt, and this one signs.",
    "token_erased_key": "KeySource=keep does not go with InitToken=true: {word} is erased before it could be kept.",
    "token_cant": "{word} does not go with PKCS11Library: {expected}.",
    "first_pin_of_portal": "PIN={word} does not fit: the portal draws the PIN of a card that is issued, so a field is "
    "needed, bound to the card, and SetPIN=true.",
    "first_pin_of_holder": "PIN={word} does not fit: the holder chooses the PIN when a card becomes theirs, so "
    "!FROM_USER_DIALOG_2_FIELD is needed, and SetPIN=true.",
    "pin_stays": "SetPIN=true does not fit: the PIN of a card that is extended stays, and its holder types it.",
    "no_applications": "The description has no [Application_X]: the card would get neither key nor certificate.",
    "all_left_out": "The options leave every [Application_X] out: the card would get neither key nor certificate.",
    "piv_cant": "{word} does not go with a PIV card: {expected}.",
    "piv_pin_missing": "A PIV card needs {word} in [Description]: the description says where its PIN comes from.",
    "piv_first_pin": "PIN={word} does not fit: the holder chooses the PIN when a card becomes theirs, and the portal's "
    "PUK, which nobody could type at a reader, sets it. !FROM_USER_DIALOG_2_FIELD is needed, or "
    "!FROM_PROTECTED_AUTHENTICATION_PATH_AUTO, with SetPIN=true and InitialPUK.",
    "piv_pin_stays": "PIN={word} does not fit: the PIN stays, and its holder types it. !FROM_USER_DIALOG_1_FIELD or "
    "!FROM_PROTECTED_AUTHENTICATION_PATH (…_AUTO) is needed, without SetPIN and InitialPUK.",
    "piv_pin_changed": "PIN={word} does not fit: whoever changes a PIN types the old one, too. "
    "!FROM_USER_DIALOG_3_FIELD or !FROM_PROTECTED_AUTHENTICATION_PATH (…_AUTO) is needed, with SetPIN=true and without "
    "InitialPUK.",
    "piv_pin_unblocked": "PIN={word} does not fit: a PIN is unblocked by the PUK. !FROM_USER_DIALOG_2_FIELD or "
    "!FROM_PROTECTED_AUTHENTICATION_PATH (…_AUTO) is needed, with SetPIN=true and InitialPUK.",
    "piv_portals_puk": "PIN={word} can't be kept: the card's PUK is the portal's, which nobody could type at a reader. "
    "Have the PUK told to its holder (CardsPUKDelivery).",
    "piv_puk_literal": "{word} has to be a field, bound to the card: a PUK stands in a file of its own "
    "(factory_cards), never in a description.",
    "piv_pin_only": "[{word}] does not fit: this description says where a PIN is typed, and writes nothing.",
    "piv_retired": "The key {word} of a PIV card is for an earlier encryption key (RecoverCertificate): a new "
    "certificate goes to 9A, 9C, 9D or 9E.",
    "piv_recovery_place": "RecoverCertificate does not go to {word} of a PIV card: earlier keys go to the retired "
    "ones, 82 to 95.",
    "piv_key_use": "A certificate for {template} does not go to {word} of a PIV card: 9A, 9C and 9E sign, and 9D "
    "decrypts.",
    "piv_import": "KeySource={source} does not go with {word} of a PIV card: a key from the archive is there to "
    "decrypt, and this one signs.",
    "piv_weaker_pin": "KeyPINPolicy={pin} does not fit for {word}: by the standard that key asks for the PIN more "
    "often ({standard}), and whoever relies on its certificate relies on that.",
    "piv_object_kept": "The data object {word} of a PIV card is never written by a description: {expected}.",
    "piv_object_content": "[{word}] needs one of ObjectContent and ObjectText, and not both.",
    "piv_object_key": "{word} does not go with ObjectReference: an application is for a key or for a data object.",
    "piv_object_twice": "The data object {word} is written by two applications.",
    "piv_objects_many": "A description of a PIV card writes at most {most} data objects, with {limit} bytes "
    "altogether: {word} is too much.",
    "piv_nothing_kept": "KeySource=keep does not fit for {word}: a card that becomes somebody's has no key of theirs. "
    "It goes with a card that is extended.",
    "piv_no_key_to_keep": "KeySource=keep can't be kept for {word}: the card has no good certificate for {template} "
    "there. With the option that makes new keys it gets one.",
    "library_missing": "[{word}] needs PKCS11Library: the card is one that is made through PKCS#11.",
    "not_for_this_card": "{word} can't be done with this kind of card ({kind}).",
}
"""Code to sentence."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: key of ``CAUSES``.
        line: line of the file, from 1; 0 where what is wrong is that something is missing, or lies outside it.
        word: the word it is about.
        sentence: for people.
    """

    code: str
    line: int
    word: str
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}" if self.line else self.sentence


def problem(code: str, line: int, word: str, **fields: str | int) -> Problem:
    """Make a problem of a row of the table; long words are cut, and what can't be printed is shown as a dot."""
    printable = "".join(mark if mark.isprintable() else "·" for mark in word[:61])
    shown = printable if len(printable) <= 60 else printable[:57] + "…"
    return Problem(code, line, shown, CAUSES[code].format(word=shown, **fields))


class EncodingError(PortalError):
    """An encoding description can't be used.

    Attributes:
        problems: everything that is wrong, by line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda item: item.line))
        super().__init__(*(item.code for item in self.problems))

    def __str__(self) -> str:
        return "\n".join(str(item) for item in self.problems)
