"""The driver *pkcs11*: tokens, the one session that is open, and PINs.

A token is what PKCS#11 calls a card. A session lives in the module's process (``agent.pcsc.pkcs11_process``): when that
has gone, the person has to log in again, and nobody does it for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agent.pcsc.pkcs11_process import Process
from protocol.errors import InlayError

if TYPE_CHECKING:
    from pathlib import Path

KEY_SECONDS: Final = 180.0
"""How long making a key may take: RSA-4096 on a slow card takes minutes."""
PAD_SECONDS: Final = 120.0
"""How long a person may take at a PIN pad: an old PIN and a new one twice, for each of which readers wait 30 s."""
_INITIALISED, _LOGIN_NEEDED, _PIN_SET = 0x400, 0x4, 0x8
_PAD, _WRITE_PROTECTED = 0x100, 0x2
_PIN_LOW, _PIN_FINAL, _PIN_LOCKED = 0x10000, 0x20000, 0x40000
_PUK_LOW, _PUK_FINAL, _PUK_LOCKED = 0x100000, 0x200000, 0x400000

_RSA_MAKING, _EC_MAKING = 0x0, 0x1040
"""CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_EC_KEY_PAIR_GEN."""
_MAKES_PAIRS, _UNWRAPS = 0x10000, 0x40000
"""CKF_GENERATE_KEY_PAIR, CKF_UNWRAP."""
AES_KEY_WRAP_KWP, AES_CBC_PAD, AES_KEY_WRAP_PAD = 0x210B, 0x1085, 0x210A
UNWRAPPING: Final = (AES_KEY_WRAP_KWP, AES_CBC_PAD, AES_KEY_WRAP_PAD)
"""The last one is RFC 5649 with most modules, as the first one is by name."""

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


class Sessions:
    """A module's tokens. One session is open at a time.

    PINs are bytes that the caller owns and wipes; None has the reader's pad ask.
    """

    def __init__(self, module: Path) -> None:
        self._process = Process(module)
        self._session: tuple[int, int] | None = None

    @property
    def module(self) -> str:
        """The module's file name."""
        return self._process.path.name

    @property
    def lost(self) -> bool:
        """Whether the session that was open went with its process."""
        return self._session is not None and (
            not self._process.runs or self._session[0] != self._process.starts
        )

    async def close(self) -> None:
        """Log out, and end the module's process."""
        self._session = None
        await self._process.close()

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

    async def generates(self, token: Token, algorithm: str) -> bool:
        """Whether a token says that it makes such keys (C_GetMechanismInfo, v3.1, section 5.5.6)."""
        number = _RSA_MAKING if algorithm.startswith("RSA-") else _EC_MAKING
        size = int(algorithm.rpartition("-")[2])
        for found in await self._process.call("mechanisms", slot=token.slot, wanted=[number]):
            fits = found["shortest"] <= size <= found["longest"] or found["longest"] == 0
            return bool(found["flags"] & _MAKES_PAIRS) and fits
        return False

    async def unwraps_by(self) -> list[int]:
        """By which AES mechanisms the open token says that it unwraps keys, the best defined first."""
        slot = self._session[1] if self._session else 0
        found = await self._process.call("mechanisms", slot=slot, wanted=list(UNWRAPPING))
        return [each["number"] for each in found if each["flags"] & _UNWRAPS]

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
        return InlayError("pkcs11_pin_wrong", **_LEFT[left])


_LEFT: Final[dict[str, dict[str, str]]] = {"enough": {}, "few": {"left": "few"}, "last": {"left": "one"}}
"""What its flags say of the tries that are left: never how many there are (PKCS#11 v3.1, section 3.3)."""


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
