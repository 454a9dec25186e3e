"""A card by the driver *pkcs11* in an order's hands, with its security officer's PIN: what most people call its PUK.

It is proved by itself, once, before anything is changed on its strength. Repeating one that was right costs no try; one
whose answer never came is nobody's to repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.token_presence import UNKNOWN, TokenPresence
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.pkcs11 import Driver

_NO_OFFICER: Final = (("C_Login", "0x5"), ("C_Login", "0x103"))
"""What modules answer to the login of a security officer whom they don't know: CKR_GENERAL_ERROR (OpenSC, for PIV),
CKR_USER_TYPE_INVALID. OpenSC's sends nothing to the card then."""


class TokenOfficer(TokenPresence):
    """What the card does for who has its PUK."""

    async def prove_puk(self, puk: bytearray) -> None:
        """See that a PUK is right, before anything is changed on its strength: one try of it, sent once.

        Raises:
            InlayError: ``pkcs11_puk_wrong``, ``card_puk_blocked``; ``pkcs11_unanswered``: not known whether it was.
        """
        token = await self.look()
        if token.puk == "blocked":
            raise InlayError("card_puk_blocked")
        if not token.initialised:
            return  # it has none yet: the first one is what it is told
        driver, was_right = await self._present(), False
        try:
            await driver.verify_officer(puk)
            was_right = True
            await driver.log_out()
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
                if not was_right:
                    raise InlayError("pkcs11_unanswered", module=driver.module, call="C_Login") from None
                return
            raise _as_puk(error) from None

    async def change_puk(self, old: bytearray, new: bytearray) -> None:
        """Change a PUK that was proved: sent once.

        Raises:
            InlayError: ``card_pin_form``, ``card_feature_missing``; any of `UNKNOWN`: it is the old one or the new one.
        """
        await self.look()
        driver = await self._present()
        try:
            await driver.change_officer_pin(old, new)
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
            raise _as_puk(error) from None

    async def initialise(self, puk: bytearray, label: str | None) -> None:
        """Erase the token. The PUK was proved, or is the first one: repeating it costs no try.

        Args:
            puk: it.
            label: what it is called from then on; None: as it was.

        Raises:
            InlayError: ``pcsc_sharing``: another program has it open.
        """

        async def initialise(driver: Driver) -> None:
            if self._token is None:
                raise InlayError("pcsc_card_removed")
            await driver.initialise(self._token, puk, label or self._token.label)

        try:
            await self.run(initialise)
        except InlayError as error:
            raise _as_puk(error) from None
        await self.let_go()  # the module shows it anew

    async def set_pin(self, puk: bytearray, pin: bytearray) -> None:
        """Set the PIN by a PUK that was proved, and log in with it from then on.

        Raises:
            InlayError: ``card_pin_form``.
        """
        try:
            await self.run(lambda driver: driver.set_first_pin(puk, pin))
        except InlayError as error:
            raise _as_puk(error) from None
        self._pin, self._logs_in = pin, True
        await self.let_go()

    async def unblock_at_pad(self) -> None:
        """Set a PIN by the PUK, both typed at the reader: sent once.

        Raises:
            InlayError: ``pkcs11_puk_wrong``, ``card_puk_blocked``, ``card_pin_form``; any of `UNKNOWN`: it is the old
                one or the new one.
        """
        await self.look()
        driver = await self._present()
        try:
            await driver.verify_officer(None)
            await driver.set_pin_as_officer(None)
        except InlayError as error:
            raise _as_puk(error) from None
        finally:
            await self.let_go()  # logged out, and the module shows it anew


def _as_puk(error: InlayError) -> InlayError:
    """What a module answers to a wrong PIN, when it was the PUK."""
    if error.code == "pkcs11_pin_wrong":
        return InlayError("pkcs11_puk_wrong", **error.fields)
    if (
        error.code == "pkcs11_failed"
        and (error.fields.get("call"), error.fields.get("number")) in _NO_OFFICER
    ):
        return InlayError("pkcs11_no_officer")
    return InlayError("card_puk_blocked") if error.code == "card_pin_blocked" else error
