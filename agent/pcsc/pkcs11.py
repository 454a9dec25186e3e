"""The driver *pkcs11*: any card for which an administrator has configured its maker's module.

Keys and certificates that belong together have the same id (``CKA_ID``). Tokens, sessions and PINs are
``agent.pcsc.pkcs11_tokens``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.pcsc import pkcs10, pkcs11_attributes, public_keys
from agent.pcsc.pkcs11_process import CALL_SECONDS
from agent.pcsc.pkcs11_tokens import KEY_SECONDS, PAD_SECONDS, Sessions
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from agent.pcsc.public_keys import PublicKey

_TAKES_NONE: Final = frozenset({"0x10", "0x12", "0x13", "0x1B", "0x54", "0x68", "0x70", "0xD0", "0xD1"})
"""Answers to an import of what it can't be given so: CKR_ATTRIBUTE_READ_ONLY, _TYPE_INVALID, _VALUE_INVALID,
CKR_ACTION_PROHIBITED, CKR_FUNCTION_NOT_SUPPORTED, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_MECHANISM_INVALID,
CKR_TEMPLATE_INCOMPLETE, CKR_TEMPLATE_INCONSISTENT."""
Use = Literal["sign", "decrypt", "both"]
"""What a key is for; an EC key for *decrypt* agrees. ``both``: an RSA key that signs its own request, too."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A key or certificate on a token."""

    kind: Literal["private key", "public key", "certificate"]
    key: bytes
    label: str


class Driver(Sessions):
    """Cards of one module, with their keys and certificates."""

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

        By C_CreateObject; a token that takes no private key so gets it by C_UnwrapKey, under a key for this once.

        Raises:
            InlayError: ``recovered_key_invalid``, ``card_full``; ``card_import_missing``: it takes none in either way.
        """
        try:
            private = serialization.load_der_private_key(pkcs8, None)
        except (ValueError, TypeError):
            raise InlayError("recovered_key_invalid", slot=key.hex().upper()[:2]) from None
        algorithm, secret, public = pkcs11_attributes.of_key(private, key)
        told: dict[str, Any] = {
            "key": key.hex(),
            "label": label,
            "algorithm": algorithm,
            "use": use,
            "public": public,
            "known": {"algorithm": algorithm},
        }
        try:
            await self._call("import_key", private=secret, **told)
        except InlayError as error:
            if not _takes_none(error):
                raise
        else:
            return
        await self._unwrap(key, private, told)

    async def _unwrap(self, key: bytes, private: PrivateKeyTypes, told: dict[str, Any]) -> None:
        for mechanism in await self.unwraps_by():
            await self.delete(key)
            wrapped = pkcs11_attributes.wrapped(private, mechanism)
            try:
                await self._call("unwrap_key", mechanism=mechanism, **wrapped, **told)
            except InlayError as error:
                if not _takes_none(error) and error.code != "card_algorithm_missing":
                    raise
            else:
                return
        raise InlayError("card_import_missing")

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
            serial=pkcs11_attributes.integer(certificate.serial_number).hex(),
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


def _takes_none(error: InlayError) -> bool:
    """Whether a token has answered to an import that it takes no such key, and not that something went wrong."""
    number = error.fields.get("number")
    return error.code == "card_feature_missing" or (error.code == "pkcs11_failed" and number in _TAKES_NONE)
