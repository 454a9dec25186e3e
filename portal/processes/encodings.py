"""The encoding descriptions that the portal ships, bound to process variables, and what orders are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from portal.encoding import parser
from portal.encoding.binding import Encoding, bind
from portal.encoding.piv_rules import Part
from portal.encoding.rules import Usage
from protocol.messages import (
    Algorithm,
    CardStep,
    KeyOrder,
    KeyPinPolicy,
    KeySource,
    KeyTouchPolicy,
    PinEntry,
    PinPolicy,
    Purpose,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.encoding.plan import Plan
    from portal.model.virtual_card_options import VirtualCardOptions

_FOLDER: Final = Path(parser.__file__).parent / "descriptions"


def shipped(name: str, usage: Usage, mapping: Mapping[str, str]) -> Encoding:
    """A description of the portal's own, bound.

    Args:
        name: of its file, without ``.dsc``.
        usage: the task that uses it.
        mapping: field to ``${variable}``.

    Raises:
        EncodingError: file or mapping has a fault.
    """
    return bind(parser.load(_FOLDER / f"{name}.dsc"), usage, mapping)


def _fields_of(purpose: Purpose) -> dict[str, str]:
    word = purpose.value
    return {
        f"WITH_{word.upper()}": f"${{with_{word}}}",
        f"{word.upper()}_ALGORITHM": f"${{{word}_algorithm}}",
        f"{word.upper()}_CERTIFICATE": f"${{{word}_certificate}}",
    }


_NEW_CARD: Final = {
    "LABEL": "${label}",
    "ENCRYPTION_SOURCE": "${encryption_source}",
    **_fields_of(Purpose.AUTHENTICATION),
    **_fields_of(Purpose.SIGNATURE),
    **_fields_of(Purpose.ENCRYPTION),
}
_EARLIER_KEYS: Final = {
    "WITH_RECOVERY": "${with_recovery}",
    "RECOVERED_CERTIFICATES": "${recovered_certificates}",
}
GET_VIRTUAL_SMART_CARD: Final = shipped("get-virtual-smart-card", Usage.PRODUCTION, _NEW_CARD)
RENEW_VIRTUAL_SMART_CARD: Final = shipped(
    "renew-virtual-smart-card",
    Usage.OPERATION,
    {**_fields_of(Purpose.AUTHENTICATION), **_fields_of(Purpose.SIGNATURE)},
)
REPLACE_VIRTUAL_SMART_CARD: Final = shipped(
    "replace-virtual-smart-card",
    Usage.PRODUCTION,
    {
        **_NEW_CARD,
        **_EARLIER_KEYS,
        "RECOVERY_KEY": "${recovery_key}",
    },
)


ENCODE_TEMPORARY_CARD: Final = shipped(
    "encode-temporary-card",
    Usage.OPERATION,
    {
        "PUK": "${card}",
        "ENCRYPTION_SOURCE": "${encryption_source}",
        **_EARLIER_KEYS,
        **_fields_of(Purpose.AUTHENTICATION),
        **_fields_of(Purpose.SIGNATURE),
        **_fields_of(Purpose.ENCRYPTION),
    },
)
ISSUE_CARD: Final = shipped(
    "issue-card",
    Usage.PRODUCTION,
    {
        "PUK": "${card}",
        "PIN": "${card}",
        "ENCRYPTION_SOURCE": "${encryption_source}",
        **_EARLIER_KEYS,
        **_fields_of(Purpose.AUTHENTICATION),
        **_fields_of(Purpose.SIGNATURE),
        **_fields_of(Purpose.ENCRYPTION),
    },
)
PREPARE_TEMPORARY_CARD: Final = shipped(
    "prepare-temporary-card", Usage.PRODUCTION, {"PUK": "${card}", "PIN": "${card}"}
)
EXTEND_TEMPORARY_CARD: Final = shipped(
    "extend-temporary-card",
    Usage.OPERATION,
    {
        **{f"{purpose.value.upper()}_SOURCE": f"${{{purpose.value}_source}}" for purpose in Purpose},
        **_EARLIER_KEYS,
        **_fields_of(Purpose.AUTHENTICATION),
        **_fields_of(Purpose.SIGNATURE),
        **_fields_of(Purpose.ENCRYPTION),
    },
)
OF_CARDS: Final = {
    Part.ISSUE: ISSUE_CARD,
    Part.ENCODE: ENCODE_TEMPORARY_CARD,
    Part.EXTEND: EXTEND_TEMPORARY_CARD,
}
"""What makes and extends cards in readers that have no description of their own."""


def chosen(options: VirtualCardOptions) -> dict[str, Any]:
    """The process variables that tell a description what the options ask for."""
    keys = {key.purpose: key for key in options.keys}
    found: dict[str, Any] = {}
    for purpose in Purpose:
        key = keys.get(purpose)
        found[f"with_{purpose.value}"] = key is not None
        if key is not None:
            found[f"{purpose.value}_algorithm"] = key.algorithm.value
            found[f"{purpose.value}_source"] = key.source.value
    return found


def key_orders(plan: Plan, name: str, user_id: str) -> list[KeyOrder]:
    """The keys of an order, as its plan has them.

    Args:
        plan: the plan.
        name: the person's name, for the requests.
        user_id: the account's id, in its place where the name is too long.
    """
    subject = _subject(name, user_id)
    return [
        KeyOrder(
            slot=item.slot,
            purpose=Purpose(item.template),
            algorithm=Algorithm(item.algorithm),
            source=KeySource(item.source),
            subject=subject,
            optional=item.optional,
            pin_policy=None if item.pin_policy is None else KeyPinPolicy(item.pin_policy),
            touch_policy=None if item.touch_policy is None else KeyTouchPolicy(item.touch_policy),
        )
        for item in plan.certificates
    ]


def pin_entry(
    plan: Plan,
    policy: PinPolicy | None = None,
    where: Literal["window", "pad", "auto"] = "window",
) -> PinEntry:
    """How an order gets its PIN.

    Args:
        plan: the plan.
        policy: rules for a new PIN.
        where: where a PIN is typed that the card has, where the plan says no more than that it is asked for. A new one
            is set by a PUK that the portal brings, and so in the window (``protocol.operations``).
    """
    match plan.pin:
        case None:
            return PinEntry(kind="none")
        case "pad" | "auto":
            if not plan.set_pin:
                return PinEntry(kind="verify", where=plan.pin)
            fresh = plan.puk is not None or plan.initialise
            return PinEntry(kind="new" if fresh else "change", where=plan.pin, policy=policy)
        case "verify":
            return PinEntry(kind="verify", where=where, policy=policy)
        case kind:
            return PinEntry(kind=kind, policy=policy)


def card_steps(plan: Plan) -> list[CardStep]:
    """What is done with the card as a whole."""
    asked = {
        CardStep.INITIALISE: plan.initialise,
        CardStep.SET_PIN: plan.set_pin,
        CardStep.SET_LABEL: plan.label is not None,
        CardStep.BLOCK: plan.block,
    }
    return [step for step, wanted in asked.items() if wanted]


def _subject(name: str, user_id: str) -> str:
    """The subject for the request; short enough for the order, the CA makes its own."""
    value = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]).rfc4514_string()
    return value if len(value) <= 200 else f"CN={user_id[:64].encode('ascii', 'replace').decode()}"
