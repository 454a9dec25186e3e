"""In a PKCS#11 module's process: keys made, imported and used (PKCS#11 v3.1, sections 5.7 to 5.18)."""

from __future__ import annotations

from typing import Any, Final

import PyKCS11
from PyKCS11 import PyKCS11Error

from agent.pcsc.pkcs11_child_objects import FALSE, TRUE, Objects, Template
from agent.pcsc.pkcs11_child_tokens import as_bytes, pin_bytes

_EC_PARAMS: Final = {"P-256": "06082a8648ce3d030107", "P-384": "06052b81040022"}
"""Named curves as DER object identifiers (RFC 5480, 2.1.1.1)."""
_MECHANISMS: Final = {
    "rsa-pkcs1": PyKCS11.CKM_RSA_PKCS,
    "rsa-raw": PyKCS11.CKM_RSA_X_509,
    "ecdsa": PyKCS11.CKM_ECDSA,
}

_LONGEST_SIGNATURE: Final = 1024
"""Bytes; that of RSA-8192."""


class Keys(Objects):
    """Keys that never leave the token, and what is done with them."""

    def generate(self, key: str, label: str, algorithm: str, use: str) -> None:
        """Make a key pair that never leaves the token."""
        self.call = "C_GenerateKeyPair"
        public, private = _common(key, label, public=True), _common(key, label, public=False)
        public += _uses(algorithm, use, public=True)
        private += [
            (PyKCS11.CKA_SENSITIVE, TRUE),
            (PyKCS11.CKA_EXTRACTABLE, FALSE),
            *_uses(algorithm, use, public=False),
        ]
        if algorithm.startswith("RSA-"):
            public += [
                (PyKCS11.CKA_MODULUS_BITS, int(algorithm.removeprefix("RSA-"))),
                (PyKCS11.CKA_PUBLIC_EXPONENT, (1, 0, 1)),
            ]
            mechanism = PyKCS11.CKM_RSA_PKCS_KEY_PAIR_GEN
        else:
            public.append((PyKCS11.CKA_EC_PARAMS, bytes.fromhex(_EC_PARAMS[algorithm])))
            mechanism = PyKCS11.CKM_EC_KEY_PAIR_GEN
        self._open.generateKeyPair(public, private, mecha=PyKCS11.Mechanism(mechanism, None))

    def import_key(
        self, key: str, label: str, algorithm: str, use: str, private: dict[str, str], public: dict[str, str]
    ) -> None:
        """Put a key pair on the token: names of PKCS#11 attributes to their values."""
        self.call = "C_CreateObject"
        self._open.createObject(_imported(key, label, algorithm, use, public=False) + _values(private))
        self._open.createObject(_imported(key, label, algorithm, use, public=True) + _values(public))

    def unwrap_key(
        self,
        key: str,
        label: str,
        algorithm: str,
        use: str,
        public: dict[str, str],
        wrapped: str,
        wrapping: str,
        mechanism: int,
        iv: str,
    ) -> None:
        """Put a key pair on the token whose private half is wrapped by an AES key, which is gone with the session."""
        self.call = "C_CreateObject"
        secret = self._open.createObject(
            [
                (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
                (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
                (PyKCS11.CKA_TOKEN, FALSE),
                (PyKCS11.CKA_UNWRAP, TRUE),
                (PyKCS11.CKA_VALUE, bytes.fromhex(wrapping)),
            ]
        )
        try:
            self.call = "C_UnwrapKey"
            how = PyKCS11.Mechanism(mechanism, bytes.fromhex(iv) or None)
            template = _imported(key, label, algorithm, use, public=False)
            self._open.unwrapKey(secret, bytes.fromhex(wrapped), template, how)
            self.call = "C_CreateObject"
            self._open.createObject(_imported(key, label, algorithm, use, public=True) + _values(public))
        finally:
            self._open.destroyObject(secret)

    # --- use

    def wants_pin(self, key: str) -> bool:
        """Whether a key wants the PIN before each use."""
        return self._wants_pin(self._one("private key", key))

    def sign(self, key: str, data: str, mechanism: str, pin: str | None) -> str:
        """Sign what the host has prepared; a key that wants the PIN each time gets it (PKCS#11 v3.1, section 5.6.8)."""
        handle = self._one("private key", key)
        how = PyKCS11.Mechanism(_MECHANISMS[mechanism], None)
        if not self._wants_pin(handle):
            self.call = "C_Sign"
            return bytes(self._open.sign(handle, bytes.fromhex(data), how)).hex()
        session, signature, signed = self._open, PyKCS11.ckbytelist(), PyKCS11.ckbytelist(bytes.fromhex(data))
        self._see("C_SignInit", session.lib.C_SignInit(session.session, how.to_native(), handle))
        self.call = "C_Login"
        try:
            session.login(pin_bytes(pin), PyKCS11.CKU_CONTEXT_SPECIFIC)
        except (
            PyKCS11Error
        ):  # what was begun ends by being refused; else the session takes nothing else any more
            session.lib.C_Sign(session.session, signed, PyKCS11.ckbytelist(bytes(_LONGEST_SIGNATURE)))
            raise
        for _ in ("its length", "itself"):
            self._see("C_Sign", session.lib.C_Sign(session.session, signed, signature))
        return bytes(signature).hex()

    def decrypt(self, key: str, data: str) -> str:
        """The bare RSA operation: padding is the host's work, cards know too few of them."""
        handle = self._one("private key", key)
        self.call = "C_Decrypt"
        how = PyKCS11.Mechanism(PyKCS11.CKM_RSA_X_509, None)
        return bytes(self._open.decrypt(handle, bytes.fromhex(data), how)).hex()

    def agree(self, key: str, point: str, size: int) -> str:
        """ECDH: the shared x coordinate, `size` bytes."""
        handle = self._one("private key", key)
        self.call = "C_DeriveKey"
        template = [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_GENERIC_SECRET),
            (PyKCS11.CKA_TOKEN, FALSE),
            (PyKCS11.CKA_SENSITIVE, FALSE),
            (PyKCS11.CKA_EXTRACTABLE, TRUE),
            (PyKCS11.CKA_VALUE_LEN, size),
        ]
        derive = PyKCS11.ECDH1_DERIVE_Mechanism(bytes.fromhex(point))
        secret = self._open.deriveKey(handle, template, derive)
        try:
            return as_bytes(self._attributes(secret, [PyKCS11.CKA_VALUE])[0]).hex()
        finally:
            self._open.destroyObject(secret)

    # --- helpers

    def _wants_pin(self, handle: Any) -> bool:
        """Whether a key wants the PIN before each use; a module that doesn't know the attribute has no such keys."""
        try:
            (wanted,) = self._attributes(handle, [PyKCS11.CKA_ALWAYS_AUTHENTICATE])
        except PyKCS11Error:
            return False
        return bool(wanted)


def _common(key: str, label: str, *, public: bool) -> Template:
    return [
        (PyKCS11.CKA_TOKEN, TRUE),
        (PyKCS11.CKA_PRIVATE, FALSE if public else TRUE),
        (PyKCS11.CKA_ID, bytes.fromhex(key)),
        (PyKCS11.CKA_LABEL, label),
    ]


def _imported(key: str, label: str, algorithm: str, use: str, *, public: bool) -> Template:
    """One half of a key that is made elsewhere, but for its numbers."""
    template: Template = [
        (PyKCS11.CKA_CLASS, PyKCS11.CKO_PUBLIC_KEY if public else PyKCS11.CKO_PRIVATE_KEY),
        (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_RSA if algorithm.startswith("RSA-") else PyKCS11.CKK_EC),
        *_common(key, label, public=public),
        *_uses(algorithm, use, public=public),
    ]
    if not public:
        template += [(PyKCS11.CKA_SENSITIVE, TRUE), (PyKCS11.CKA_EXTRACTABLE, FALSE)]
    return template


def _values(named: dict[str, str]) -> Template:
    return [(getattr(PyKCS11, name), bytes.fromhex(value)) for name, value in named.items()]


def _uses(algorithm: str, use: str, *, public: bool) -> Template:
    signing = [(PyKCS11.CKA_VERIFY if public else PyKCS11.CKA_SIGN, TRUE)]
    if use == "sign":
        return signing
    if algorithm.startswith("RSA-"):
        decrypting = [(PyKCS11.CKA_ENCRYPT if public else PyKCS11.CKA_DECRYPT, TRUE)]
        return decrypting + signing if use == "both" else decrypting
    return [] if public else [(PyKCS11.CKA_DERIVE, TRUE)]
