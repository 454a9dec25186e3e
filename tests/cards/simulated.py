"""A PIV card for tests of the host: real keys, real counters, and every habit a profile asks for.

Written from the standard and from what real cards do, with code of its own: neither the host's nor the product's
card's. It is no product and keeps nothing secret.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.errors import InlayError
from tests.cards.profiles import (
    AES_128,
    AES_192,
    AES_256,
    IMPORT,
    METADATA,
    MOVE,
    P_256,
    P_384,
    RESET,
    RSA_2048,
    SERIAL,
    SET_KEY,
    TDES,
    VERSION,
    Profile,
)
from tests.support.attesting_maker import Maker, der

ATR = bytes.fromhex("3B80800101")
PIN, PUK = b"123456", b"12345678"
FACTORY_KEY = bytes.fromhex("010203040506070801020304050607080102030405060708")
_KEY_BYTES = {TDES: 24, AES_128: 16, AES_192: 24, AES_256: 32}
_AID = bytes.fromhex("A000000308000010000100")
_MANAGER = bytes.fromhex("A000000151000000")
_STANDARD_CHUID = (
    "3019D4E739DA739CED39CE739D836858210842108421C84210C3EB"
    "34101112131415161718191A1B1C1D1E1F20350832303330303130313E00FE00"
)


class Status(Exception):
    """A status word other than 9000."""

    def __init__(self, word: int) -> None:
        super().__init__(f"{word:04X}")
        self.word = word


class Apdu(NamedTuple):
    """A command as the card reads it; ``le`` is None when no answer is wanted."""

    ins: int
    p1: int
    p2: int
    data: bytes
    le: int | None


def tlv(tag: str, value: bytes) -> bytes:
    """A data object."""
    size = len(value)
    length = (
        bytes((size,))
        if size < 128
        else bytes((0x81, size))
        if size < 256
        else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes.fromhex(tag) + length + value


def read(data: bytes) -> list[tuple[int, bytes]]:
    """Data objects with one-byte tags."""
    found = []
    while data:
        size, at = data[1], 2
        if size > 0x80:
            at += size - 0x80
            size = int.from_bytes(data[2:at], "big")
        if at + size > len(data):
            raise Status(0x6A80)
        found.append((data[0], data[at : at + size]))
        data = data[at + size :]
    return found


def factory_key(algorithm: int) -> bytes:
    """The management key that a card comes with."""
    return (FACTORY_KEY + FACTORY_KEY)[: _KEY_BYTES[algorithm]]


def _always_the_same(size: int) -> bytes:
    return bytes(range(size))


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One RSA key for all simulated cards, or one of a few: making them isn't what is tested."""
    return rsa.generate_private_key(65537, 2048)


def _brought_rsa(parts: list[bytes]) -> rsa.RSAPrivateKey:
    """The key of p, q, dP, dQ and qInv, 128 bytes each, that a card with a CRT engine would use as they are."""
    if {len(part) for part in parts} != {128}:
        raise Status(0x6A80)
    p, q, dp, dq, inverse = (int.from_bytes(part, "big") for part in parts)
    private_exponent = pow(65537, -1, (p - 1) * (q - 1))
    if (dp, dq, inverse) != (private_exponent % (p - 1), private_exponent % (q - 1), pow(q, -1, p)):
        raise Status(0x6A80)
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, private_exponent, dp, dq, inverse, public).private_key()


def _same_rsa_key() -> Iterator[rsa.RSAPrivateKey]:
    while True:
        yield rsa_key()


class SimulatedCard:
    """A card of a profile.

    Attributes:
        pin_left: tries; `puk_left` of the PUK.
        objects: tag to content.
        commands: every APDU that came, GET RESPONSE and pieces of chains included.
        random: gives its challenges and witnesses; a test may want them to be known.
        serial: what it answers to GET SERIAL, where it has that.
        maker: signs what it states of its keys, where it has ATTEST; None: it has no attestation key.
        imported: keys that were brought to it.
        rsa_keys: those that it makes, one after the other; always the same one, unless a test wants others.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.pin, self.puk = PIN.ljust(8, b"\xff"), PUK
        self.pin_left, self.puk_left = profile.pin_tries, profile.puk_tries
        self.management = profile.management[-1]
        self.keys_by_algorithm = {each: factory_key(each) for each in profile.management}
        self.objects: dict[int, bytes] = {}
        self.never_freed = 0
        if profile.chuid:
            self.objects[0x5FC102] = bytes.fromhex(_STANDARD_CHUID)
            self.objects[0x5FC107] = bytes.fromhex("F000FE00")
        if profile.discovery:
            self.objects[0x7E] = tlv("4F", _AID) + tlv("5F2F", b"\x40\x00")
        self.keys: dict[int, tuple[int, Any]] = {}
        self.commands: list[bytes] = []
        self.random: Callable[[int], bytes] = _always_the_same if profile.repeats else os.urandom
        self.serial = b"\x01\x02\x03\x04"
        self.maker: Maker | None = None
        self.imported: set[int] = set()
        self.rsa_keys: Iterator[rsa.RSAPrivateKey] = _same_rsa_key()
        self.reset()

    def twin(self) -> SimulatedCard:
        """Another card with all that is on this one, and with its keys; it has had no command yet."""
        other = copy.copy(self)
        other.objects, other.keys, other.imported = dict(self.objects), dict(self.keys), set(self.imported)
        other.keys_by_algorithm, other.commands = dict(self.keys_by_algorithm), []
        other.reset()
        return other

    def reset(self) -> None:
        """Power off and on."""
        self.selected = self.profile.selected_by_power
        self.managed = self.pin_ok = False
        self._challenge: tuple[str, int, bytes] | None = None
        self._chain: list[bytes] = []
        self._rest, self._end = b"", b"\x90\x00"

    def transmit(self, raw: bytes) -> bytes:
        """Answer one APDU."""
        self.commands.append(raw)
        try:
            if raw[0] == 0x10:
                return self._piece(raw)
            command = self._parsed(raw)
            if command.ins == 0xC0:
                return self._more(command)
            chained, self._chain = b"".join(self._chain), []
            command = command._replace(data=chained + command.data)
            answer = self._do(command)
        except Status as status:
            self._chain = []
            return status.word.to_bytes(2, "big")
        self._end = b"\x62\x82" if command.ins == 0xCB and self.profile.warns else b"\x90\x00"
        reads = command.ins in (0xA4, 0xCB, 0xF7) and command.le is not None
        if self.profile.exact and reads and answer and command.le != len(answer):
            if len(answer) > 256:
                return self._give(answer, 256)
            return bytes((0x6C, len(answer) & 0xFF))
        return self._give(answer, command.le)

    def _piece(self, raw: bytes) -> bytes:
        if not self.selected:
            raise Status(self.profile.unselected)
        if self.profile.extended:
            raise Status(self.profile.no_chaining)
        self._chain.append(raw[5:])
        return b"\x90\x00"

    def _more(self, command: Apdu) -> bytes:
        if not self.selected:
            raise Status(self.profile.unselected)
        return self._give(self._rest, command.le or 256)

    def _parsed(self, raw: bytes) -> Apdu:
        body = raw[4:]
        if raw[0] != 0:
            raise Status(0x6E00)
        if not body:
            return Apdu(raw[1], raw[2], raw[3], b"", None)
        if len(body) == 1:
            return Apdu(raw[1], raw[2], raw[3], b"", body[0] or 256)
        if body[0] == 0 and len(body) >= 3:
            if not self.profile.extended:
                raise Status(0x6700)
            size = int.from_bytes(body[1:3], "big")
            rest = body[3 + size :]
            return Apdu(
                raw[1],
                raw[2],
                raw[3],
                body[3 : 3 + size],
                (int.from_bytes(rest, "big") or 65536) if rest else None,
            )
        size, rest = body[0], body[1 + body[0] :]
        if len(body) < 1 + size or len(rest) > 1:
            raise Status(0x6700)
        return Apdu(raw[1], raw[2], raw[3], body[1 : 1 + size], (rest[0] or 256) if rest else None)

    def _give(self, answer: bytes, le: int | None) -> bytes:
        most = self.profile.piece or 65536
        first, self._rest = answer[: min(most, le or 256)], answer[min(most, le or 256) :]
        if self._rest:
            return first + bytes((0x61, min(len(self._rest), most, 256) & 0xFF))
        return first + self._end

    def _do(self, command: Apdu) -> bytes:
        if command.ins == 0xA4:
            return self._select(command)
        known: dict[int, Callable[[Apdu], bytes]] = {
            0xCB: self._get,
            0xDB: self._put,
            0x20: self._verify,
            0x24: self._change,
            0x2C: self._unblock,
            0x87: self._authenticate,
            0x47: self._generate,
        }
        yubico: dict[int, Callable[[Apdu], bytes]] = {
            SET_KEY: self._set_key,
            MOVE: self._move,
            IMPORT: self._import,
            METADATA: self._metadata,
            SERIAL: lambda _: self.serial,
            VERSION: lambda _: b"\x05\x04\x03",
            0xF9: self._attest,
            RESET: self._reset,
        }
        known |= {ins: work for ins, work in yubico.items() if ins in self.profile.yubico}
        if not self.selected:
            raise Status(self.profile.unselected)
        if command.ins not in known:
            raise Status(0x6D00)
        if self.profile.through_air and command.ins in (0x20, 0x24, 0x2C):
            raise Status(0x6982)
        return known[command.ins](command)

    def _select(self, command: Apdu) -> bytes:
        if self.profile.bare:
            if not _MANAGER.startswith(command.data):
                raise Status(0x6A82)
            return tlv("6F", tlv("84", _MANAGER))
        if len(command.data) not in self.profile.select or not _AID.startswith(command.data):
            raise Status(0x6A82)
        self.reset()
        self.selected = True
        if self.profile.template == "nothing":
            return b""
        content = tlv("4F", _AID[5:]) + tlv("79", tlv("4F", _AID[:5]))
        if self.profile.template == "file":
            return tlv("6F", tlv("84", _AID) + tlv("A5", b""))
        named = [tlv("80", bytes((each,))) for each in self.profile.algorithms]
        if self.profile.template == "ac":
            content += tlv("AC", b"".join(named) + b"\x06\x01\x00")
        if self.profile.template == "acs":
            content += b"".join(tlv("AC", each + b"\x06\x01\x00") for each in named)
        return tlv("61", content)

    # --- objects

    def _tag(self, data: bytes) -> tuple[int, bytes]:
        if data[:1] != b"\x5c":
            raise Status(0x6A80)
        return int.from_bytes(data[2 : 2 + data[1]], "big"), data[2 + data[1] :]

    def _get(self, command: Apdu) -> bytes:
        tag, _ = self._tag(command.data)
        if tag == 0x5FC109 and not self.pin_ok:
            raise Status(0x6982)
        if tag not in self.objects:
            absent = bytes.fromhex(self.profile.absent)
            if absent[-2:] != b"\x90\x00":
                raise Status(int.from_bytes(absent, "big"))
            return absent[:-2]
        filled = bytes(5) if self.profile.fills and self.objects[tag][:1] == b"\x70" else b""
        return tlv("7E" if tag == 0x7E else "53", self.objects[tag] + filled)

    def _put(self, command: Apdu) -> bytes:
        tag, rest = self._tag(command.data)
        if not self.managed:
            raise Status(0x6982)
        [(outer, content)] = read(rest)
        if outer != 0x53:
            raise Status(0x6A80)
        if not self.profile.has_place(tag):
            raise Status(self.profile.no_place)
        if not content:
            gone = self.objects.pop(tag, None)
            if gone is None and self.profile.delete_absent != 0x9000:
                raise Status(self.profile.delete_absent)
            self._keep(len(gone or b""))
            return b""
        old = len(self.objects.get(tag, b""))
        kept = old if len(content) > old and not self.profile.frees else 0
        used = sum(map(len, self.objects.values())) - old + kept + self.never_freed
        if used + len(content) > self.profile.capacity or (
            old and len(content) > old and not self.profile.grows
        ):
            raise Status(0x6A84)
        self._keep(kept)
        self.objects[tag] = content
        return b""

    def _keep(self, size: int) -> None:
        """Bytes that nothing is in any more."""
        if not self.profile.frees:
            self.never_freed += size

    # --- PIN and PUK

    def _tries(self, which: str) -> Status:
        left: int = getattr(self, f"{which}_left")
        return Status(self.profile.tries_word | left if left or self.profile.tries_word == 0x6300 else 0x6983)

    def _compare(self, which: str, value: bytes) -> None:
        left: int = getattr(self, f"{which}_left")
        if left == 0:
            raise self._tries(which)
        if value != getattr(self, which):
            setattr(self, f"{which}_left", left - 1)
            if which == "pin":
                self.pin_ok = False
            raise Status(self.profile.tries_word | left - 1)
        setattr(self, f"{which}_left", getattr(self.profile, f"{which}_tries"))

    def _compare_old(self, which: str, value: bytes) -> None:
        try:
            self._compare(which, value)
        except Status as status:
            raise Status(self.profile.wrong_old or status.word) from None

    def _verify(self, command: Apdu) -> bytes:
        if command.p1 == 0xFF:
            if not self.profile.log_out:
                raise Status(0x6A86)
            self.pin_ok = False
            return b""
        if not command.data:
            if self.pin_ok and self.profile.tells_verified:
                return b""
            raise self._tries("pin")
        if len(command.data) != 8:
            raise Status(self.profile.unpadded)
        self._compare("pin", command.data)
        self.pin_ok = True
        self.managed = self.managed and not self.profile.forgets_key
        return b""

    def _change(self, command: Apdu) -> bytes:
        if len(command.data) != 16:
            raise Status(0x6700)
        which = {0x80: "pin", 0x81: "puk"}[command.p2]
        if which == "puk" and not self.profile.changes_puk:
            raise Status(0x6A88)
        if len(command.data[8:].rstrip(b"\xff")) < 6:
            raise Status(0x6A80)
        self._compare_old(which, command.data[:8])
        self._see_that_it_is_strong(command.data[8:])
        setattr(self, which, command.data[8:])
        return b""

    def _unblock(self, command: Apdu) -> bytes:
        self._compare_old("puk", command.data[:8])
        self._see_that_it_is_strong(command.data[8:])
        self.managed = self.managed and not self.profile.forgets_key
        self.pin, self.pin_left = command.data[8:], self.profile.pin_tries
        return b""

    def _see_that_it_is_strong(self, value: bytes) -> None:
        if self.profile.weak_pin and len(set(value.rstrip(b"\xff"))) == 1:
            raise Status(self.profile.weak_pin)

    # --- keys

    def _block(self, algorithm: int, data: bytes, *, decrypt: bool = False) -> bytes:
        key = self.keys_by_algorithm[algorithm]
        cipher = Cipher(TripleDES(key) if algorithm == TDES else algorithms.AES(key), modes.ECB())  # noqa: S305
        worker = cipher.decryptor() if decrypt else cipher.encryptor()
        return worker.update(data) + worker.finalize()

    def _authenticate(self, command: Apdu) -> bytes:
        [(outer, content)] = read(command.data)
        parts = dict(read(content))
        pending, self._challenge = self._challenge, None
        if outer != 0x7C:
            raise Status(0x6A80)
        if command.p2 != 0x9B:
            return self._private(command, parts)
        algorithm = self.management if self.profile.any_algorithm else command.p1
        if algorithm not in self.keys_by_algorithm:
            raise Status(0x6A86)
        size = 8 if algorithm == TDES else 16
        if parts == {0x81: b""}:
            challenge = self.random(size)
            self._challenge = ("external", algorithm, self._block(algorithm, challenge))
            return tlv("7C", tlv("81", challenge))
        if parts == {0x80: b""} and self.profile.mutual:
            witness = self.random(size)
            self._challenge = ("mutual", algorithm, witness)
            return tlv("7C", tlv("80", self._block(algorithm, witness)))
        if self.profile.strict and 0x80 in parts and len(parts) != self.profile.strict:
            raise Status(0x6A80)
        given = parts.get(0x80) or parts.get(0x82) or b""
        kind = "mutual" if 0x80 in parts else "external"
        if pending != (kind, algorithm, given):
            raise Status(self.profile.wrong_management)
        self.managed = True
        return b"" if kind == "external" else tlv("7C", tlv("82", self._block(algorithm, parts[0x81])))

    def _private(self, command: Apdu, parts: dict[int, bytes]) -> bytes:
        if command.p2 not in self.keys:
            raise Status(self.profile.absent_key)
        algorithm, private = self.keys[command.p2]
        if algorithm != command.p1:
            raise Status(0x6A86)
        if command.p2 != 0x9E and not self.pin_ok:
            raise Status(0x6982)
        if command.p2 == 0x9C or (command.p2 == 0x9D and self.profile.forgets):
            self.pin_ok = False
        if 0x85 in parts:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, parts[0x85])
            return tlv("7C", tlv("82", private.exchange(ec.ECDH(), peer)))
        if algorithm == RSA_2048:
            numbers = private.private_numbers()
            value = pow(int.from_bytes(parts[0x81], "big"), numbers.d, numbers.public_numbers.n)
            result = value.to_bytes(256, "big")
            return tlv("7C", tlv("82", result.lstrip(b"\0") if self.profile.trims else result))
        digest = hashes.SHA256() if len(parts[0x81]) == 32 else hashes.SHA384()
        return tlv("7C", tlv("82", private.sign(parts[0x81], ec.ECDSA(utils.Prehashed(digest)))))

    def _slot(self, slot: int) -> None:
        if slot not in (0x9A, 0x9C, 0x9D, 0x9E) and not 0 <= slot - 0x82 < self.profile.retired:
            raise Status(self.profile.bad_slot)

    def _generate(self, command: Apdu) -> bytes:
        if not self.managed:
            raise Status(0x6982)
        self._slot(command.p2)
        [(_, control)] = read(command.data)
        [algorithm] = dict(read(control))[0x80]
        if algorithm not in self.profile.algorithms:
            raise Status(self.profile.bad_algorithm)
        if algorithm == RSA_2048:
            private: Any = next(self.rsa_keys)
        else:
            curve = ec.SECP256R1() if algorithm == P_256 else ec.SECP384R1()
            private = (
                ec.derive_private_key(7, curve) if self.profile.repeats else ec.generate_private_key(curve)
            )
        self.keys[command.p2] = (algorithm, private)
        self.imported.discard(command.p2)
        return tlv("7F49", self._public(algorithm, private))

    def _public(self, algorithm: int, private: Any) -> bytes:
        numbers = private.public_key().public_numbers()
        if algorithm == RSA_2048:
            return tlv("81", numbers.n.to_bytes(256, "big")) + tlv("82", numbers.e.to_bytes(3, "big"))
        size = private.key_size // 8
        return tlv("86", b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big"))

    def _set_key(self, command: Apdu) -> bytes:
        if command.p1 != 0xFF:
            raise Status(0x6A86)
        if not self.managed:
            raise Status(0x6982)
        algorithm, _, size, *key = command.data
        if algorithm not in self.profile.management or size != len(key) or size != _KEY_BYTES[algorithm]:
            raise Status(0x6A80)
        self.keys_by_algorithm, self.management = {algorithm: bytes(key)}, algorithm
        return b""

    def _move(self, command: Apdu) -> bytes:
        if not self.managed:
            raise Status(0x6982)
        if command.p1 != 0xFF:
            self._slot(command.p1)
        self._slot(command.p2)
        if command.p2 not in self.keys:
            raise Status(0x6A88)
        key = self.keys.pop(command.p2)
        if command.p1 != 0xFF:
            self.keys[command.p1] = key
        return b""

    def _import(self, command: Apdu) -> bytes:
        if not self.managed:
            raise Status(0x6982)
        self._slot(command.p2)
        if not self.profile.takes_keys:
            raise Status(0x6A81)
        parts = dict(read(command.data))
        private: Any
        if command.p1 == RSA_2048:
            private = _brought_rsa([parts.get(tag, b"") for tag in range(1, 6)])
        elif command.p1 in (P_256, P_384):
            curve = ec.SECP256R1() if command.p1 == P_256 else ec.SECP384R1()
            private = ec.derive_private_key(int.from_bytes(parts[0x06], "big"), curve)
        else:
            raise Status(0x6A80)
        self.keys[command.p2] = (command.p1, private)
        self.imported.add(command.p2)
        return b""

    def _metadata(self, command: Apdu) -> bytes:
        if not self.profile.tells_keys:
            return b""
        if command.p2 == 0x9B:
            return tlv("01", bytes((self.management,))) + tlv("02", b"\x00\x01") + tlv("05", b"\x00")
        if command.p2 in (0x80, 0x81):
            which = "pin" if command.p2 == 0x80 else "puk"
            tries = bytes((getattr(self.profile, f"{which}_tries"), getattr(self, f"{which}_left")))
            makers = bytes((getattr(self, which) == {"pin": PIN.ljust(8, b"\xff"), "puk": PUK}[which],))
            return tlv("01", b"\xff") + tlv("05", makers) + tlv("06", tries)
        if command.p2 not in self.keys:
            if self.profile.cut_metadata:
                return bytes.fromhex("0101FF0202000103010104")
            if self.profile.unknown_key == 0x9000:
                return tlv("01", b"\xff") + tlv("02", b"\x00\x01") + tlv("03", b"\x01")
            raise Status(self.profile.unknown_key)
        algorithm, private = self.keys[command.p2]
        parts = tlv("01", bytes((algorithm,))) + tlv("02", b"\x02\x01") + tlv("03", b"\x01")
        return parts + tlv("04", self._public(algorithm, private))

    def _reset(self, command: Apdu) -> bytes:
        if (command.p1, command.p2, command.data) != (0, 0, b""):
            raise Status(0x6A86)
        if self.pin_left or (self.puk_left and not self.profile.reset_by_pin):
            raise Status(0x6985)
        self.pin, self.puk = PIN.ljust(8, b"\xff"), PUK
        self.pin_left, self.puk_left = self.profile.pin_tries, self.profile.puk_tries
        self.management = self.profile.management[-1]
        self.keys_by_algorithm = {each: factory_key(each) for each in self.profile.management}
        self.objects = {tag: value for tag, value in self.objects.items() if tag in (0x7E, 0x5FFF01)}
        if self.profile.chuid_by_reset:
            standard = bytes.fromhex(_STANDARD_CHUID)
            self.objects[0x5FC102] = standard[:29] + os.urandom(16) + standard[45:]
        self.keys, self.imported = {}, set()
        self.managed = self.pin_ok = False
        return b""

    def _attest(self, command: Apdu) -> bytes:
        if command.p1 not in self.keys:
            raise Status(0x6A88)
        if self.maker is None or command.p1 in self.imported:
            raise Status(0x6A80)
        public = self.keys[command.p1][1].public_key()
        return self.maker.statement(f"{command.p1:02X}", public, serial=int.from_bytes(self.serial, "big"))

    def attest_by(self, maker: Maker) -> None:
        """Give it the attestation key of this maker's card, as it comes from the factory."""
        self.maker = maker
        self.objects[0x5FFF01] = tlv("70", der(maker.issuer)) + b"\x71\x01\x00\xfe\x00"


class SimulatedLink:
    """PC/SC's connection to a simulated card, and what can happen on it.

    Attributes:
        before: called before each APDU with its number, counted from 1; may raise what PC/SC would.
        resets: how often the card was reset by who uses it.
    """

    def __init__(self, card: SimulatedCard) -> None:
        self.card = card
        self.before: Callable[[int], None] = lambda _number: None
        self.resets = self.transactions = self.reconnections = self.number = 0
        self.held = False

    def transmit(self, apdu: bytes) -> bytes:
        self.number += 1
        self.before(self.number)
        return self.card.transmit(apdu)

    def begin(self) -> None:
        assert not self.held
        self.held = True
        self.transactions += 1

    def end(self, *, reset: bool) -> bool:
        assert self.held
        self.held = False
        if reset:
            self.resets += 1
            self.card.reset()
        return True

    def reconnect(self) -> None:
        self.reconnections += 1
        self.held = False

    def atr(self) -> bytes:
        return ATR

    def ask_reader(self, function: int) -> bytes:
        raise InlayError("pcsc_failed", cause=f"function {function}")

    def control(self, code: int, data: bytes) -> bytes:
        raise InlayError("pcsc_failed", cause=f"code {code}")

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.card.reset()

    def reset_by_another(self, at: int) -> None:
        """Another program resets the card before APDU `at`."""

        def reset(number: int) -> None:
            if number == at:
                self.card.reset()
                raise InlayError("pcsc_card_reset")

        self.before = reset
