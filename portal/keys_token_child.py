"""The process that loads the PKCS#11 module of the portal's token: its maker's code runs here and nowhere else.

It does one call at a time, for ``portal.keys_token_process``, and decides nothing. Frames on both pipes: four bytes of
length, then JSON; bytes are hexadecimal. It ends with the portal, or at the end of its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import PyKCS11
from PyKCS11 import PyKCS11Error, Session

MAX_FRAME: Final = 1 << 20
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_TRUE, _FALSE = PyKCS11.CK_TRUE, PyKCS11.CK_FALSE
_CURVES: Final = {"P-256": "06082a8648ce3d030107", "P-384": "06052b81040022"}
"""Named curves as DER object identifiers (RFC 5480, 2.1.1.1)."""
_TAG_BITS: Final = 128

Template = list[tuple[int, Any]]


class NotThereError(Exception):
    """There is no such token or key, or more than one."""


class Token:
    """A loaded module and the session on its token.

    Attributes:
        call: the function that is under way, for the answer when it is refused.
    """

    def __init__(self, path: str) -> None:
        self.call = "C_Initialize"
        self._lib = PyKCS11.PyKCS11Lib()
        self._lib.load(path)
        self._session: Session | None = None

    def open(self, label: str, pin: str) -> None:
        """Open a session on the token with that label, and log in."""
        self.call = "C_GetSlotList"
        slots = self._lib.getSlotList(tokenPresent=True)
        found = [slot for slot in slots if self._lib.getTokenInfo(slot).label.strip("\0 ") == label]
        if len(found) != 1:
            raise NotThereError
        self.call = "C_OpenSession"
        self._session = self._lib.openSession(found[0], PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
        self.call = "C_Login"
        self._session.login(bytes.fromhex(pin))

    def labels(self) -> list[str]:
        """Labels of all private and secret keys."""
        found: list[str] = []
        for kind in (PyKCS11.CKO_PRIVATE_KEY, PyKCS11.CKO_SECRET_KEY):
            for handle in self._find([(PyKCS11.CKA_CLASS, kind)]):
                found += [str(item) for item in self._open.getAttributeValue(handle, [PyKCS11.CKA_LABEL])]
        return found

    def point(self, label: str) -> str:
        """The public point of an EC key, as the token keeps it."""
        handle = self._one(PyKCS11.CKO_PUBLIC_KEY, label)
        self.call = "C_GetAttributeValue"
        return bytes(self._open.getAttributeValue(handle, [PyKCS11.CKA_EC_POINT])[0]).hex()

    def make_ec(self, label: str, curve: str, use: str) -> None:
        """Make an EC key pair that never leaves the token."""
        self.call = "C_GenerateKeyPair"
        parameters = (PyKCS11.CKA_EC_PARAMS, bytes.fromhex(_CURVES[curve]))
        public = [*_common(label, private=False), *_use(use, private=False), parameters]
        private = [*_common(label, private=True), *_use(use, private=True), *_KEPT]
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_EC_KEY_PAIR_GEN, None)
        self._open.generateKeyPair(public, private, mecha=mechanism)

    def make_aes(self, label: str) -> None:
        """Make an AES-256 key that never leaves the token."""
        self.call = "C_GenerateKey"
        size = (PyKCS11.CKA_VALUE_LEN, 32)
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_GEN, None)
        self._open.generateKey([*_aes(label), *_KEPT, size], mecha=mechanism)

    def put_ec(self, label: str, curve: str, use: str, point: str, value: str) -> None:
        """Put an EC key pair from elsewhere on the token."""
        self.call = "C_CreateObject"
        kind = [
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_EC),
            (PyKCS11.CKA_EC_PARAMS, bytes.fromhex(_CURVES[curve])),
        ]
        private = [*_common(label, private=True), *_use(use, private=True), *_KEPT, *kind]
        private += [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), (PyKCS11.CKA_VALUE, bytes.fromhex(value))]
        self._open.createObject(private)
        public = [*_common(label, private=False), *_use(use, private=False), *kind]
        public += [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_PUBLIC_KEY),
            (PyKCS11.CKA_EC_POINT, bytes.fromhex(point)),
        ]
        self._open.createObject(public)

    def put_aes(self, label: str, value: str) -> None:
        """Put an AES-256 key from elsewhere on the token."""
        self.call = "C_CreateObject"
        self._open.createObject([*_aes(label), *_KEPT, (PyKCS11.CKA_VALUE, bytes.fromhex(value))])

    def delete(self, label: str) -> None:
        """Delete a key with its public half."""
        found = self._find([(PyKCS11.CKA_LABEL, label)])
        self.call = "C_DestroyObject"
        for handle in found:
            self._open.destroyObject(handle)

    def sign(self, label: str, digest: str) -> str:
        """ECDSA over a digest: r and s, one after the other."""
        handle = self._one(PyKCS11.CKO_PRIVATE_KEY, label)
        self.call = "C_Sign"
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)
        return bytes(self._open.sign(handle, bytes.fromhex(digest), mechanism)).hex()

    def agree(self, label: str, point: str) -> str:
        """ECDH on P-256: the shared x coordinate."""
        handle = self._one(PyKCS11.CKO_PRIVATE_KEY, label)
        self.call = "C_DeriveKey"
        template = [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_GENERIC_SECRET),
            (PyKCS11.CKA_TOKEN, _FALSE),
            (PyKCS11.CKA_SENSITIVE, _FALSE),
            (PyKCS11.CKA_EXTRACTABLE, _TRUE),
            (PyKCS11.CKA_VALUE_LEN, 32),
        ]
        derive = PyKCS11.ECDH1_DERIVE_Mechanism(bytes.fromhex(point))
        secret = self._open.deriveKey(handle, template, derive)
        try:
            return bytes(self._open.getAttributeValue(secret, [PyKCS11.CKA_VALUE])[0]).hex()
        finally:
            self._open.destroyObject(secret)

    def seal(self, label: str, nonce: str, associated: str, data: str) -> str:
        """AES-256-GCM: ciphertext and tag."""
        handle = self._one(PyKCS11.CKO_SECRET_KEY, label)
        self.call = "C_Encrypt"
        return bytes(self._open.encrypt(handle, bytes.fromhex(data), _gcm(nonce, associated))).hex()

    def unseal(self, label: str, nonce: str, associated: str, data: str) -> str:
        """AES-256-GCM, the other way."""
        handle = self._one(PyKCS11.CKO_SECRET_KEY, label)
        self.call = "C_Decrypt"
        return bytes(self._open.decrypt(handle, bytes.fromhex(data), _gcm(nonce, associated))).hex()

    OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
        function.__name__: function
        for function in (
            open,
            labels,
            point,
            make_ec,
            make_aes,
            put_ec,
            put_aes,
            delete,
            sign,
            agree,
            seal,
            unseal,
        )
    }

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise NotThereError
        return self._session

    def _find(self, template: Template) -> list[Any]:
        self.call = "C_FindObjects"
        return list(self._open.findObjects(template))

    def _one(self, kind: int, label: str) -> Any:
        found = self._find([(PyKCS11.CKA_CLASS, kind), (PyKCS11.CKA_LABEL, label)])
        if len(found) != 1:
            raise NotThereError
        return found[0]


_KEPT: Final[Template] = [(PyKCS11.CKA_SENSITIVE, _TRUE), (PyKCS11.CKA_EXTRACTABLE, _FALSE)]


def _common(label: str, *, private: bool) -> Template:
    return [
        (PyKCS11.CKA_TOKEN, _TRUE),
        (PyKCS11.CKA_PRIVATE, _TRUE if private else _FALSE),
        (PyKCS11.CKA_LABEL, label),
        (PyKCS11.CKA_ID, label.encode()),
    ]


def _use(use: str, *, private: bool) -> Template:
    if use == "sign":
        return [(PyKCS11.CKA_SIGN if private else PyKCS11.CKA_VERIFY, _TRUE)]
    return [(PyKCS11.CKA_DERIVE, _TRUE)] if private else []


def _aes(label: str) -> Template:
    return [
        *_common(label, private=True),
        (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
        (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
        (PyKCS11.CKA_ENCRYPT, _TRUE),
        (PyKCS11.CKA_DECRYPT, _TRUE),
    ]


def _gcm(nonce: str, associated: str) -> Any:
    return PyKCS11.AES_GCM_Mechanism(bytes.fromhex(nonce), bytes.fromhex(associated), _TAG_BITS)


# --- the process ------------------------------------------------------------------------------------------


def _answer(token: Token, request: dict[str, Any]) -> dict[str, Any]:
    try:
        operation = Token.OPERATIONS[request["operation"]]
        return {"result": operation(token, **request["arguments"])}
    except PyKCS11Error as refusal:
        return {"refused": int(refusal.value), "call": token.call}
    except NotThereError:
        return {"missing": True, "call": token.call}


def _read(pipe: BinaryIO) -> dict[str, Any] | None:
    head = pipe.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME:
        return None
    frame: dict[str, Any] = json.loads(pipe.read(length))
    return frame


def _write(pipe: BinaryIO, frame: dict[str, Any]) -> None:
    text = json.dumps(frame).encode()
    pipe.write(len(text).to_bytes(4, "big") + text)
    pipe.flush()


def _alone() -> None:
    """End with the portal, and leave nothing of PIN or keys to core files or to other programs of this user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) or prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        sys.exit(3)


def main() -> int:
    """Serve one module, whose path is the only argument.

    Returns:
        Exit status: 0 at the end of the input, 2 when the module can't be loaded.
    """
    _alone()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # what a module prints must not be taken for an answer
        os.dup2(nothing, number)
    try:
        token = Token(sys.argv[1])
    except PyKCS11Error as refusal:
        _write(answers, {"refused": int(refusal.value), "call": "load"})
        return 2
    _write(answers, {"result": "loaded"})
    while (request := _read(requests)) is not None:
        _write(answers, _answer(token, request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
