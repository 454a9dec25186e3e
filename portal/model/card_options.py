"""The options of cards, temporary cards and mobile IDs."""

from __future__ import annotations

from typing import Final, cast

from portal.model.options import Option, Script, Values, nothing_across
from protocol.messages import Algorithm, Purpose

CARDS: Final = "CardsScriptOptions"
TEMPORARY_CARDS: Final = "TempCardsScriptOptions"
MOBILE_IDS: Final = "MobileIDScriptOptions"
CARDS_PIN_ENTRY: Final = "CardsPINEntry"
TEMPORARY_CARDS_PIN_ENTRY: Final = "TempCardsPINEntry"

_PURPOSES: Final = tuple(purpose.value for purpose in Purpose)
_DAYS_BEFORE: Final = (
    "Days before the end of validity on which the holder gets a mail, with commas between them."
)


def _warn_nothing(_values: Values) -> dict[str, str]:
    return {}


def _unread_pin(values: Values) -> dict[str, str]:
    if values["CardsPINDelivery"] == "nopin":
        return {"CardsPINDelivery": "Nobody is told the PIN: the holder has to set one with the PUK."}
    if not values["CardsActivationNeedsCard"]:
        return {
            "CardsActivationNeedsCard": "Whoever knows the holder's password activates the card, wherever it is."
        }
    return {}


def _unusable(values: Values) -> dict[str, str]:
    nothing = values["CardsPINDelivery"] == "nopin" and values["CardsPUKDelivery"] == "nopuk"
    if nothing:
        return {"CardsPUKDelivery": "With neither PIN nor PUK nobody could use the card."}
    authenticates = Purpose.AUTHENTICATION.value in cast(list[str], values["CardsCertificates"])
    if values["CardsActivationNeedsCard"] and not authenticates:
        return {
            "CardsActivationNeedsCard": "This needs the certificate for authentication: the card signs with it."
        }
    return {}


def _pin_entry(name: str) -> Option:
    return Option(
        name,
        "PIN: where it is typed",
        "Whenever its holder types the PIN that it has, or a PUK that they know. "
        "A new PIN by a PUK that the portal keeps needs the window.",
        "choice",
        "window",
        choices=("window", "pad", "auto"),
        captions={
            "window": "In Inlay's window",
            "pad": "At the keys of the reader and nowhere else",
            "auto": "At the keys of the reader where it has some",
        },
    )


def _recoverable(name: str, which: str) -> Option:
    return Option(
        name,
        "Encryption key in the archive",
        "Whether the portal makes the encryption key and keeps it in its archive. Most PIV cards take no key from "
        "elsewhere: they are refused where it is required, and else make it themselves. "
        f"What a key encrypted that nobody has a copy of is lost with the card.{which}",
        "choice",
        "where_possible",
        choices=("no", "where_possible", "required"),
        captions={
            "no": "No: every card makes its own",
            "where_possible": "Where the card takes it",
            "required": "Required: other cards are refused",
        },
    )


def _attestation(name: str, which: str) -> Option:
    return Option(
        name,
        "Attestation",
        f"Whether the card proves that it made its keys itself.{which}",
        "choice",
        "no",
        choices=("no", "where_possible", "required"),
        captions={
            "no": "Not asked for",
            "where_possible": "Where the card can",
            "required": "Required: other cards are refused",
        },
    )


CARDS_SCRIPT: Final = Script(
    CARDS,
    "Cards",
    (
        Option(
            "CardsCertificates",
            "Certificates",
            "Which certificates a card gets when it is issued. They are on hold until its holder activates it.",
            "choices",
            list(_PURPOSES),
            choices=_PURPOSES,
        ),
        Option(
            "CardsKeyAlgorithm",
            "Key algorithm",
            "Of its keys. RSA-2048 is known to every card and program; P-256 is faster.",
            "choice",
            Algorithm.RSA_2048.value,
            choices=tuple(algorithm.value for algorithm in Algorithm),
        ),
        _recoverable("CardsRecoverEncryption", ""),
        _attestation("CardsAttestation", ""),
        Option(
            "CardsValidityDays",
            "Validity",
            "How long a card and its certificates are valid from the day it is issued.",
            "int",
            730,
            low=1,
            high=3650,
            unit="days",
        ),
        Option(
            "CardsPINLength",
            "PIN: length",
            "Digits of the first PIN. A PIV card holds 6 to 8.",
            "int",
            6,
            low=6,
            high=8,
            unit="digits",
        ),
        Option(
            "CardsPUKLength",
            "PUK: length",
            "Digits of the PUK. A PIV card holds 8.",
            "int",
            8,
            low=6,
            high=8,
            unit="digits",
        ),
        Option(
            "CardsPINDelivery",
            "PIN: delivery",
            "How the holder learns the first PIN.",
            "choice",
            "print",
            choices=("print", "email", "nopin"),
            captions={"print": "Letter", "email": "Mail", "nopin": "Not at all"},
        ),
        Option(
            "CardsPUKDelivery",
            "PUK: delivery",
            "How the holder learns the PUK.",
            "choice",
            "nopuk",
            choices=("nopuk", "print", "email"),
            captions={"nopuk": "Not at all: the portal keeps it", "print": "Letter", "email": "Mail"},
        ),
        Option(
            "CardsMultipleActive",
            "Several active cards",
            "Yes: a person may have more than one active card. No: activating one needs the other to be locked first.",
            "bool",
            False,
        ),
        Option(
            "CardsActivationNeedsCard",
            "Activation needs the card",
            "Yes: the holder shows by card and PIN that they have it. No: they say so in Self-Service, with no reader.",
            "bool",
            True,
        ),
        _pin_entry(CARDS_PIN_ENTRY),
    ),
    _unusable,
    _unread_pin,
)


def _warn_unencoded(values: Values) -> dict[str, str]:
    if values["TempCardsEncode"]:
        return {}
    return {
        "TempCardsEncode": "Without encoding nothing is written: keys, new keys and certificates don't count."
    }


TEMPORARY_CARDS_SCRIPT: Final = Script(
    TEMPORARY_CARDS,
    "Temporary cards",
    (
        Option(
            "TempCardsValidityDays",
            "Validity",
            "How long a temporary card is valid from the day it is assigned or extended.",
            "int",
            14,
            low=1,
            high=365,
            unit="days",
        ),
        Option(
            "TempCardsEncode",
            "Encode when extended",
            "Yes: the card is put in a reader and gets new certificates. No: only its validity is extended.",
            "bool",
            False,
        ),
        Option(
            "TempCardsCertificates",
            "Certificates",
            "Which certificates the card gets; counts only with encoding.",
            "choices",
            [Purpose.AUTHENTICATION.value],
            choices=_PURPOSES,
        ),
        Option(
            "TempCardsNewKeys",
            "New keys when extended",
            "No: the keys on the card are certified anew. Yes: new ones are made. Counts only with encoding.",
            "bool",
            False,
        ),
        Option(
            "TempCardsKeyAlgorithm",
            "Key algorithm",
            "Of new keys. RSA-2048 is known to every card and program; P-256 is faster. Counts only with encoding.",
            "choice",
            Algorithm.RSA_2048.value,
            choices=tuple(algorithm.value for algorithm in Algorithm),
        ),
        _recoverable("TempCardsRecoverEncryption", " Counts only with encoding."),
        _attestation("TempCardsAttestation", " Counts only with encoding."),
        Option(
            "TempCardsOnePerUser",
            "One for each person",
            "Yes: a person can have one assigned temporary card at a time.",
            "bool",
            True,
        ),
        Option(
            "TempCardsEmailBeforeExpiringDays",
            "Mails before the end",
            f"{_DAYS_BEFORE} After the last of them there is one every day.",
            "numbers",
            ["7", "3"],
            low=1,
            high=365,
            unit="days",
        ),
        _pin_entry(TEMPORARY_CARDS_PIN_ENTRY),
    ),
    nothing_across,
    _warn_unencoded,
)


def _unreachable(values: Values) -> dict[str, str]:
    recovers = values["MobileIDRecoverEncryption"]
    if recovers and Purpose.ENCRYPTION.value not in cast(list[str], values["MobileIDCertificates"]):
        return {"MobileIDRecoverEncryption": "This needs the certificate for encryption."}
    return {}


MOBILE_IDS_SCRIPT: Final = Script(
    MOBILE_IDS,
    "Get mobile ID",
    (
        Option(
            "MobileIDCertificates",
            "Certificates",
            "Which certificates a mobile ID gets.",
            "choices",
            list(_PURPOSES),
            choices=_PURPOSES,
        ),
        Option(
            "MobileIDQRInPortal",
            "QR code in the portal",
            "Yes: the page shows the QR code. No: it is sent by mail.",
            "bool",
            True,
        ),
        Option(
            "MobileIDValidityDays",
            "Validity",
            "How long a mobile ID and its certificates are valid.",
            "int",
            730,
            low=1,
            high=3650,
            unit="days",
        ),
        Option(
            "MobileIDUserId",
            "User id",
            "The account's id as the certificates show it.",
            "template",
            "${email}",
        ),
        Option(
            "MobileIDServerName",
            "Server name",
            "The portal's name as the phone shows it.",
            "template",
            "${portal}",
        ),
        Option(
            "MobileIDProfileName",
            "Profile name",
            "The mobile ID's label.",
            "template",
            "Mobile ID ${email}",
        ),
        Option(
            "MobileIDRecoverEncryption",
            "Recover encryption certificates",
            "Yes: encryption keys of earlier cards come from the archive on to the phone, so that it reads old mail.",
            "bool",
            False,
        ),
        Option(
            "MobileIDNotify",
            "Notify the person",
            "When the person gets a mail about it.",
            "choice",
            "never",
            choices=("never", "success", "failure", "always"),
            captions={
                "never": "Never",
                "success": "When it has worked",
                "failure": "When it has failed",
                "always": "Always",
            },
        ),
        Option(
            "MobileIDEmailBeforeExpiringDays",
            "Mails before the end",
            _DAYS_BEFORE,
            "numbers",
            ["60", "30", "14", "7"],
            low=1,
            high=365,
            unit="days",
        ),
    ),
    _unreachable,
    _warn_nothing,
)
