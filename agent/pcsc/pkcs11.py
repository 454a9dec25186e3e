"""The driver *pkcs11*: any card for which an administrator has configured its maker's module.

A token is what PKCS#11 calls a card. Keys and certificates that belong together have the same id (``CKA_ID``). A
session lives in the module's process (``agent.pcsc.pkcs11_process``): when that has gone, the person has to log in
again, and nobody does it for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.pcsc import pkcs10, public_keys
from agent.pcsc.pkcs11_process import CALL_SECONDS, Process
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.pcsc.public_keys import PublicKey

KEY_SECONDS: Final = 180.0
"""How long making a key may take: RSA-4096 on a slow card takes minutes."""
PAD_SECONDS: Final = 120.0
"""How long a person may take at a PIN pad: an old PIN and a new one twice, for each of which readers wait 30 s."""
_INITIALISED, _LOGIN_NEEDED, _PIN_SET = 0x400, 0x4, 0x8
_PAD, _WRITE_PROTECTED = 0x100, 0x2
_PIN_LOW, _PIN_FINAL, _PIN_LOCKED = 0x10000, 0x20000, 0x40000
_PUK_LOW, _PUK_FINAL, _PUK_LOCKED = 0x100000, 0x200000, 0x400000

Use = Literal["sign", "decrypt", "both"]
"""What a key is for; an EC key for *decrypt* agrees. ``both``: an RSA key that signs its own request, too."""
Tries = Literal["enough", "few", "last", "blocked"]
"""PKCS#11 counts no tries: it says that some were wrong, that the next is the last, or that there is none."""


@dataclass(frozen=True, slots=True)
class Token:
    """A card as its module shows it.

    Attributes:
        slot: the module's number of the place it is in.
        serial: the token's serial number.
        pin, puk: how many tries are left for user and security officer.
        pin_length: shortest and longest PIN that it takes.
        pad: a PIN is typed at the reader.
    """

    slot: int
    label: str
    serial: str
    model: str
    manufacturer: str
    initialised: bool
    pin_set: bool
    writable: bool
    pad: bool
    pin: Tries
    puk: Tries
    pin_length: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A key or certificate on a token."""

    kind: Literal["private key", "public key", "certificate"]
    key: bytes
    label: str


class Driver:
    """Cards of one module. One session is open at a time.

    PINs are bytes that the caller owns and wipes; None has the reader's pad ask.
    """

    def __init__(self, module: Path) -> None:
        self._process = Process(module)
        self._session: tuple[int, int] | None = None

    @property
    def module(self) -> str:
        """The module's file name."""
        return self._process.path.name

    async def close(self) -> None:
        """Log out, and end the module's process."""
        self._session = None
        await self._process.close()

    # --- tokens

    async def tokens(self) -> list[Token]:
        """The tokens that are there now."""
        return [_token(found) for found in await self._process.call("tokens")]

    async def find(self, serial: str) -> Token:
        """The token with a serial number.

        Raises:
            InlayError: ``pkcs11_token_missing``: there is none, or there are several.
        """
        found = [token for token in await self.tokens() if token.serial == serial]
        if len(found) != 1:
            raise InlayError("pkcs11_token_missing", module=self._process.path.name, serial=serial)
        return found[0]

    async def open(self, token: Token) -> None:
        """Open a session; one that is open is closed."""
        await self._process.call("open", slot=token.slot)
        self._session = (self._process.starts, token.slot)

    async def initialise(self, token: Token, so_pin: bytearray | None, label: str) -> None:
        """Erase a token and label it: every key and certificate on it is gone.

        Args:
            token: which.
            so_pin: the security officer's PIN (the PUK of most cards); on a blank token it is set to this.
            label: at most 32 bytes are kept.
        """
        self._session = None
        await self._process.call(
            "init_token", slot=token.slot, pin=_typed(so_pin), label=label, seconds=KEY_SECONDS
        )

    async def set_first_pin(self, so_pin: bytearray | None, pin: bytearray | None) -> None:
        """Set the user's PIN as security officer: on a new token, or to unblock it."""
        await self.verify_officer(so_pin)
        try:
            await self.set_pin_as_officer(pin)
        finally:
            await self.log_out()

    async def verify_officer(self, so_pin: bytearray | None) -> None:
        """Log in as security officer, until `log_out`.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_puk_blocked``.
        """
        await self._pin("login", so_pin, officer=True)

    async def set_pin_as_officer(self, pin: bytearray | None) -> None:
        """Set the user's PIN; the security officer is logged in."""
        await self._call("init_pin", pin=_typed(pin), seconds=PAD_SECONDS)

    async def change_officer_pin(self, old: bytearray, new: bytearray) -> None:
        """Change the security officer's PIN: logged in as such, for C_SetPIN changes the PIN of who is logged in.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_puk_blocked``; ``card_pin_form`` …
        """
        await self.verify_officer(old)
        try:
            await self._call("set_pin", old=_typed(old), new=_typed(new), seconds=PAD_SECONDS)
        finally:
            await self.log_out()

    async def log_out(self) -> None:
        """Log out; harmless when the session went with its process."""
        if self._session is not None and self._session[0] == self._process.starts:
            await self._process.call("logout")

    async def change_pin(self, old: bytearray | None, new: bytearray | None) -> None:
        """Change the user's PIN, knowing the old one."""
        await self._pin("set_pin", old, new=_typed(new))

    async def verify(self, pin: bytearray | None) -> None:
        """Log in as user.

        Raises:
            InlayError: ``pkcs11_pin_wrong`` with what is said of the tries that are left, ``card_pin_blocked``.
        """
        await self._pin("login", pin)

    # --- objects

    async def objects(self) -> list[Stored]:
        """What can be seen now; private keys after `verify` only."""
        return [
            Stored(item["kind"], bytes.fromhex(item["id"]), item["label"])
            for item in await self._call("objects")
        ]

    async def generate(self, key: bytes, label: str, algorithm: str, use: Use) -> PublicKey:
        """Make a key pair on the card.

        Args:
            key: its id.
            label: for people.
            algorithm: ``RSA-2048`` … ``RSA-4096``, ``P-256`` or ``P-384``.
            use: what it is for.

        Raises:
            InlayError: ``card_algorithm_missing``, ``card_full``, ``card_pin_needed`` …
        """
        await self._call(
            "generate",
            key=key.hex(),
            label=label,
            algorithm=algorithm,
            use=use,
            seconds=KEY_SECONDS,
            known={"algorithm": algorithm},
        )
        return await self.public_key(key)

    async def public_key(self, key: bytes) -> PublicKey:
        """The public key with an id.

        Raises:
            InlayError: ``card_key_missing``, ``card_answer_malformed``.
        """
        parts = {name: value for name, value in (await self._call("public_key", key=key.hex())).items()}
        if "n" in parts:
            return public_keys.rsa_key(bytes.fromhex(parts["n"]), bytes.fromhex(parts["e"]))
        return public_keys.ec_key(parts["curve"], bytes.fromhex(parts["point"]))

    async def request(self, key: bytes, subject: str, pin: bytearray | None = None) -> bytes:
        """A certificate request that the key has signed: PKCS#10, DER; `pin` as for `sign`."""
        public = await self.public_key(key)
        signed = pkcs10.information(subject, public)
        return pkcs10.request(signed, public, await self.sign(key, signed, pin))

    async def import_key(self, key: bytes, label: str, pkcs8: bytearray, use: Use) -> None:
        """Put a key on the card that was made elsewhere (PKCS#8, DER).

        Raises:
            InlayError: ``recovered_key_invalid``, ``card_full``, ``card_feature_missing`` …
        """
        try:
            private = serialization.load_der_private_key(pkcs8, None)
        except (ValueError, TypeError):
            raise InlayError("recovered_key_invalid", slot=key.hex().upper()[:2]) from None
        algorithm, secret, public = _attributes(private, key)
        await self._call(
            "import_key",
            key=key.hex(),
            label=label,
            algorithm=algorithm,
            use=use,
            private=secret,
            public=public,
            known={"algorithm": algorithm},
        )

    async def write_certificate(self, key: bytes, label: str, der: bytes, *, beside: bool = False) -> None:
        """Write a key's certificate, read it back, and remove the one before.

        Args:
            key: the key's id.
            label: for people.
            der: the certificate.
            beside: the one before stays, and one that is there already isn't written a second time.

        Raises:
            InlayError: ``card_check_failed``: what is read back differs; ``card_full`` …
        """
        if beside and der in await self.certificates(key):
            return
        certificate = x509.load_der_x509_certificate(der)
        await self._call(
            "write_certificate",
            key=key.hex(),
            label=label,
            der=der.hex(),
            subject=certificate.subject.public_bytes().hex(),
            issuer=certificate.issuer.public_bytes().hex(),
            serial=_integer(certificate.serial_number).hex(),
            beside=beside,
        )
        found = await self.certificates(key)
        if der not in found or (len(found) > 1 and not beside):
            raise InlayError("card_check_failed", slot=key.hex().upper()[:2])

    async def certificate(self, key: bytes) -> bytes:
        """A key's certificate, DER.

        Raises:
            InlayError: ``card_key_missing``.
        """
        return bytes.fromhex(await self._call("certificate", key=key.hex()))

    async def certificates(self, key: bytes) -> list[bytes]:
        """All certificates of a key, DER: more than one while one takes another's place."""
        return [bytes.fromhex(der) for der in await self._call("certificates", key=key.hex())]

    async def delete_certificates(self, key: bytes, ders: Iterable[bytes]) -> None:
        """Remove those certificates of a key that are among these."""
        await self._call("delete_certificates", key=key.hex(), ders=[der.hex() for der in ders])

    async def delete(self, key: bytes) -> bool:
        """Remove a key and its certificate; False when there was nothing."""
        kinds = ["certificate", "public key", "private key"]
        return bool(await self._call("delete", key=key.hex(), kinds=kinds))

    # --- use

    async def wants_pin(self, key: bytes) -> bool:
        """Whether a key wants the PIN before each use (CKA_ALWAYS_AUTHENTICATE)."""
        return bool(await self._call("wants_pin", key=key.hex()))

    async def sign(self, key: bytes, message: bytes, pin: bytearray | None = None) -> bytes:
        """Sign: PKCS#1 v1.5 with SHA-256, or ECDSA (DER) with the hash that fits the curve.

        Args:
            key: its id.
            message: what is signed.
            pin: the right one, for a key that wants it before each use; None: such a key's reader asks for it.
        """
        public = await self.public_key(key)
        return await self._signed(key, pin, *public_keys.to_sign(public, message))

    async def sign_digest(self, key: bytes, digest: bytes, pin: bytearray | None = None) -> bytes:
        """Sign a SHA-256 digest: PKCS#1 v1.5, or ECDSA (DER); `pin` as for `sign`."""
        return await self._signed(key, pin, *public_keys.digest_to_sign(await self.public_key(key), digest))

    async def _signed(self, key: bytes, pin: bytearray | None, mechanism: str, data: bytes) -> bytes:
        seconds = PAD_SECONDS if pin is None else CALL_SECONDS
        told = {"key": key.hex(), "data": data.hex(), "mechanism": mechanism}
        answer = bytes.fromhex(await self._pin("sign", pin, seconds=seconds, **told))
        return answer if mechanism == "rsa-pkcs1" else public_keys.ecdsa_der(answer)

    async def decrypt(self, key: bytes, ciphertext: bytes) -> bytes:
        """Decrypt RSAES-OAEP (SHA-256)."""
        padded = bytes.fromhex(await self._call("decrypt", key=key.hex(), data=ciphertext.hex()))
        return public_keys.oaep_message(padded, len(ciphertext))

    async def agree(self, key: bytes, point: bytes) -> bytes:
        """ECDH with an uncompressed point of the key's own curve: the shared x coordinate."""
        size = (len(point) - 1) // 2
        return bytes.fromhex(await self._call("agree", key=key.hex(), point=point.hex(), size=size))

    # --- helpers

    async def _call(self, operation: str, **arguments: Any) -> Any:
        """A call that needs the open session: one that went with its process isn't opened again by itself.

        Raises:
            InlayError: ``card_pin_needed``: the module's process was started anew since.
        """
        if self._session is not None and self._session[0] != self._process.starts:
            self._session = None
        if self._session is None:
            raise InlayError("card_pin_needed", command=operation)
        return await self._process.call(operation, **arguments)

    async def _pin(
        self, operation: str, pin: bytearray | None, *, seconds: float = PAD_SECONDS, **arguments: Any
    ) -> Any:
        name = "old" if operation == "set_pin" else "pin"
        try:
            return await self._call(operation, **{name: _typed(pin)}, **arguments, seconds=seconds)
        except InlayError as error:
            if error.code != "pkcs11_pin_wrong":
                raise
            raise await self._wrong_pin(officer=bool(arguments.get("officer"))) from None

    async def _wrong_pin(self, *, officer: bool) -> InlayError:
        """A wrong PIN, with what the token says of the tries that are left."""
        slot = self._session[1] if self._session else None
        left: Tries = "enough"
        for token in await self.tokens():
            if token.slot == slot:
                left = token.puk if officer else token.pin
        if left == "blocked":
            return InlayError("card_puk_blocked" if officer else "card_pin_blocked")
        return InlayError("pkcs11_pin_wrong", left=_LEFT[left])


_LEFT: Final[dict[str, str]] = {
    "enough": "How many tries are left, it does not say.",
    "few": "It says that few tries are left.",
    "last": "The next try is the last one.",
}


def _token(found: dict[str, Any]) -> Token:
    flags = found["flags"]
    return Token(
        slot=found["slot"],
        label=found["label"],
        serial=found["serial"],
        model=found["model"],
        manufacturer=found["manufacturer"],
        initialised=bool(flags & _INITIALISED),
        pin_set=bool(flags & _PIN_SET),
        writable=not flags & _WRITE_PROTECTED,
        pad=bool(flags & _PAD),
        pin=_tries(flags, _PIN_LOW, _PIN_FINAL, _PIN_LOCKED),
        puk=_tries(flags, _PUK_LOW, _PUK_FINAL, _PUK_LOCKED),
        pin_length=(found["pin_length"][0], found["pin_length"][1]),
    )


def _tries(flags: int, low: int, final: int, locked: int) -> Tries:
    if flags & locked:
        return "blocked"
    if flags & final:
        return "last"
    return "few" if flags & low else "enough"


def _typed(pin: bytearray | None) -> str | None:
    """A PIN as the module's process wants it; None has the reader's pad ask.

    Raises:
        InlayError: ``card_pin_form``: it is empty, which a module takes for none, and has the pad ask (v3.1, 5.6).
    """
    if pin is None:
        return None
    if not pin:
        raise InlayError("card_pin_form")
    return pin.hex()


def _integer(value: int) -> bytes:
    """A DER INTEGER (X.690, 8.3)."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(content)]) + content


def _attributes(private: object, key: bytes) -> tuple[str, dict[str, str], dict[str, str]]:
    """Algorithm, and PKCS#11 attributes of both halves of a key."""
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.private_numbers()
        public = {
            "CKA_MODULUS": _hex(numbers.public_numbers.n),
            "CKA_PUBLIC_EXPONENT": _hex(numbers.public_numbers.e),
        }
        secret = public | {
            "CKA_PRIVATE_EXPONENT": _hex(numbers.d),
            "CKA_PRIME_1": _hex(numbers.p),
            "CKA_PRIME_2": _hex(numbers.q),
            "CKA_EXPONENT_1": _hex(numbers.dmp1),
            "CKA_EXPONENT_2": _hex(numbers.dmq1),
            "CKA_COEFFICIENT": _hex(numbers.iqmp),
        }
        return f"RSA-{private.key_size}", secret, public
    if isinstance(private, ec.EllipticCurvePrivateKey):
        for curve, known in public_keys.CURVES.items():
            if known.name == private.curve.name:
                point = private.public_key().public_bytes(
                    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
                )
                public = {"CKA_EC_PARAMS": curve, "CKA_EC_POINT": (bytes([4, len(point)]) + point).hex()}
                size = (known.key_size + 7) // 8
                value = private.private_numbers().private_value.to_bytes(size, "big").hex()
                return f"P-{known.key_size}", {"CKA_EC_PARAMS": curve, "CKA_VALUE": value}, public
    raise InlayError("recovered_key_invalid", slot=key.hex().upper()[:2])


def _hex(number: int) -> str:
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()
