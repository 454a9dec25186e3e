"""The commands that Yubico documents for its keys, and that other cards have taken over in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.cards.independent import attestation, keys, naming, personality, tlv
from tests.cards.independent.status import Refused, Secret, Status

if TYPE_CHECKING:
    from tests.cards.independent.card import IndependentCard
    from tests.cards.independent.command import Command

_PIN, _PUK, _MANAGEMENT = 0x80, 0x81, 0x9B
_DELETED: Final = 0xFF
_KEY_ELEMENTS: Final = {0x06: frozenset({0x06}), 0x07: frozenset({0x07}), 0x08: frozenset({0x08})}


def _bare(command: Command) -> None:
    if command.parameters:
        raise Refused(Status.WRONG_P1_P2)
    if command.data:
        raise Refused(Status.WRONG_LENGTH)


def version(card: IndependentCard, command: Command) -> bytes:
    """FD: three bytes."""
    _bare(command)
    return card.personality.version


def serial(card: IndependentCard, command: Command) -> bytes:
    """F8: four bytes."""
    _bare(command)
    return card.serial


def metadata(card: IndependentCard, command: Command) -> bytes:
    """F7: what is known of a key, a PIN or a PUK."""
    if command.p1:
        raise Refused(Status.WRONG_P1_P2)
    if command.data:
        raise Refused(Status.WRONG_LENGTH)
    if card.personality.no_metadata == Status.DONE:
        return b""
    if command.p2 == _MANAGEMENT:
        key = card.management
        return (
            tlv.build(0x01, bytes([key.algorithm]))
            + tlv.build(0x02, b"\x00\x01")
            + tlv.build(0x05, bytes([key.default]))
        )
    if command.p2 in (_PIN, _PUK):
        secret = card.secrets[command.p2]
        return (
            tlv.build(0x01, b"\xff")
            + tlv.build(0x05, bytes([secret.default]))
            + tlv.build(0x06, bytes([secret.tries, secret.left]))
        )
    pair = card.slots.get(command.p2)
    if pair is None:
        raise Refused(card.personality.no_metadata)
    return (
        tlv.build(0x01, bytes([pair.algorithm]))
        + tlv.build(0x02, bytes([pair.pin_policy, pair.touch_policy]))
        + tlv.build(0x03, bytes([2 if pair.imported else 1]))
        + tlv.build(0x04, pair.public())
    )


def set_key(card: IndependentCard, command: Command) -> bytes:
    """FF: another management key."""
    if command.parameters != 0xFFFF:
        raise Refused(Status.WRONG_P1_P2)
    card.demand_admin()
    data = command.data
    if len(data) < 3:
        raise Refused(Status.WRONG_LENGTH)
    algorithm, reference, size, value = data[0], data[1], data[2], data[3:]
    allowed = card.personality.other_management
    if algorithm not in allowed or reference != _MANAGEMENT:
        raise Refused(Status.WRONG_DATA)
    if size != len(value) or size != keys.KEY_SIZES[algorithm]:
        raise Refused(Status.WRONG_DATA)
    card.management = keys.ManagementKey(algorithm, value, default=False)
    return b""


def import_key(card: IndependentCard, command: Command) -> bytes:
    """FE: a key pair from outside."""
    algorithm, slot = command.p1, command.p2
    if algorithm not in card.personality.algorithms or slot not in card.personality.slots:
        raise Refused(Status.WRONG_P1_P2)
    card.demand_admin()
    element = {0xE0: 0x07, 0xE1: 0x08}.get(algorithm, 0x06)
    parts = frozenset(range(1, 6)) if algorithm in keys.RSA_BITS else _KEY_ELEMENTS[element]
    policies = frozenset({0xAA, 0xAB}) if card.personality.policies else frozenset()
    given = tlv.fields(command.data, parts | policies)
    pin, touch = card.policies(slot, given)
    card.slots[slot] = keys.KeyPair(algorithm, keys.load(algorithm, given), True, pin, touch)
    return b""


def reset(card: IndependentCard, command: Command) -> bytes:
    """FB: as it left the maker, once nothing else helps."""
    _bare(command)
    pin, puk = card.secrets[_PIN], card.secrets[_PUK]
    if pin.left or (puk.left and not card.personality.reset_by_pin):
        raise Refused(card.personality.reset_refused)
    card.install()
    card.admin = False
    if card.personality.named:
        card.serial = naming.serial()
    return b""


def set_tries(card: IndependentCard, command: Command) -> bytes:
    """FA: other tries, and PIN and PUK as the maker set them."""
    if not (command.p1 and command.p2):
        raise Refused(Status.WRONG_P1_P2)
    if command.data:
        raise Refused(Status.WRONG_LENGTH)
    card.demand_admin()
    if not card.secrets[_PIN].verified:
        raise Refused(Status.NOT_ALLOWED)
    card.secrets[_PIN] = Secret(b"123456\xff\xff", command.p1)
    card.secrets[_PUK] = Secret(b"12345678", command.p2)
    return b""


def move(card: IndependentCard, command: Command) -> bytes:
    """F6: a key to an empty slot, or away."""
    to, source = command.p1, command.p2
    allowed = card.personality.slots
    if source not in allowed or (to != _DELETED and to not in allowed - {personality.ATTESTATION}):
        raise Refused(Status.WRONG_P1_P2)
    card.demand_admin()
    if to != _DELETED and source == personality.ATTESTATION:
        raise Refused(Status.WRONG_P1_P2)
    if source not in card.slots:
        raise Refused(Status.NO_REFERENCE)
    if to in card.slots:
        raise Refused(Status.NOT_NOW)
    pair = card.slots.pop(source)
    if to != _DELETED:
        card.slots[to] = pair
    return b""


def attest(card: IndependentCard, command: Command) -> bytes:
    """F9: a certificate by the attestation key for a key that was made here."""
    if command.p2 or command.p1 not in card.personality.slots - {personality.ATTESTATION}:
        raise Refused(Status.WRONG_P1_P2)
    pair = card.slots.get(command.p1)
    if pair is None or pair.imported:
        raise Refused(Status.WRONG_DATA)
    return attestation.statement(card, command.p1, pair)


COMMANDS: Final[dict[int, Callable[[IndependentCard, Command], bytes]]] = {
    personality.VERSION: version,
    personality.SERIAL: serial,
    personality.METADATA: metadata,
    personality.SET_KEY: set_key,
    personality.IMPORT: import_key,
    personality.RESET: reset,
    personality.SET_TRIES: set_tries,
    personality.MOVE: move,
    personality.ATTEST: attest,
}
