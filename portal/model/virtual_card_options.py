"""``VirtualSmartCardScriptOptions``: the options of *Get virtual smart card*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from portal.model.options import Option, OptionValue, Script, Values
from protocol.messages import Algorithm, KeySource, PinPolicy, Presence, Purpose, StorageLevel

NAME: Final = "VirtualSmartCardScriptOptions"
HOLD_UNTIL_PROOF: Final = "HoldUntilProof"
DELETE: Final = "DeleteBySelfService"
PIN_BYTES: Final = 8
"""A PIV PIN holds 8 bytes (SP 800-73pt2-5, 2.4.3)."""
SLOTS: Final[dict[Purpose, str]] = {
    Purpose.AUTHENTICATION: "9A",
    Purpose.SIGNATURE: "9C",
    Purpose.ENCRYPTION: "9D",
}
_PRESENCE: Final = tuple(item.value for item in Presence)
_PRESENCE_CAPTIONS: Final = {item.value: item.value.capitalize() for item in Presence}
_ALGORITHMS: Final = tuple(item.value for item in Algorithm)
_CLASSES: Final = ("PINUpperCase", "PINLowerCase", "PINDigits", "PINSpecial")


def _presence(name: str, title: str, what: str) -> Option:
    meaning = f"Whether {what} may, must or must not be in the PIN."
    return Option(
        name, title, meaning, "choice", Presence.ALLOWED.value, choices=_PRESENCE, captions=_PRESENCE_CAPTIONS
    )


def _algorithm(name: str, what: str) -> Option:
    meaning = f"Algorithm of the {what} key. The agent refuses before anything is made if it can't do it."
    return Option(
        name, f"Algorithm for {what}", meaning, "choice", Algorithm.RSA_2048.value, choices=_ALGORITHMS
    )


_OPTIONS: Final = (
    Option(
        "Certificates",
        "Certificates",
        "Which certificates the card gets.",
        "choices",
        [item.value for item in Purpose],
        choices=tuple(item.value for item in Purpose),
    ),
    _algorithm("AuthenticationAlgorithm", "authentication"),
    _algorithm("SignatureAlgorithm", "signature"),
    _algorithm("EncryptionAlgorithm", "encryption"),
    Option(
        "RecoverEncryption",
        "Encryption key in the archive",
        "Yes: the portal makes the encryption key, keeps it in its archive and sends it to the card encrypted. "
        "No: the key is made on the card, and what it encrypted is lost with the card.",
        "bool",
        True,
    ),
    Option(
        "ValidityDays",
        "Validity",
        "How long card and certificates are valid.",
        "int",
        730,
        low=1,
        high=3650,
        unit="days",
    ),
    Option(
        "UserId",
        "User id",
        "The account's id as consent window and certificates show it.",
        "template",
        "${email}",
    ),
    Option(
        "ServerName", "Server name", "The portal's name as it is kept with the card.", "template", "${portal}"
    ),
    Option("ProfileName", "Profile name", "The card's label.", "template", "Virtual smart card ${email}"),
    Option(
        "PINMinLength",
        "PIN: shortest",
        "Fewest characters of a PIN.",
        "int",
        6,
        low=6,
        high=15,
        unit="characters",
    ),
    Option(
        "PINMaxLength",
        "PIN: longest",
        "Most characters of a PIN. A PIV card holds 8; more count only with AgentOnlyPIN.",
        "int",
        15,
        low=6,
        high=15,
        unit="characters",
    ),
    _presence("PINUpperCase", "PIN: upper case", "upper case letters"),
    _presence("PINLowerCase", "PIN: lower case", "lower case letters"),
    _presence("PINDigits", "PIN: digits", "digits"),
    _presence("PINSpecial", "PIN: special characters", "special characters"),
    Option(
        "AgentOnlyPIN",
        "PIN over 8 characters",
        "Allows PINs of 9 to 15 characters. Other programs, ssh and OpenSC among them, can't use such a card.",
        "bool",
        False,
    ),
    Option(
        "PUKHandling",
        "PUK",
        "Who has the PUK of a new card.",
        "choice",
        "escrow",
        choices=("escrow", "show"),
        captions={"escrow": "The portal keeps it, encrypted", "show": "The person sees it once"},
    ),
    Option(
        "StorageLevels",
        "Key storage",
        "How a machine may keep the keys. With a file, a stolen disk and a six-digit PIN are days of work.",
        "choices",
        [StorageLevel.TPM.value, StorageLevel.KEYSTORE.value],
        choices=tuple(item.value for item in StorageLevel),
        captions={
            StorageLevel.TPM.value: "In its TPM",
            StorageLevel.KEYSTORE.value: "In software, under a secret in the system's key store",
            StorageLevel.FILE.value: "In software, under a secret in a file",
        },
    ),
    Option(
        HOLD_UNTIL_PROOF,
        "On hold until the proof",
        "Yes: the CA issues certificates on hold, and releases them once their keys have proved themselves on the "
        "card. Who fetched a revocation list in between refuses a new card for up to a day.",
        "bool",
        False,
    ),
    Option(
        DELETE,
        "Deletion by the person",
        "Yes: people may delete their own cards, here and on their computer; the certificates are revoked, and what "
        "was encrypted for a key without a copy in the archive is lost. No: cards are locked by operators.",
        "bool",
        False,
    ),
    Option(
        "ResumeMinutes",
        "Time to resume",
        "How long an interrupted order may be taken up again before both sides undo it.",
        "int",
        60,
        low=1,
        high=1440,
        unit="minutes",
    ),
)


def _across(values: Values) -> dict[str, str]:
    errors: dict[str, str] = {}
    shortest, longest = cast(int, values["PINMinLength"]), cast(int, values["PINMaxLength"])
    effective = longest if values["AgentOnlyPIN"] else min(longest, PIN_BYTES)
    if shortest > PIN_BYTES and not values["AgentOnlyPIN"]:
        errors["PINMinLength"] = (
            f"More than {PIN_BYTES} is possible only with AgentOnlyPIN: a PIV card holds {PIN_BYTES}."
        )
    elif shortest > longest:
        errors["PINMaxLength"] = f"The longest PIN ({longest}) is shorter than the shortest ({shortest})."
    presences = [values[name] for name in _CLASSES]
    if all(item == Presence.DISALLOWED for item in presences):
        errors["PINDigits"] = "All kinds of characters are disallowed: no PIN is possible."
    if presences.count(Presence.REQUIRED.value) > effective:
        errors["PINMaxLength"] = "The PIN is too short for all kinds of characters that are required."
    return errors


def _warn(values: Values) -> dict[str, str]:
    warnings: dict[str, str] = {}
    if values["AgentOnlyPIN"]:
        warnings["AgentOnlyPIN"] = (
            "Other programs, ssh and OpenSC among them, can't use a card with a PIN over 8."
        )
    elif cast(int, values["PINMaxLength"]) > PIN_BYTES:
        warnings["PINMaxLength"] = (
            f"Without AgentOnlyPIN the longest PIN is {PIN_BYTES}: a PIV card holds no more."
        )
    if StorageLevel.FILE.value in cast(list[str], values["StorageLevels"]):
        warnings["StorageLevels"] = "With file, a stolen disk and a six-digit PIN are days of work."
    return warnings


SCRIPT: Final = Script(NAME, "Get virtual smart card", _OPTIONS, _across, _warn)


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """One key of a card to be made."""

    slot: str
    purpose: Purpose
    algorithm: Algorithm
    source: KeySource


class VirtualCardOptions:
    """Checked values with their types.

    Args:
        values: option name to value, as saved.

    Raises:
        FieldErrors: they don't pass ``SCRIPT.check``.
    """

    def __init__(self, values: Mapping[str, OptionValue]) -> None:
        self._values = SCRIPT.check(values)

    @property
    def keys(self) -> list[KeyTemplate]:
        """The keys, one for each certificate."""
        return [
            KeyTemplate(SLOTS[purpose], purpose, self.algorithm(purpose), self._source(purpose))
            for purpose in Purpose
            if purpose.value in cast(list[str], self._values["Certificates"])
        ]

    @property
    def validity_seconds(self) -> int:
        """How long card and certificates are valid."""
        return cast(int, self._values["ValidityDays"]) * 86_400

    @property
    def pin_policy(self) -> PinPolicy:
        """The rules for the PIN, as an order carries them."""
        values = self._values
        return PinPolicy(
            min_length=cast(int, values["PINMinLength"]),
            max_length=cast(int, values["PINMaxLength"]),
            upper=Presence(cast(str, values["PINUpperCase"])),
            lower=Presence(cast(str, values["PINLowerCase"])),
            digits=Presence(cast(str, values["PINDigits"])),
            special=Presence(cast(str, values["PINSpecial"])),
            agent_only=cast(bool, values["AgentOnlyPIN"]),
        )

    @property
    def puk(self) -> Literal["escrow", "show"]:
        """What becomes of the PUK."""
        return "escrow" if self._values["PUKHandling"] == "escrow" else "show"

    @property
    def storage(self) -> list[StorageLevel]:
        """Storage levels that are allowed, best first."""
        allowed = cast(list[str], self._values["StorageLevels"])
        return [level for level in StorageLevel if level.value in allowed]

    @property
    def may_delete(self) -> bool:
        """Whether people may delete their own cards."""
        return cast(bool, self._values[DELETE])

    @property
    def resume_within(self) -> int:
        """Seconds until an interrupted order is undone."""
        return cast(int, self._values["ResumeMinutes"]) * 60

    def template(self, name: Literal["UserId", "ServerName", "ProfileName"]) -> str:
        """A text with placeholders."""
        return cast(str, self._values[name])

    def algorithm(self, purpose: Purpose) -> Algorithm:
        """Algorithm of the keys for a purpose."""
        return Algorithm(cast(str, self._values[f"{purpose.value.capitalize()}Algorithm"]))

    def _source(self, purpose: Purpose) -> KeySource:
        archived = purpose is Purpose.ENCRYPTION and self._values["RecoverEncryption"]
        return KeySource.IMPORT if archived else KeySource.GENERATE
