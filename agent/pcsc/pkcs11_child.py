"""The process that loads a vendor's PKCS#11 module: the one place where foreign code runs in a card's name.

A module may crash, hang, or print what it likes: all of that stays in here. The agent (``agent.pcsc.pkcs11``) starts
this process for one module, sends one call at a time, gives each a deadline, and starts another process when this one
is gone. Nothing is decided here: a call is a PKCS#11 call or a short row of them, and what the module refuses goes back
as the number of its answer (PKCS#11 v3.1, section 5.1.6) and the name of the function.

Frames on both pipes: four bytes of length, then JSON; bytes are hexadecimal. It ends with the agent, or at the end of
its input.
"""

from __future__ import annotations

import contextlib
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
_EC_PARAMS: Final = {"P-256": "06082a8648ce3d030107", "P-384": "06052b81040022"}
"""Named curves as DER object identifiers (RFC 5480, 2.1.1.1)."""
_TRUE, _FALSE = PyKCS11.CK_TRUE, PyKCS11.CK_FALSE
_CLASSES: Final = {
    "private key": PyKCS11.CKO_PRIVATE_KEY,
    "public key": PyKCS11.CKO_PUBLIC_KEY,
    "certificate": PyKCS11.CKO_CERTIFICATE,
}
_MECHANISMS: Final = {
    "rsa-pkcs1": PyKCS11.CKM_RSA_PKCS,
    "rsa-raw": PyKCS11.CKM_RSA_X_509,
    "ecdsa": PyKCS11.CKM_ECDSA,
}

Template = list[tuple[int, Any]]
Arguments = dict[str, Any]


class NotThereError(Exception):
    """There is no such object on the token, or more than one."""


class Module:
    """A loaded module and the one session that is open.

    Attributes:
        call: the function that is under way, for the answer when it is refused.
    """

    def __init__(self, path: str) -> None:
        self.call = "C_Initialize"
        self._lib = PyKCS11.PyKCS11Lib()
        self._lib.load(path)
        self._session: Session | None = None

    def run(self, name: str, arguments: Arguments) -> Any:
        """Carry one call out."""
        operation: Callable[..., Any] = self.OPERATIONS[name]
        return operation(self, **arguments)

    # --- tokens and sessions

    def tokens(self) -> list[dict[str, Any]]:
        """All slots with a token in them."""
        self.call = "C_GetSlotList"
        found = []
        for slot in self._lib.getSlotList(tokenPresent=True):
            self.call = "C_GetTokenInfo"
            info = self._lib.getTokenInfo(slot)
            found.append(
                {
                    "slot": slot,
                    "label": _text(info.label),
                    "serial": _text(info.serialNumber),
                    "model": _text(info.model),
                    "manufacturer": _text(info.manufacturerID),
                    "flags": info.flags,
                    "pin_length": [info.ulMinPinLen, info.ulMaxPinLen],
                }
            )
        return found

    def mechanisms(self, slot: int) -> list[int]:
        """What the token can do: numbers of mechanisms."""
        self.call = "C_GetMechanismList"
        numbers = []
        for item in self._lib.getMechanismList(slot):
            number = item if isinstance(item, int) else PyKCS11.CKM.get(item)
            if isinstance(number, int):
                numbers.append(number)
        return numbers

    def open(self, slot: int) -> None:
        """Open a session for reading and writing; an open one is closed first."""
        self.close()
        self.call = "C_OpenSession"
        self._session = self._lib.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)

    def close(self) -> None:
        """Log out and close the session, if one is open."""
        session, self._session = self._session, None
        if session is None:
            return
        for leave in (session.logout, session.closeSession):
            with contextlib.suppress(PyKCS11Error):  # nobody was logged in, or the token has gone
                leave()

    def login(self, pin: str | None, *, officer: bool = False) -> None:
        """Log in; without a PIN the reader's pad asks for it."""
        self.call = "C_Login"
        user = PyKCS11.CKU_SO if officer else PyKCS11.CKU_USER
        self._open.login(_pin(pin), user)

    def logout(self) -> None:
        """Log out."""
        self.call = "C_Logout"
        self._open.logout()

    # --- administration

    def init_token(self, slot: int, pin: str | None, label: str) -> None:
        """Erase the token, and give it a label; `pin` is the security officer's."""
        self.close()
        self.call = "C_InitToken"
        self._lib.initToken(slot, _pin(pin), label.encode().ljust(32)[:32].decode())

    def init_pin(self, pin: str | None) -> None:
        """Set the user's PIN; the security officer is logged in."""
        self.call = "C_InitPIN"
        self._open.initPin(_pin(pin))

    def set_pin(self, old: str | None, new: str | None) -> None:
        """Change the PIN of who is logged in, or of the user."""
        self.call = "C_SetPIN"
        self._open.setPin(_pin(old), _pin(new))

    # --- objects

    def objects(self) -> list[dict[str, Any]]:
        """Keys and certificates that can be seen now."""
        found = []
        for kind, number in _CLASSES.items():
            for handle in self._find([(PyKCS11.CKA_CLASS, number)]):
                key, label = self._attributes(handle, [PyKCS11.CKA_ID, PyKCS11.CKA_LABEL])
                found.append({"kind": kind, "id": _bytes(key).hex(), "label": _text(label)})
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
            return {"n": _bytes(n).hex(), "e": _bytes(e).hex()}
        curve, point = self._attributes(handle, [PyKCS11.CKA_EC_PARAMS, PyKCS11.CKA_EC_POINT])
        return {"curve": _bytes(curve).hex(), "point": _bytes(point).hex()}

    def generate(self, key: str, label: str, algorithm: str, use: str) -> None:
        """Make a key pair that never leaves the token."""
        self.call = "C_GenerateKeyPair"
        public, private = _common(key, label, public=True), _common(key, label, public=False)
        public += _uses(algorithm, use, public=True)
        private += [
            (PyKCS11.CKA_SENSITIVE, _TRUE),
            (PyKCS11.CKA_EXTRACTABLE, _FALSE),
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
        kind = PyKCS11.CKK_RSA if algorithm.startswith("RSA-") else PyKCS11.CKK_EC
        parts = ((False, PyKCS11.CKO_PRIVATE_KEY, private), (True, PyKCS11.CKO_PUBLIC_KEY, public))
        for is_public, number, values in parts:
            template = [
                (PyKCS11.CKA_CLASS, number),
                (PyKCS11.CKA_KEY_TYPE, kind),
                *_common(key, label, public=is_public),
                *_uses(algorithm, use, public=is_public),
                *((getattr(PyKCS11, name), bytes.fromhex(value)) for name, value in values.items()),
            ]
            if not is_public:
                template += [(PyKCS11.CKA_SENSITIVE, _TRUE), (PyKCS11.CKA_EXTRACTABLE, _FALSE)]
            self._open.createObject(template)

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
                (PyKCS11.CKA_TOKEN, _TRUE),
                (PyKCS11.CKA_PRIVATE, _FALSE),
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

    # --- use

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
        session.login(_pin(pin), PyKCS11.CKU_CONTEXT_SPECIFIC)
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
            (PyKCS11.CKA_TOKEN, _FALSE),
            (PyKCS11.CKA_SENSITIVE, _FALSE),
            (PyKCS11.CKA_EXTRACTABLE, _TRUE),
            (PyKCS11.CKA_VALUE_LEN, size),
        ]
        derive = PyKCS11.ECDH1_DERIVE_Mechanism(bytes.fromhex(point))
        secret = self._open.deriveKey(handle, template, derive)
        try:
            return _bytes(self._attributes(secret, [PyKCS11.CKA_VALUE])[0]).hex()
        finally:
            self._open.destroyObject(secret)

    OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
        function.__name__: function
        for function in (
            tokens,
            mechanisms,
            open,
            close,
            login,
            logout,
            init_token,
            init_pin,
            set_pin,
            objects,
            certificate,
            certificates,
            public_key,
            generate,
            import_key,
            write_certificate,
            delete_certificates,
            delete,
            sign,
            decrypt,
            agree,
        )
    }

    # --- helpers

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise PyKCS11Error(PyKCS11.CKR_SESSION_HANDLE_INVALID)
        return self._session

    def _find(self, template: Template) -> list[Any]:
        self.call = "C_FindObjects"
        return list(self._open.findObjects(template))

    def _one(self, kind: str, key: str) -> Any:
        found = self._find(_named(kind, key))
        if len(found) != 1:
            raise NotThereError
        return found[0]

    def _value(self, handle: Any) -> str:
        return _bytes(self._attributes(handle, [PyKCS11.CKA_VALUE])[0]).hex()

    def _attributes(self, handle: Any, names: list[int]) -> list[Any]:
        self.call = "C_GetAttributeValue"
        return list(self._open.getAttributeValue(handle, names))

    def _wants_pin(self, handle: Any) -> bool:
        """Whether a key wants the PIN before each use; a module that doesn't know the attribute has no such keys."""
        try:
            (wanted,) = self._attributes(handle, [PyKCS11.CKA_ALWAYS_AUTHENTICATE])
        except PyKCS11Error:
            return False
        return bool(wanted)

    def _see(self, call: str, answer: int) -> None:
        self.call = call
        if answer != PyKCS11.CKR_OK:
            raise PyKCS11Error(answer)

    def _destroy(self, handles: list[Any]) -> None:
        self.call = "C_DestroyObject"
        for handle in handles:
            self._open.destroyObject(handle)


def _named(kind: str, key: str) -> Template:
    return [(PyKCS11.CKA_CLASS, _CLASSES[kind]), (PyKCS11.CKA_ID, bytes.fromhex(key))]


def _common(key: str, label: str, *, public: bool) -> Template:
    return [
        (PyKCS11.CKA_TOKEN, _TRUE),
        (PyKCS11.CKA_PRIVATE, _FALSE if public else _TRUE),
        (PyKCS11.CKA_ID, bytes.fromhex(key)),
        (PyKCS11.CKA_LABEL, label),
    ]


def _uses(algorithm: str, use: str, *, public: bool) -> Template:
    signing = [(PyKCS11.CKA_VERIFY if public else PyKCS11.CKA_SIGN, _TRUE)]
    if use == "sign":
        return signing
    if algorithm.startswith("RSA-"):
        decrypting = [(PyKCS11.CKA_ENCRYPT if public else PyKCS11.CKA_DECRYPT, _TRUE)]
        return decrypting + signing if use == "both" else decrypting
    return [] if public else [(PyKCS11.CKA_DERIVE, _TRUE)]


def _pin(pin: str | None) -> bytes | None:
    return None if pin is None else bytes.fromhex(pin)


def _bytes(value: Any) -> bytes:
    return bytes(value or ())


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else _bytes(value).decode("utf-8", "replace")
    return text.strip("\0 ")


# --- the process ------------------------------------------------------------------------------------------


def _answer(module: Module, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": module.run(request["operation"], request["arguments"])}
    except PyKCS11Error as refusal:
        return {"refused": int(refusal.value), "call": module.call}
    except NotThereError:
        return {"missing": True, "call": module.call}


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
    """End with the agent, and leave nothing of a PIN to core files or to other programs of this user."""
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
        module = Module(sys.argv[1])
    except PyKCS11Error as refusal:
        _write(answers, {"refused": int(refusal.value), "call": "load"})
        return 2
    _write(answers, {"result": "loaded"})
    while (request := _read(requests)) is not None:
        _write(answers, _answer(module, request))
    module.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
