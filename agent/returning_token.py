"""A card by the driver *pkcs11* in an order's hands: it may be pulled out, and its module may crash, at any moment.

What was interrupted is done again once the same card is there and its module runs anew: making and importing a key and
writing are the same for the order whether they happened once or twice. A PIN or PUK goes to the card again only when it
was right before; one whose answer never came is nobody's to repeat but the person's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent import token_keys, token_pad
from agent.certificates import key_in
from agent.token_search import HasModule, find_token
from protocol.errors import DecodeError, InlayError
from protocol.messages import CertificateRequest, Step

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.pkcs11 import Driver, Token
    from agent.returning_card import PhysicalCard
    from protocol.messages import Algorithm, Challenge

T = TypeVar("T")

AWAY: Final = frozenset(
    {"pcsc_card_removed", "pkcs11_device", "pkcs11_module_crashed", "pkcs11_token_missing", "card_pin_needed"}
)
"""What a card comes back from: pulled out, its module's process gone and with it the session."""
UNKNOWN: Final = AWAY | {"pkcs11_module_hung"}
"""After these nobody knows whether the card has done what it was told."""
_IN_A_ROW: Final = 4
"""So often one and the same step may be interrupted before it is given up by its cause."""
_NO_OFFICER: Final = (("C_Login", "0x5"), ("C_Login", "0x103"))
"""What modules answer to the login of a security officer whom they don't know: CKR_GENERAL_ERROR (OpenSC, for PIV),
CKR_USER_TYPE_INVALID. OpenSC's sends nothing to the card then."""
_CLOSING: Final = (
    "Without it the card stays half done, and has to be finished by starting again from the page."
)


class ReturningToken:
    """See ``agent.order_ports.KeyedCard``; close it in the end."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: PhysicalCard,
        total: tuple[int, int],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; the card is waited for when it is needed.

        Args:
            context: the order, whose window says what to do.
            readers: where the card is.
            ordered: which card.
            total: steps done when the card is waited for, and of how many.
            labels: key reference to what people call the key.
        """
        self._context, self._readers, self._ordered, self._total = context, readers, ordered, total
        self._labels = labels or {}
        self._driver: Driver | None = None
        self._token: Token | None = None
        self._pin: bytearray | None = None
        self._logs_in = False
        self._wrong = ""
        self._was_there = False
        self._ids: dict[str, bytes] = {}
        self._made: set[str] = set()
        self._written: dict[str, bytes] = {}
        self.changed = False
        """the point of no return was passed: who gives up waiting for the card leaves it half done"""
        self.may_be_blank = False
        """the order initialises it: it need not have been"""

    # --- the card itself

    async def look(self) -> Token:
        """The token as it is now, waited for where it isn't there."""
        self._token = await self.run(self._seen)
        return self._token

    async def run(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        """Do something with the card, logged in once a PIN was right; again after it was away.

        Raises:
            InlayError: what the work raises; any of `AWAY` when it was interrupted again and again.
        """
        for attempt in range(_IN_A_ROW):
            try:
                return await work(await self._present())
            except InlayError as error:
                if error.code == "pkcs11_pin_wrong" and self._typed_at_reader:
                    self._wrong = error.happened  # the person may try again; modules log out after it
                elif error.code not in AWAY:
                    raise
                if attempt == _IN_A_ROW - 1:
                    raise
                await self.let_go()
        raise AssertionError

    async def verify(self, pin: bytearray | None) -> None:
        """Log in with a PIN that a person types: one try, sent once. When it was right it is used from then on.

        Args:
            pin: the caller's, and not wiped before `close`; None: typed at the reader, whenever it is needed.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_pin_blocked``; any of `UNKNOWN`: a try may have been spent.
        """
        await self.look()  # one that went while the person typed is waited for before
        driver = await self._present()
        try:
            await driver.verify(pin)
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
            raise
        self._pin, self._logs_in = pin, True

    async def let_go(self) -> None:
        """Log out, and end the module's process: what it still knows of a card that went is worth nothing."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    async def close(self) -> None:
        """The order's work on it is over."""
        self._pin, self._logs_in = None, False
        await self.let_go()

    async def change_pin(self, old: bytearray | None, new: bytearray | None) -> None:
        """Change the PIN: sent once; None, both of them, where it is typed at the reader.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_pin_form``; any of `UNKNOWN`: it is the old one or the new one.
        """
        await self.look()
        driver = await self._present()
        try:
            await driver.change_pin(old, new)
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
            raise

    # --- as security officer

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

    # --- keys and certificates

    async def generate(self, slot: str, algorithm: Algorithm) -> None:
        """Make a key beside the one that is there."""
        key = self._new(slot)

        async def generate(driver: Driver) -> None:
            await driver.delete(key)  # half made, when this is the second time
            await driver.generate(
                key, self._label(slot), algorithm.value, token_keys.use_of(slot, algorithm.value)
            )

        await self.run(generate)

    async def import_key(self, slot: str, pkcs8: bytearray) -> None:
        """Put a key that was made elsewhere on the card, beside the one that is there."""
        key = self._new(slot)

        async def import_key(driver: Driver) -> None:
            await driver.delete(key)
            try:
                # the algorithm doesn't matter: a key that comes from elsewhere signs no request
                await driver.import_key(key, self._label(slot), pkcs8, token_keys.use_of(slot, ""))
            except InlayError as error:
                if error.code != "recovered_key_invalid":
                    raise
                raise InlayError("recovered_key_invalid", slot=slot) from None

        await self.run(import_key)

    async def request(self, slot: str, subject: str, pin: bytearray, *, signs: bool) -> CertificateRequest:
        """Ask for a certificate."""

        async def request(driver: Driver) -> CertificateRequest:
            key = await self._id(driver, slot)
            if not signs:
                return CertificateRequest(slot=slot, public_key=_spki(await driver.public_key(key)))
            try:
                requested = self._using(driver, key, lambda: driver.request(key, subject, self._pin))
                return CertificateRequest(slot=slot, csr=await requested)
            except ValueError:
                raise DecodeError("order_malformed", f"$.parameters.keys.{slot}.subject") from None

        return await self.run(request)

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a certificate beside the one that is there, and read it back."""

        async def write(driver: Driver) -> None:
            key = await self._id(driver, slot)
            certified = key_in(der)
            if certified is None or _spki(certified) != _spki(await driver.public_key(key)):
                raise InlayError("card_check_failed", slot=slot)
            self._written[slot] = der
            await driver.write_certificate(key, self._label(slot), der, beside=True)

        await self.run(write)

    async def sign(self, slot: str, message: bytes, pin: bytearray) -> bytes:
        """Sign a message."""

        async def sign(driver: Driver) -> bytes:
            key = await self._id(driver, slot)
            return await self._using(driver, key, lambda: driver.sign(key, message, self._pin))

        return await self.run(sign)

    async def sign_digest(self, slot: str, digest: bytes) -> bytes:
        """Sign a SHA-256 digest."""

        async def sign(driver: Driver) -> bytes:
            key = await self._id(driver, slot)
            return await self._using(driver, key, lambda: driver.sign_digest(key, digest, self._pin))

        return await self.run(sign)

    async def certificate(self, slot: str) -> bytes:
        """The certificate of a key that the card has; nothing when it has none."""

        async def read(driver: Driver) -> bytes:
            found = await driver.certificates(await self._id(driver, slot))
            return found[0] if found else b""

        return await self.run(read)

    async def answer(self, slot: str, challenge: Challenge, pin: bytearray) -> bytes:
        """The secret behind a challenge."""
        wrong = DecodeError("params_invalid", f"$.certificates.{slot}.challenge")

        async def answer(driver: Driver) -> bytes:
            key = await self._id(driver, slot)
            public = await driver.public_key(key)
            match challenge.ciphertext, challenge.ephemeral:
                case bytes() as ciphertext, None if isinstance(public, rsa.RSAPublicKey):
                    if len(ciphertext) != public.key_size // 8:
                        raise wrong
                    return await driver.decrypt(key, ciphertext)
                case None, bytes() as point if not isinstance(public, rsa.RSAPublicKey):
                    return await driver.agree(key, point)
                case _:
                    raise wrong

        return await self.run(answer)

    # --- what is old, and what is taken back

    async def remove_old(self) -> None:
        """Remove the keys and certificates in whose place the order has put others."""
        for slot, der in self._written.items():

            async def remove(driver: Driver, slot: str = slot, der: bytes = der) -> None:
                await token_keys.remove_others(driver, slot, await self._id(driver, slot), der)

            await self.run(remove)

    async def take_back(self) -> None:
        """Remove what the order has put beside the old; nobody is waited for, and what can't be removed stays.

        It does no harm: the next order for the same keys removes it.
        """
        driver = self._driver
        if driver is None:
            return
        try:
            for slot in self._made:
                await driver.delete(self._ids[slot])
            for slot in self._written.keys() - self._made:
                await driver.delete_certificates(self._ids[slot], [self._written[slot]])
        except InlayError:
            await self.let_go()

    # --- coming and going

    async def _present(self) -> Driver:
        """The module with the session open; waits for the card where there is none.

        Raises:
            InlayError: ``pkcs11_…``, ``timeout``: it never came.
        """
        if self._driver is None:
            driver, token = await self._found()
            try:
                await self._take(driver, token)
            except BaseException:
                await driver.close()
                raise
            self._driver, self._token, self._was_there = driver, token, True
        return self._driver

    async def _take(self, driver: Driver, token: Token) -> None:
        await self._show(
            f"The card “{self._ordered.label}” is there. Leave it in the reader.", can_cancel=not self.changed
        )
        if not token.initialised:
            if not self.may_be_blank:
                raise InlayError("pkcs11_not_initialised")
            return
        await driver.open(token)
        if not self._logs_in:
            return
        if not self._typed_at_reader:
            await driver.verify(self._pin)  # it was right before
        else:
            self._token, wrong, self._wrong = token, self._wrong, ""
            seen, verify = partial(self._seen, driver), partial(driver.verify, None)
            await token_pad.until_typed(self._ask, seen, verify, wrong)

    async def _found(self) -> tuple[Driver, Token]:
        """Wait for the card, no longer than the order lasts."""
        seconds = self._context.order.resume_within
        search = await self._readers.search(HasModule())
        waiting = find_token(
            search, self._ordered.guid, self._ordered.label, self._say_seen, back=self._was_there
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._context.guard(waiting)
        except TimeoutError:
            raise InlayError("timeout", seconds=seconds) from None
        finally:
            await search.close()

    async def _say_seen(self, text: str) -> None:
        """Say what is seen while the card is waited for, which may be given up at any time."""
        await self._show(f"{text} {_CLOSING}" if self.changed else text, can_cancel=True)

    async def _show(self, text: str, *, can_cancel: bool) -> None:
        done, total = self._total
        await self._context.window.show_progress(Step.CARD.value, text, done, total, can_cancel=can_cancel)

    # --- helpers

    async def _seen(self, driver: Driver) -> Token:
        """The token as it is now.

        Raises:
            InlayError: ``pcsc_card_removed``.
        """
        for token in await driver.tokens():
            if self._token is not None and token.slot == self._token.slot:
                return token
        raise InlayError("pcsc_card_removed")

    async def _using(self, driver: Driver, key: bytes, use: Callable[[], Awaitable[T]]) -> T:
        """Use a key; where it wants the PIN for that, and the reader asks for it, the window says so."""
        if self._typed_at_reader and await driver.wants_pin(key):
            await self._ask(token_pad.question(await self._seen(driver)))
        return await use()

    @property
    def _typed_at_reader(self) -> bool:
        return self._logs_in and self._pin is None

    async def _ask(self, text: str) -> None:
        await self._show(text, can_cancel=not self.changed)

    def _new(self, slot: str) -> bytes:
        self._ids[slot] = token_keys.new_id(slot, self._context.order.jti)
        self._made.add(slot)
        return self._ids[slot]

    async def _id(self, driver: Driver, slot: str) -> bytes:
        if slot not in self._ids:
            self._ids[slot] = await token_keys.present_id(driver, slot)
        return self._ids[slot]

    def _label(self, slot: str) -> str:
        return self._labels.get(slot, slot)


def _as_puk(error: InlayError) -> InlayError:
    """What a module answers to a wrong PIN, when it was the PUK."""
    if error.code == "pkcs11_pin_wrong":
        return InlayError("pkcs11_puk_wrong", left=error.fields.get("left", ""))
    if (
        error.code == "pkcs11_failed"
        and (error.fields.get("call"), error.fields.get("number")) in _NO_OFFICER
    ):
        return InlayError("pkcs11_no_officer")
    return InlayError("card_puk_blocked") if error.code == "card_pin_blocked" else error


def _spki(public: object) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    der: bytes = public.public_bytes(*form)  # type: ignore[attr-defined]
    return der
