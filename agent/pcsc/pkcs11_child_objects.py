"""In a PKCS#11 module's process: what is on a token, and its certificates (PKCS#11 v3.1, section 5.7)."""

from __future__ import annotations

from typing import Any, Final

import PyKCS11

from agent.pcsc.pkcs11_child_tokens import Tokens, as_bytes, as_text

TRUE, FALSE = PyKCS11.CK_TRUE, PyKCS11.CK_FALSE
_CLASSES: Final = {
    "private key": PyKCS11.CKO_PRIVATE_KEY,
    "public key": PyKCS11.CKO_PUBLIC_KEY,
    "certificate": PyKCS11.CKO_CERTIFICATE,
}

Template = list[tuple[int, Any]]


class NotThereError(Exception):
    """There is no such object on the token, or more than one."""


class Objects(Tokens):
    """Keys and certificates that belong together have the same id (``CKA_ID``), hexadecimal here."""

    def objects(self) -> list[dict[str, Any]]:
        """Keys and certificates that can be seen now."""
        found = []
        for kind, number in _CLASSES.items():
            for handle in self._find([(PyKCS11.CKA_CLASS, number)]):
                key, label = self._attributes(handle, [PyKCS11.CKA_ID, PyKCS11.CKA_LABEL])
                found.append({"kind": kind, "id": as_bytes(key).hex(), "label": as_text(label)})
        return found

    def certificate(self, key: str) -> str:
        """The certificate with an id, DER."""
        handle = self._one("certificate", key)
        return self._value(handle)

    def certificates(self, key: str) -> list[str]:
        """All certificates with an id, DER."""
        return [self._value(handle) for handle in self._find(_named("certificate", key))]

    def public_key(self, key: str) -> dict[str, str]:
        """The public key with an id: ``n`` and ``e``, or ``curve`` and ``point``."""
        handle = self._one("public key", key)
        (kind,) = self._attributes(handle, [PyKCS11.CKA_KEY_TYPE])
        if kind == PyKCS11.CKK_RSA:
            n, e = self._attributes(handle, [PyKCS11.CKA_MODULUS, PyKCS11.CKA_PUBLIC_EXPONENT])
            return {"n": as_bytes(n).hex(), "e": as_bytes(e).hex()}
        curve, point = self._attributes(handle, [PyKCS11.CKA_EC_PARAMS, PyKCS11.CKA_EC_POINT])
        return {"curve": as_bytes(curve).hex(), "point": as_bytes(point).hex()}

    def write_certificate(
        self, key: str, label: str, der: str, subject: str, issuer: str, serial: str, *, beside: bool = False
    ) -> None:
        """Write a certificate; those with the same id go after it is there, or stay with ``beside``."""
        old = [] if beside else self._find(_named("certificate", key))
        self.call = "C_CreateObject"
        self._open.createObject(
            [
                (PyKCS11.CKA_CLASS, PyKCS11.CKO_CERTIFICATE),
                (PyKCS11.CKA_CERTIFICATE_TYPE, PyKCS11.CKC_X_509),
                (PyKCS11.CKA_TOKEN, TRUE),
                (PyKCS11.CKA_PRIVATE, FALSE),
                (PyKCS11.CKA_ID, bytes.fromhex(key)),
                (PyKCS11.CKA_LABEL, label),
                (PyKCS11.CKA_SUBJECT, bytes.fromhex(subject)),
                (PyKCS11.CKA_ISSUER, bytes.fromhex(issuer)),
                (PyKCS11.CKA_SERIAL_NUMBER, bytes.fromhex(serial)),
                (PyKCS11.CKA_VALUE, bytes.fromhex(der)),
            ]
        )
        self._destroy(old)

    def delete_certificates(self, key: str, ders: list[str]) -> int:
        """Delete those of an id's certificates that are among these; how many objects those were."""
        found = [handle for handle in self._find(_named("certificate", key)) if self._value(handle) in ders]
        self._destroy(found)
        return len(found)

    def delete(self, key: str, kinds: list[str]) -> int:
        """Delete what has an id, of some kinds; how many objects those were."""
        found = [handle for kind in kinds for handle in self._find(_named(kind, key))]
        self._destroy(found)
        return len(found)

    # --- helpers

    def _find(self, template: Template) -> list[Any]:
        self.call = "C_FindObjects"
        return list(self._open.findObjects(template))

    def _one(self, kind: str, key: str) -> Any:
        found = self._find(_named(kind, key))
        if len(found) != 1:
            raise NotThereError
        return found[0]

    def _value(self, handle: Any) -> str:
        return as_bytes(self._attributes(handle, [PyKCS11.CKA_VALUE])[0]).hex()

    def _attributes(self, handle: Any, names: list[int]) -> list[Any]:
        self.call = "C_GetAttributeValue"
        return list(self._open.getAttributeValue(handle, names))

    def _destroy(self, handles: list[Any]) -> None:
        self.call = "C_DestroyObject"
        for handle in handles:
            self._open.destroyObject(handle)


def _named(kind: str, key: str) -> Template:
    return [(PyKCS11.CKA_CLASS, _CLASSES[kind]), (PyKCS11.CKA_ID, bytes.fromhex(key))]
