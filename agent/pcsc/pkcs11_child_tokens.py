"""In a PKCS#11 module's process: its tokens, the one session that is open, and PINs (PKCS#11 v3.1, 5.5 and 5.6)."""

from __future__ import annotations

import contextlib
from typing import Any

import PyKCS11
from PyKCS11 import PyKCS11Error, Session


class Tokens:
    """A loaded module and the one session that is open.

    Attributes:
        call: the function that is under way, for the answer when it is refused.
    """

    def __init__(self, path: str) -> None:
        self.call = "C_Initialize"
        self._lib = PyKCS11.PyKCS11Lib()
        self._lib.load(path)
        self._session: Session | None = None

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
                    "label": as_text(info.label),
                    "serial": as_text(info.serialNumber),
                    "model": as_text(info.model),
                    "manufacturer": as_text(info.manufacturerID),
                    "flags": info.flags,
                    "pin_length": [info.ulMinPinLen, info.ulMaxPinLen],
                }
            )
        return found

    def mechanisms(self, slot: int, wanted: list[int]) -> list[dict[str, int]]:
        """Which of these mechanisms the token has, with the sizes of their keys and its flags (v3.1, 3.5)."""
        self.call = "C_GetMechanismList"
        numbers = PyKCS11.LowLevel.ckulonglist()
        self._see(self.call, self._lib.lib.C_GetMechanismList(slot, numbers))
        self.call = "C_GetMechanismInfo"
        found = []
        for number in wanted:
            if number not in list(numbers):
                continue
            info = PyKCS11.LowLevel.CK_MECHANISM_INFO()
            self._see(self.call, self._lib.lib.C_GetMechanismInfo(slot, number, info))
            found.append(
                {
                    "number": number,
                    "shortest": info.ulMinKeySize,
                    "longest": info.ulMaxKeySize,
                    "flags": info.flags,
                }
            )
        return found

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
        self._open.login(pin_bytes(pin), user)

    def logout(self) -> None:
        """Log out."""
        self.call = "C_Logout"
        self._open.logout()

    # --- administration

    def init_token(self, slot: int, pin: str | None, label: str) -> None:
        """Erase the token, and give it a label; `pin` is the security officer's."""
        self.close()
        self.call = "C_InitToken"
        self._lib.initToken(slot, pin_bytes(pin), label.encode().ljust(32)[:32].decode())

    def init_pin(self, pin: str | None) -> None:
        """Set the user's PIN; the security officer is logged in."""
        self.call = "C_InitPIN"
        self._open.initPin(pin_bytes(pin))

    def set_pin(self, old: str | None, new: str | None) -> None:
        """Change the PIN of who is logged in, or of the user."""
        self.call = "C_SetPIN"
        self._open.setPin(pin_bytes(old), pin_bytes(new))

    # --- helpers

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise PyKCS11Error(PyKCS11.CKR_SESSION_HANDLE_INVALID)
        return self._session

    def _see(self, call: str, answer: int) -> None:
        self.call = call
        if answer != PyKCS11.CKR_OK:
            raise PyKCS11Error(answer)


def pin_bytes(pin: str | None) -> bytes | None:
    """A PIN out of a request; None has the reader's pad ask for it."""
    return None if pin is None else bytes.fromhex(pin)


def as_bytes(value: Any) -> bytes:
    """An attribute's value; nothing where the token has none."""
    return bytes(value or ())


def as_text(value: Any) -> str:
    """A text that PKCS#11 fills up with blanks, or a module with zeros."""
    text = value if isinstance(value, str) else as_bytes(value).decode("utf-8", "replace")
    return text.strip("\0 ")
