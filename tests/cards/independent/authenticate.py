"""GENERAL AUTHENTICATE: SP 800-73-4 part 2 section 3.2.4 and appendix A."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.cards.independent import keys, tlv
from tests.cards.independent.status import Refused, Status

if TYPE_CHECKING:
    from tests.cards.independent.card import IndependentCard
    from tests.cards.independent.command import Command

_WITNESS, _CHALLENGE, _RESPONSE, _POINT = 0x80, 0x81, 0x82, 0x85
_TAGS: Final = frozenset({_WITNESS, _CHALLENGE, _RESPONSE, _POINT})
_MANAGEMENT: Final = 0x9B
_AGREEING: Final = frozenset({0x9D, *range(0x82, 0x96)})
_NEVER, _ALWAYS = 1, 3
_UNTOUCHED: Final = 1

Asked: TypeAlias = tuple[str, bytes] | None


def general_authenticate(card: IndependentCard, command: Command, *, fresh: bool, asked: Asked) -> bytes:
    """Carry it out.

    Args:
        card: where.
        command: the whole of it.
        fresh: whether VERIFY came right before.
        asked: what the card asked for right before, and the answer it expects.
    """
    if command.p2 == _MANAGEMENT:
        return _manage(card, command, asked)
    if command.p2 not in card.personality.slots or command.p2 == 0xF9:
        raise Refused(card.personality.no_key)
    pair = card.slots.get(command.p2)
    if pair is None:
        raise Refused(card.personality.empty_key)
    if command.p1 != pair.algorithm:
        raise Refused(Status.WRONG_P1_P2)
    template = _template(command.data)
    _demand_pin(card, pair, fresh=fresh)
    _demand_touch(card, pair)
    card.unused = False  # what a key was tried for counts, too
    answer = _used(card, command.p2, pair, template)
    if card.personality.agreement_ends_pin and command.p2 == 0x9D:
        card.secrets[0x80].verified = False
    size = card.personality.length_size
    return tlv.build(0x7C, tlv.build(_RESPONSE, answer, size=size), size=size)


def _template(data: bytes) -> dict[int, bytes]:
    return tlv.fields(tlv.only(data, 0x7C), _TAGS)


def _demand_pin(card: IndependentCard, pair: keys.KeyPair, *, fresh: bool) -> None:
    if pair.pin_policy == _NEVER:
        return
    allowed = card.pin_verified
    if pair.pin_policy == _ALWAYS:
        allowed = allowed and (fresh if card.personality.fresh_pin else card.unused)
    if not allowed:
        raise Refused(Status.NOT_ALLOWED)


def _demand_touch(card: IndependentCard, pair: keys.KeyPair) -> None:
    """One that waited in vain says what it says of a PIN that is missing."""
    if pair.touch_policy != _UNTOUCHED and not card.touched():
        raise Refused(Status.NOT_ALLOWED)


def _used(card: IndependentCard, slot: int, pair: keys.KeyPair, template: dict[int, bytes]) -> bytes:
    """Sign, decrypt or agree, whatever the elements and the slot allow."""
    if template.get(_RESPONSE) != b"" or len(template) != 2:
        raise Refused(Status.WRONG_DATA)
    agreeing, curve = slot in _AGREEING, pair.algorithm not in keys.RSA_BITS
    if _POINT in template:
        if not (agreeing and curve):
            raise Refused(Status.WRONG_DATA)
        return pair.agree(template[_POINT])
    if _CHALLENGE not in template or (agreeing and curve and card.personality.strict_use):
        raise Refused(Status.WRONG_DATA)
    return pair.respond(template[_CHALLENGE], exact=not card.personality.short_digest)


def _manage(card: IndependentCard, command: Command, asked: Asked) -> bytes:
    key = card.management
    if not key.is_for(command.p1):
        raise Refused(Status.WRONG_P1_P2)
    template = _template(command.data)
    match template:
        case {0x81: b""} if len(template) == 1 and card.personality.external:
            challenge = secrets.token_bytes(key.block)
            return _ask(card, "response", _CHALLENGE, challenge, key.encrypt(challenge))
        case {0x80: b""} if len(template) == 1:
            witness = secrets.token_bytes(key.block)
            return _ask(card, "witness", _WITNESS, key.encrypt(witness), witness)
        case {0x82: response} if len(template) == 1 and response:
            _compare(card, asked, "response", response)
            return b""
        case {0x80: witness, 0x81: challenge} if template.get(_RESPONSE, b"") == b"":
            if len(challenge) != key.block:
                raise Refused(Status.WRONG_DATA)
            _compare(card, asked, "witness", witness)
            return tlv.build(0x7C, tlv.build(_RESPONSE, key.encrypt(challenge)))
        case {0x81: b""}:
            raise Refused(Status.NOT_ALLOWED)
        case _:
            raise Refused(Status.WRONG_DATA)


def _ask(card: IndependentCard, what: str, tag: int, shown: bytes, expected: bytes) -> bytes:
    if card.personality.asking_logs_out:
        card.admin = False
    card.asked = (what, expected)
    return tlv.build(0x7C, tlv.build(tag, shown))


def _compare(card: IndependentCard, asked: Asked, what: str, brought: bytes) -> None:
    card.admin = False
    if asked is None or asked[0] != what or not hmac.compare_digest(asked[1], brought):
        raise Refused(card.personality.wrong_management)
    card.admin = True
