"""When a key asks for the PIN and for a touch: what a card tells of a key, and whether it can have one that differs.

Policies are Yubico's. The standard fixes when a place asks for the PIN and knows no touch, so a policy that is the
standard's own is never sent to a card, and never asked for.

Sources: https://docs.yubico.com/yesdk/users-manual/application-piv/pin-touch-policies.html (numbers),
https://developers.yubico.com/PIV/Introduction/PIV_attestation.html (extension 8).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography import x509

from agent.certificates import UNREADABLE
from agent.pcsc import piv_attestation, piv_keys, piv_select, tlv
from agent.pcsc.apdu import Card, Command
from agent.pcsc.piv_keys import PrivateKey, PublicKey
from agent.pcsc.piv_names import (
    CARD_AUTHENTICATION,
    CERTIFICATES,
    MANAGEMENT,
    RETIRED,
    SIGNATURE,
    KeyAlgorithm,
    PinPolicy,
    TouchPolicy,
    slot_name,
)
from agent.pcsc.piv_objects import read
from agent.pcsc.status import NO_REFERENCE, NOT_FOUND, PARAMETERS
from protocol.errors import InlayError

_POLICY: Final = 0x02
_STATED: Final = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.8")
_STANDARD: Final = {SIGNATURE: PinPolicy.ALWAYS, CARD_AUTHENTICATION: PinPolicy.NEVER}
_UNTOLD: Final = frozenset(
    {"card_feature_missing", "card_key_missing", "card_refused", "card_answer_malformed"}
)
_ABSENT_KEY: Final = PARAMETERS | {NO_REFERENCE, NOT_FOUND}
_CANT: Final = frozenset({"card_algorithm_missing", "card_slot_missing", "card_refused"})


class Policies(NamedTuple):
    """Of one key; ``DEFAULT``: whatever the card has for its place."""

    pin: PinPolicy = PinPolicy.DEFAULT
    touch: TouchPolicy = TouchPolicy.DEFAULT

    def beyond(self, slot: int) -> Policies:
        """What of them any card does not do for a place: only that is sent."""
        standard = _STANDARD.get(slot, PinPolicy.ONCE)
        return Policies(
            PinPolicy.DEFAULT if self.pin is standard else self.pin,
            TouchPolicy.DEFAULT if self.touch is TouchPolicy.NEVER else self.touch,
        )

    def are_met_by(self, told: Policies) -> bool:
        """Whether a key of which this is told has them."""
        return self.pin in (PinPolicy.DEFAULT, told.pin) and self.touch in (TouchPolicy.DEFAULT, told.touch)


USUAL: Final = Policies()


def told(card: Card, slot: int) -> Policies | None:
    """What the card tells of a key, by its metadata or else by attestation; None: nothing, or there is none.

    What it says is passed on as it is, and verified by nobody here.

    Raises:
        InlayError: ``pcsc_…``.
    """
    try:
        found = piv_keys.metadata(card, slot)
    except InlayError as error:
        if error.code not in _UNTOLD:
            raise
        found = None
    if found is not None and found.pin_policy is not None and found.touch_policy is not None:
        return Policies(found.pin_policy, found.touch_policy)
    try:
        statement = piv_attestation.statement(card, slot)
    except InlayError as error:
        if error.code not in _UNTOLD:
            raise
        return None
    return _stated(statement)


def tells(card: Card) -> bool:
    """Whether the card tells policies of any key, also of one that was brought to it: attestation tells of none such.

    Raises:
        InlayError: ``pcsc_…``.
    """
    answer = card.send(Command(0xF7, 0x00, MANAGEMENT))
    try:
        return answer.ok and tlv.find(answer.data, _POLICY) is not None
    except tlv.TlvError:
        return False


def generate(card: Card, slot: int, algorithm: KeyAlgorithm, wanted: Policies = USUAL) -> PublicKey:
    """Make a key, and see that it has the policies that it was to get, where it was to get any.

    Raises:
        InlayError: ``card_policy_missing``, without the policies' text; as `piv_keys.generate`.
    """
    pin, touch = wanted
    try:
        public = piv_keys.generate(card, slot, algorithm, pin_policy=pin, touch_policy=touch)
    except InlayError as error:
        raise _of_policies(error, slot, wanted) from None
    _require(card, slot, wanted)
    return public


def import_key(card: Card, slot: int, private: PrivateKey, wanted: Policies = USUAL) -> None:
    """Put a key that was made elsewhere into a slot; see `generate`.

    Raises:
        InlayError: ``card_policy_missing``; as `piv_keys.import_key`.
    """
    pin, touch = wanted
    try:
        piv_keys.import_key(card, slot, private, pin_policy=pin, touch_policy=touch)
    except InlayError as error:
        raise _of_policies(error, slot, wanted) from None
    _require(card, slot, wanted)


def _require(card: Card, slot: int, wanted: Policies) -> None:
    if wanted == USUAL:
        return
    has = told(card, slot)
    if has is None or not wanted.are_met_by(has):
        raise InlayError("card_policy_missing", slot=slot_name(slot))


def _of_policies(error: InlayError, slot: int, wanted: Policies) -> InlayError:
    """A card that has the algorithm, and refuses a key with policies, refuses these: it says 6A80 of either."""
    if wanted == USUAL or error.code != "card_algorithm_missing":
        return error
    return InlayError("card_policy_missing", slot=slot_name(slot))


class Trial:
    """Whether a card can have keys with policies beyond the standard, found out before any key of it is lost.

    No command asks for that. A card that can delete keys makes one of nobody's in an empty retired slot, which is
    deleted again, and tells what became of it. Of one that can't, attestation counts: its form states policies, and
    no card has it without them. Any other card may refuse them, or take no notice.
    """

    def __init__(self, wanted: Policies, algorithm: KeyAlgorithm) -> None:
        """Try these policies, on a card that has the algorithm."""
        self._wanted, self._algorithm = wanted, algorithm
        self._slot: int | None = None

    def succeeds(self, card: Card) -> bool:
        """Carry it out, after management authentication; once more where the card was torn out in between.

        Raises:
            InlayError: ``card_management_needed``, ``pcsc_…``.
        """
        if self._slot is None and piv_select.can_delete(card):
            self._slot = next((slot for slot in reversed(RETIRED) if _is_empty(card, slot)), None)
        made = None if self._slot is None else self._made(card, self._slot)
        return piv_select.can_attest(card) if made is None else made

    def _made(self, card: Card, slot: int) -> bool | None:
        """Whether the card has made such a key in a slot; None: it hasn't that slot after all."""
        try:
            piv_keys.generate(
                card, slot, self._algorithm, pin_policy=self._wanted.pin, touch_policy=self._wanted.touch
            )
        except InlayError as error:
            if error.code not in _CANT:
                raise
            return None if error.code == "card_slot_missing" else False
        has = told(card, slot)
        piv_keys.delete(card, slot)
        return has is not None and self._wanted.are_met_by(has)


def _is_empty(card: Card, slot: int) -> bool:
    """Whether a retired slot has neither key nor certificate, as the card tells; of one that tells nothing: no."""
    answer = card.send(Command(0xF7, 0x00, slot))
    return answer.status in _ABSENT_KEY and not read(card, CERTIFICATES[slot])


def _stated(statement: bytes) -> Policies | None:
    try:
        extensions = x509.load_der_x509_certificate(statement).extensions
        value = extensions.get_extension_for_oid(_STATED).value
        raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
        pin, touch = raw
        return Policies(PinPolicy(pin), TouchPolicy(touch))
    except (*UNREADABLE, x509.ExtensionNotFound):
        return None
