"""The card: ISO/IEC 7816-4 transport, SP 800-73-4 part 2 security status, and its commands but the largest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

from tests.cards.independent import attestation, authenticate, keys, naming, tlv, vendor
from tests.cards.independent.command import CHAINED, Command, Unreadable, parse
from tests.cards.independent.personality import AID, ATTEST, ATTESTATION, RID, WITH_PIN, Personality
from tests.cards.independent.status import Refused, Secret, Status

PIN, PUK, GLOBAL_PIN = 0x80, 0x81, 0x00
MANAGEMENT: Final = 0x9B
DISCOVERY, BIOMETRIC_GROUP = 0x7E, 0x7F61
ATTESTATION_CERTIFICATE: Final = 0x5FFF01
MAKERS_PIN: Final = b"123456\xff\xff"
MAKERS_PUK: Final = b"12345678"
_SECRET_SIZE: Final = 8
_SHORT: Final = 256
_MOST_CHAINED: Final = 8192
_CHAINABLE: Final = frozenset({0x87, 0x47, 0xDB, 0xFE})
SELECT, GET_RESPONSE, GET_DATA, PUT_DATA = 0xA4, 0xC0, 0xCB, 0xDB
VERIFY, CHANGE, UNBLOCK, AUTHENTICATE, GENERATE = 0x20, 0x24, 0x2C, 0x87, 0x47
_DEFAULT_POLICIES: Final = {0x9C: 3, 0x9E: 1}


class IndependentCard:
    """A card of one kind, from the maker.

    Attributes:
        personality: its kind.
        secrets: PIN, PUK and, where there is one, the global PIN, by key reference.
        objects: contents of data objects by tag, without the outer tag; none for an object that isn't there.
        slots: key pairs by key reference.
        management: the key 9B.
        serial: its serial number, four bytes; none where it tells none.
        selected: whether the PIV application is.
        admin: whether 9B has been authenticated to.
        journal: instruction and status of each command since the card was made.
        make: makes a private key; a test may have it made before.
        touched: whether somebody touches it while it waits for that.
    """

    def __init__(self, personality: Personality) -> None:
        self.personality = personality
        self.journal: list[tuple[int, int]] = []
        self.make: Callable[[int], keys.Private] = keys.generate
        self.touched: Callable[[], bool] = lambda: True
        self.serial = personality.serial
        self.slots: dict[int, keys.KeyPair] = {}
        self.objects: dict[int, bytes] = {}
        if ATTEST in personality.vendor:
            self.slots[ATTESTATION], self.objects[ATTESTATION_CERTIFICATE] = attestation.from_maker()
        self.install()
        self.reset()

    def install(self) -> None:
        """Put everything as it left the maker; the attestation key stays, and its certificate."""
        kind = self.personality
        self.secrets = {
            PIN: Secret(MAKERS_PIN, kind.pin_tries),
            PUK: Secret(MAKERS_PUK, kind.puk_tries),
        }
        if kind.global_pin:
            self.secrets[GLOBAL_PIN] = Secret(b"654321\xff\xff", kind.pin_tries)
        kept = self.objects.get(ATTESTATION_CERTIFICATE)
        self.objects = {} if kept is None else {ATTESTATION_CERTIFICATE: kept}
        if kind.precreated:
            self.objects |= {tag: b"" for tag in kind.retained - {DISCOVERY, BIOMETRIC_GROUP}}
        if kind.named:
            self.objects |= naming.objects()
        if kind.discovery:
            usage = b"\x60\x10" if kind.global_pin else b"\x40\x00"
            self.objects[DISCOVERY] = tlv.build(0x4F, AID) + tlv.build(0x5F2F, usage)
        self.slots = {slot: pair for slot, pair in self.slots.items() if slot == ATTESTATION}
        self.management = keys.ManagementKey(*kind.management)

    def reset(self) -> None:
        """Power off and on: nothing is selected, nobody authenticated."""
        self.selected = False
        self._rest = b""
        self._chain: Command | None = None
        self._forget()

    def _forget(self) -> None:
        for secret in self.secrets.values():
            secret.verified = False
        self.admin = False
        self.fresh = False
        self.unused = False
        self.asked: tuple[str, bytes] | None = None

    # transport

    def transmit(self, apdu: bytes) -> bytes:
        """Carry out a command.

        Returns:
            The answer: data field and status.
        """
        data, status = self._answered(apdu)
        self.journal.append((apdu[1] if len(apdu) > 1 else -1, status))
        return data + status.to_bytes(2)

    def _answered(self, apdu: bytes) -> tuple[bytes, int]:
        try:
            command = parse(apdu)
            try:
                self._check_form(command)
            except Refused:
                self._break_off()
                raise
            if command.ins == GET_RESPONSE:
                return self._next_piece(command)
            self._rest = b""
            whole = self._chained(command)
            if whole is None:
                return b"", Status.DONE
            return self._first_piece(whole, self._carry_out(whole))
        except Unreadable:
            self._break_off()
            return b"", Status.WRONG_LENGTH
        except tlv.Malformed:
            return b"", Status.WRONG_DATA
        except keys.Unusable:
            return b"", Status.WRONG_DATA
        except Refused as refused:
            return refused.data, refused.status

    def _break_off(self) -> None:
        """What can't be carried out is a command, too: nothing goes on after it that began before."""
        self._chain, self._rest = None, b""
        self.asked, self.fresh = None, False

    def _check_form(self, command: Command) -> None:
        first, further = command.cla & 0xE0 == 0, command.cla & 0xC0 == 0x40
        if further or (first and command.cla & 0x03):
            raise Refused(Status.NO_CHANNEL)
        if not first:
            raise Refused(Status.NO_CLASS)
        if command.cla & 0x0C:
            raise Refused(Status.NO_SECURE_MESSAGING)
        if command.extended and not self.personality.extended:
            raise Refused(Status.WRONG_LENGTH)
        if self.personality.t0 and command.data and command.le is not None:
            raise Refused(Status.WRONG_LENGTH)

    def _chained(self, command: Command) -> Command | None:
        """Put a command's pieces together.

        Returns:
            The whole, or None while more is to come.
        """
        begun, self._chain = self._chain, None
        if begun is not None and begun.header != command.header:
            if self.personality.chain_told:
                raise Refused(Status.CHAIN_BROKEN)
            begun = None
        data = (b"" if begun is None else begun.data) + command.data
        if len(data) > _MOST_CHAINED:
            raise Refused(Status.WRONG_LENGTH)
        whole = Command(command.cla & ~CHAINED, *command.header, data, command.le, command.extended)
        if not command.cla & CHAINED:
            return whole
        if command.ins not in _CHAINABLE:
            raise Refused(Status.NO_CHAINING)
        self._chain = whole
        return None

    def _first_piece(self, command: Command, data: bytes) -> tuple[bytes, int]:
        if not data:
            return b"", Status.DONE
        if command.le is None and not (self.personality.short_le or self.personality.t0):
            raise Refused(Status.WRONG_LENGTH)
        if self.personality.t0 and command.data:
            self._rest = data
            return b"", self._left()
        limit = command.le or _SHORT
        self._rest = data[limit:]
        return data[:limit], self._left() if self._rest else Status.DONE

    def _next_piece(self, command: Command) -> tuple[bytes, int]:
        self._chain = None
        if command.parameters or command.data or command.cla & CHAINED:
            raise Refused(Status.WRONG_P1_P2 if command.parameters else Status.WRONG_LENGTH)
        if not self._rest:
            raise Refused(Status.NOT_NOW)
        wanted, left = command.le or _SHORT, len(self._rest)
        if command.le is None and not self.personality.short_le:
            raise Refused(Status.WRONG_LENGTH)
        if wanted > left and self.personality.exact_response:
            raise Refused(0x6C00 | left)
        data, self._rest = self._rest[:wanted], self._rest[wanted:]
        return data, self._left() if self._rest else Status.DONE

    def _left(self) -> int:
        left = len(self._rest)
        return 0x6100 | (left if left < _SHORT else self.personality.many_left)

    # commands

    def _carry_out(self, command: Command) -> bytes:
        if command.ins == SELECT:
            return self._select(command)
        if not self.selected:
            raise Refused(Status.NO_INSTRUCTION)
        fresh, self.fresh = self.fresh, False
        asked, self.asked = self.asked, None
        if command.ins == AUTHENTICATE:
            return authenticate.general_authenticate(self, command, fresh=fresh, asked=asked)
        if command.ins in self.personality.vendor:
            return vendor.COMMANDS[command.ins](self, command)
        handler = _COMMANDS.get(command.ins)
        if handler is None:
            raise Refused(Status.NO_INSTRUCTION)
        return handler(self, command)

    def _select(self, command: Command) -> bytes:
        if command.parameters != 0x0400:
            raise Refused(Status.WRONG_P1_P2)
        name, allowed = command.data, self.personality.partial_names | {len(AID)}
        if len(name) < len(RID) or not AID.startswith(name) or len(name) not in allowed:
            raise Refused(Status.NO_FILE)
        if not self.selected:
            self._forget()
        self.selected = True
        return self.personality.template

    def get_data(self, command: Command) -> bytes:
        """GET DATA: SP 800-73-4 part 2 section 3.1.2."""
        if command.parameters != 0x3FFF:
            raise Refused(Status.WRONG_P1_P2)
        wanted = tlv.only(command.data, 0x5C)
        if not 1 <= len(wanted) <= 3:
            raise Refused(Status.WRONG_DATA)
        tag = int.from_bytes(wanted)
        if tag in WITH_PIN and not self.pin_verified:
            raise Refused(Status.NOT_ALLOWED)
        value = self.objects.get(tag)
        if not value:
            if value is None:
                raise Refused(Status.NO_FILE)
            data, status = self.personality.empty_object
            if self.personality.keeps_deleted:
                return b"\x53\x00"
            if status == Status.DONE and data:
                return data
            raise Refused(status)
        outer = tag if tag in (DISCOVERY, BIOMETRIC_GROUP) else 0x53
        return tlv.build(outer, value)

    def put_data(self, command: Command) -> bytes:
        """PUT DATA: section 3.3.1."""
        if command.parameters != 0x3FFF:
            raise Refused(Status.WRONG_P1_P2)
        self.demand_admin()
        match tlv.parse(command.data):
            case [(0x5C, name), (0x53, value)] if len(name) == 3:
                tag = int.from_bytes(name)
            case [(tag, value)] if tag in (DISCOVERY, BIOMETRIC_GROUP):
                pass
            case _:
                raise Refused(Status.WRONG_DATA)
        if tag not in self.personality.retained:
            raise Refused(self.personality.no_object)
        if len(value) > self.personality.largest_object:
            raise Refused(Status.NO_ROOM)
        if not value and not (self.personality.precreated or self.personality.keeps_deleted):
            self.objects.pop(tag, None)
        else:
            self.objects[tag] = value
        return b""

    def verify(self, command: Command) -> bytes:
        """VERIFY: section 3.2.1."""
        if command.p1 not in (0x00, 0xFF) or (command.p1 and not self.personality.log_out):
            raise Refused(Status.WRONG_P1_P2)
        secret = self.secrets.get(command.p2)
        if secret is None or command.p2 == PUK:
            raise Refused(Status.NO_REFERENCE)
        if command.p1 == 0xFF:
            if command.data:
                raise Refused(Status.WRONG_LENGTH)
            secret.verified = self.unused = False
            return b""
        if not command.data:
            if secret.verified:
                return b""
            raise Refused(secret.told if secret.left else self.personality.blocked_status)
        if len(command.data) != _SECRET_SIZE:
            raise Refused(self.personality.pin_length)
        if self.personality.checks_verified:
            self._demand_form(command.p2, command.data)
        self.compare(secret, command.data)
        secret.verified = self.fresh = self.unused = True
        return b""

    def change(self, command: Command) -> bytes:
        """CHANGE REFERENCE DATA: section 3.2.2."""
        secret = self.secrets.get(command.p2)
        if command.p1:
            raise Refused(Status.WRONG_P1_P2)
        if secret is None or (command.p2 == PUK and not self.personality.puk_changes):
            raise Refused(Status.NO_REFERENCE)
        old, new = self._two(command.data)
        if self.personality.checks_verified:
            self._demand_form(command.p2, new)
        before, left = secret.verified, secret.left
        self.compare(secret, old, wrong=self.personality.wrong_change)
        tries, secret.verified, secret.left = secret.left, before, left  # 6A80 leaves both as they were
        self._demand_form(command.p2, new)
        secret.left = tries
        secret.replace(new)
        secret.verified = command.p2 != PUK
        self.unused = self.unused or command.p2 != PUK
        return b""

    def unblock(self, command: Command) -> bytes:
        """RESET RETRY COUNTER: section 3.2.3."""
        if command.p1:
            raise Refused(Status.WRONG_P1_P2)
        if command.p2 != PIN:
            raise Refused(Status.NO_REFERENCE)
        puk, new = self._two(command.data)
        if self.personality.checks_verified:
            self._demand_form(PIN, new)
        pin, by = self.secrets[PIN], self.secrets[PUK]
        before, left = pin.verified, by.left
        pin.verified = False  # which stays so if the PUK is wrong
        self.compare(by, puk, wrong=self.personality.wrong_change)
        tries, by.left, pin.verified = by.left, left, before
        self._demand_form(PIN, new)
        by.left = tries
        pin.replace(new)
        pin.verified = before
        return b""

    def _two(self, data: bytes) -> tuple[bytes, bytes]:
        if len(data) != 2 * _SECRET_SIZE:
            raise Refused(self.personality.pin_length)
        return data[:_SECRET_SIZE], data[_SECRET_SIZE:]

    def _demand_form(self, reference: int, value: bytes) -> None:
        """Check section 2.4.3: six to eight digits padded with FF; eight bytes for a PUK, none of them FF."""
        bare = value.rstrip(b"\xff")
        if reference == PUK and not self.personality.puk_digits:
            well = len(bare) == _SECRET_SIZE and b"\xff" not in bare
        else:
            digits = self.personality.digits_only
            well = len(bare) >= 6 and b"\xff" not in bare
            well = well and (not digits or bare.isdigit())
        if not well:
            raise Refused(Status.WRONG_DATA)

    def compare(self, secret: Secret, value: bytes, *, wrong: int = 0) -> None:
        """Compare, and count.

        Args:
            secret: what with.
            value: what is brought.
            wrong: the status of a wrong value where it isn't 63Cx.

        Raises:
            Refused: it differs, or no try is left.
        """
        if not secret.left:
            raise Refused(wrong or Status.BLOCKED)
        if secret.compare(value):
            return
        self.unused = False
        if wrong:
            raise Refused(wrong)
        raise Refused(secret.told if secret.left else self.personality.last_try)

    def generate(self, command: Command) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR: section 3.3.2."""
        if command.p1:
            raise Refused(Status.WRONG_P1_P2)
        if command.p2 not in self.personality.generates:
            raise Refused(self.personality.no_key)
        self.demand_admin()
        allowed = frozenset({0x80, 0x81, *((0xAA, 0xAB) if self.personality.policies else ())})
        given = tlv.fields(tlv.only(command.data, 0xAC), allowed)
        algorithm, exponent = given.get(0x80, b""), given.get(0x81)
        if len(algorithm) != 1 or algorithm[0] not in self.personality.algorithms:
            raise Refused(Status.WRONG_DATA)
        usual = algorithm[0] in keys.RSA_BITS and exponent == b"\x01\x00\x01"
        if exponent is not None and not usual:
            raise Refused(Status.WRONG_DATA)
        pin, touch = self.policies(command.p2, given)
        made = keys.KeyPair(algorithm[0], self.make(algorithm[0]), False, pin, touch)
        self.slots[command.p2] = made
        size = self.personality.length_size
        return tlv.build(0x7F49, made.public(size=size), size=size)

    # what the commands of the other modules ask

    def policies(self, slot: int, given: dict[int, bytes]) -> tuple[int, int]:
        """Give PIN and touch policy of a new key.

        Raises:
            Refused: one that doesn't exist.
        """
        pin, touch = given.get(0xAA, b"\0"), given.get(0xAB, b"\0")
        touches = (b"\0", b"\1", b"\2", b"\3") if self.personality.touch else (b"\0", b"\1")
        if pin not in (b"\0", b"\1", b"\2", b"\3") or touch not in touches:
            raise Refused(Status.WRONG_DATA)
        return pin[0] or _DEFAULT_POLICIES.get(slot, 2), touch[0] or 1

    def demand_admin(self) -> None:
        """Refuse what 9B has not been authenticated to for."""
        if not self.admin:
            raise Refused(Status.NOT_ALLOWED)

    @property
    def pin_verified(self) -> bool:
        """Whether the PIN, or the global one, is."""
        return any(s.verified for ref, s in self.secrets.items() if ref != PUK)

    def copy(self) -> IndependentCard:
        """Give another card with the same state, after a reset."""
        other = copy.copy(self)
        other.secrets = copy.deepcopy(self.secrets)
        other.objects, other.slots = dict(self.objects), dict(self.slots)
        other.management, other.journal = copy.copy(self.management), []
        other.reset()
        return other


_COMMANDS: Final[dict[int, Callable[[IndependentCard, Command], bytes]]] = {
    GET_DATA: IndependentCard.get_data,
    PUT_DATA: IndependentCard.put_data,
    VERIFY: IndependentCard.verify,
    CHANGE: IndependentCard.change,
    UNBLOCK: IndependentCard.unblock,
    GENERATE: IndependentCard.generate,
}
