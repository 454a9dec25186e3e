"""Keys: made on the card, put on to it, deleted, looked at.

SP 800-73pt2-5, section 3.3.2, and Yubico's commands where the card has them. A new key in a slot destroys the old
one: the caller has said so and journalled it before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from agent.pcsc import tlv
from agent.pcsc.apdu import Answer, Card, Command, malformed
from agent.pcsc.piv_names import RSA_BITS, KeyAlgorithm, PinPolicy, TouchPolicy, slot_name
from agent.pcsc.status import (
    NO_FUNCTION,
    NO_REFERENCE,
    NOT_AUTHORISED,
    NOT_FOUND,
    PARAMETERS,
    WRONG_DATA,
    refusal,
    require_ok,
)
from protocol.errors import InlayError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | X25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey

_PUBLIC, _CONTROL = 0x7F49, 0xAC
_MODULUS, _EXPONENT, _POINT = 0x81, 0x82, 0x86
_ALGORITHM, _PIN_POLICY, _TOUCH_POLICY = 0x80, 0xAA, 0xAB
_CURVES: Final = {KeyAlgorithm.P_256: ec.SECP256R1(), KeyAlgorithm.P_384: ec.SECP384R1()}
_NUMBERS: Final = frozenset(KeyAlgorithm)
_PIN_POLICIES: Final = frozenset(bytes((each,)) for each in PinPolicy)
_TOUCH_POLICIES: Final = frozenset(bytes((each,)) for each in TouchPolicy)
_NOWHERE: Final = 0xFF


@dataclass(frozen=True, slots=True)
class KeyMetadata:
    """What a card says of a key (Yubico's GET METADATA); None where it says nothing."""

    algorithm: KeyAlgorithm
    pin_policy: PinPolicy | None
    touch_policy: TouchPolicy | None
    generated: bool | None
    public: PublicKey | None


def generate(
    card: Card,
    slot: int,
    algorithm: KeyAlgorithm,
    *,
    pin_policy: PinPolicy = PinPolicy.DEFAULT,
    touch_policy: TouchPolicy = TouchPolicy.DEFAULT,
) -> PublicKey:
    """GENERATE ASYMMETRIC KEY PAIR: of RSA up to a minute. Policies other than the default go out only when asked for.

    Raises:
        InlayError: ``card_management_needed``, ``card_algorithm_missing``, ``card_slot_missing``,
            ``card_answer_malformed``, ``card_refused``, ``pcsc_…``.
    """
    control = tlv.encode(_ALGORITHM, bytes((algorithm,))) + _policies(pin_policy, touch_policy)
    command = Command(0x47, 0x00, slot, tlv.encode(_CONTROL, control))
    answer = card.send(command)
    _judge_new_key(command, answer, slot, algorithm)
    return _public(command, answer.data, algorithm)


def import_key(
    card: Card,
    slot: int,
    private: PrivateKey,
    *,
    pin_policy: PinPolicy = PinPolicy.DEFAULT,
    touch_policy: TouchPolicy = TouchPolicy.DEFAULT,
) -> None:
    """IMPORT KEY (Yubico), for recovered encryption keys.

    Raises:
        InlayError: ``card_feature_missing`` where the card can't import; as `generate`.
        ValueError: not a key that PIV has a number for.
    """
    algorithm = algorithm_of(private.public_key())
    data = _parts(private) + _policies(pin_policy, touch_policy)
    command = Command(0xFE, algorithm, slot, data, answer=False)
    _judge_new_key(command, card.send(command), slot, algorithm)


def delete(card: Card, slot: int) -> None:
    """Delete a key (Yubico's MOVE KEY, to nowhere). None is moved: docs/adr/0025.

    Raises:
        InlayError: ``card_feature_missing``, ``card_key_missing``, ``card_slot_missing``, ``card_management_needed``.
    """
    command = Command(0xF6, _NOWHERE, slot, answer=False)
    answer = card.send(command)
    if answer.status in (NO_REFERENCE, NOT_FOUND):
        raise InlayError("card_key_missing", slot=slot_name(slot))
    if answer.status == NOT_AUTHORISED:
        raise InlayError("card_management_needed", command=command.name)
    if answer.status in PARAMETERS:
        raise InlayError("card_slot_missing", slot=slot_name(slot))
    require_ok(command, answer)


def metadata(card: Card, slot: int) -> KeyMetadata | None:
    """What the card says of a slot's key; None when there is none, or the card says nothing of keys.

    There are cards that answer with nothing, leave out the algorithm, or give an empty slot the algorithm FF, and cards
    with algorithms that have no number here.

    Raises:
        InlayError: ``card_answer_malformed``, ``pcsc_…``.
    """
    command = Command(0xF7, 0x00, slot)
    answer = card.send(command)
    if not answer.ok:
        return None  # it is beyond the standard, and so are the words for not having it, or no key there
    data = answer.data
    number = next((item.value for item in tlv.leading(data) if item.tag == 0x01), b"")
    if int.from_bytes(number, "big") not in _NUMBERS:
        return None  # whatever follows: of an empty slot some cards say only half
    try:
        found = {item.tag: item.value for item in tlv.parse(data)}
        algorithm = KeyAlgorithm(int.from_bytes(number, "big"))
        policies = found.get(0x02, b"")
        return KeyMetadata(
            algorithm=algorithm,
            pin_policy=PinPolicy(policies[0]) if policies[:1] in _PIN_POLICIES else None,
            touch_policy=TouchPolicy(policies[1]) if policies[1:] in _TOUCH_POLICIES else None,
            generated=found[0x03] == b"\x01" if 0x03 in found else None,
            public=public_in(found[0x04], algorithm) if 0x04 in found else None,
        )
    except (tlv.TlvError, ValueError):
        raise malformed(command) from None


def public_in(content: bytes, algorithm: KeyAlgorithm) -> PublicKey:
    """The public key in a 7F49 template's content.

    Raises:
        ValueError: it holds no such key.
        TlvError: it is no TLV.
    """
    found = {item.tag: item.value for item in tlv.parse(content)}
    try:
        if algorithm in RSA_BITS:
            numbers = (int.from_bytes(found[tag], "big") for tag in (_EXPONENT, _MODULUS))
            public = rsa.RSAPublicNumbers(*numbers).public_key()
            if public.key_size != RSA_BITS[algorithm]:
                raise ValueError(public.key_size)
            return public
        if algorithm in _CURVES:
            return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[algorithm], found[_POINT])
        if algorithm is KeyAlgorithm.ED25519:
            return Ed25519PublicKey.from_public_bytes(found[_POINT])
        return X25519PublicKey.from_public_bytes(found[_POINT])
    except (KeyError, UnsupportedAlgorithm) as error:
        raise ValueError(algorithm) from error


def algorithm_of(public: PublicKey) -> KeyAlgorithm:
    """PIV's number for a key.

    Raises:
        ValueError: PIV has none.
    """
    if isinstance(public, rsa.RSAPublicKey):
        return {bits: algorithm for algorithm, bits in RSA_BITS.items()}[_known_size(public.key_size)]
    if isinstance(public, ec.EllipticCurvePublicKey):
        for algorithm, curve in _CURVES.items():
            if public.curve.name == curve.name:
                return algorithm
        raise ValueError(public.curve.name)
    return KeyAlgorithm.ED25519 if isinstance(public, Ed25519PublicKey) else KeyAlgorithm.X25519


def _known_size(bits: int) -> int:
    if bits not in RSA_BITS.values():
        raise ValueError(bits)
    return bits


def _policies(pin: PinPolicy, touch: TouchPolicy) -> bytes:
    found = b""
    if pin is not PinPolicy.DEFAULT:
        found += tlv.encode(_PIN_POLICY, bytes((pin,)))
    if touch is not TouchPolicy.DEFAULT:
        found += tlv.encode(_TOUCH_POLICY, bytes((touch,)))
    return found


def _parts(private: PrivateKey) -> bytes:
    """A private key as IMPORT KEY has it: RSA's five numbers at half the modulus' length, or the scalar or seed."""
    if isinstance(private, rsa.RSAPrivateKey):
        numbers, half = private.private_numbers(), private.key_size // 16
        values = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
        return b"".join(tlv.encode(tag, value.to_bytes(half, "big")) for tag, value in enumerate(values, 1))
    if isinstance(private, ec.EllipticCurvePrivateKey):
        size = (private.key_size + 7) // 8
        return tlv.encode(0x06, private.private_numbers().private_value.to_bytes(size, "big"))
    raw = private.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    return tlv.encode(0x07 if isinstance(private, Ed25519PrivateKey) else 0x08, raw)


def _judge_new_key(command: Command, answer: Answer, slot: int, algorithm: KeyAlgorithm) -> None:
    if answer.ok:
        return
    if answer.status == NOT_AUTHORISED:
        raise InlayError("card_management_needed", command=command.name)
    if answer.status in (WRONG_DATA, NO_FUNCTION):
        raise InlayError("card_algorithm_missing", algorithm=algorithm.label)
    if answer.status in PARAMETERS | {NO_REFERENCE}:
        raise InlayError("card_slot_missing", slot=slot_name(slot))
    raise refusal(command, answer.status)


def _public(command: Command, data: bytes, algorithm: KeyAlgorithm) -> PublicKey:
    try:
        return public_in(tlv.only(data, _PUBLIC), algorithm)
    except (tlv.TlvError, ValueError):
        raise malformed(command) from None
