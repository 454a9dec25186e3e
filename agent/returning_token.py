"""A card by the driver *pkcs11* in an order's hands, with its keys and certificates.

Making and importing a key and writing are the same for the order whether they happened once or twice: so what was
interrupted is done again, see ``agent.token_presence``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent import token_keys, token_pad
from agent.certificates import key_in
from agent.token_officer import TokenOfficer
from protocol.errors import DecodeError, InlayError
from protocol.messages import CertificateRequest

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.pkcs11 import Driver
    from agent.returning_card import PhysicalCard
    from protocol.messages import Algorithm, Challenge

T = TypeVar("T")


class ReturningToken(TokenOfficer):
    """See ``agent.order_ports.KeyedCard``; close it in the end."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: PhysicalCard,
        total: tuple[int, int],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare, as `TokenPresence`.

        Args:
            context: the order.
            readers: where the card is.
            ordered: which card.
            total: steps done when the card is waited for, and of how many.
            labels: key reference to what people call the key.
        """
        super().__init__(context, readers, ordered, total)
        self._labels = labels or {}
        self._ids: dict[str, bytes] = {}
        self._made: set[str] = set()
        self._written: dict[str, bytes] = {}
        self._stays: set[str] = set()

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

    async def can_make(self, algorithm: Algorithm) -> bool:
        """Whether the card says that it makes such keys, before anything is changed for one."""

        async def ask(driver: Driver) -> bool:
            return await driver.generates(await self._seen(driver), algorithm.value)

        return await self.run(ask)

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
            if slot not in self._written and der in await driver.certificates(key):
                self._stays.add(slot)  # it was there before: not this order's to take back
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

    # --- earlier keys

    async def adopt(self, slot: str, der: bytes) -> bool:
        """Use, for a retired reference, the very key of a certificate that the card has already; whether it has.

        The newest earlier key has the first reference, so that each moves on by one when another comes.
        """
        public = key_in(der)

        async def find(driver: Driver) -> bytes | None:
            if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
                return None
            return await token_keys.id_of(driver, token_keys.RETIRED, public)

        found = await self.run(find)
        if found is None or found in self._ids.values():
            return False
        self._ids[slot] = found
        return True

    async def forget(self, slot: str) -> None:
        """Go on without a key that the card hasn't taken: nothing of it stays that this order has brought."""
        key, made = self._ids.pop(slot, None), slot in self._made
        der, stays = self._written.pop(slot, None), slot in self._stays
        self._made.discard(slot)
        self._stays.discard(slot)

        async def remove(driver: Driver) -> None:
            if made and key is not None:
                await driver.delete(key)
            elif key is not None and der is not None and not stays:
                await driver.delete_certificates(key, [der])

        await self.run(remove)

    async def clear(self, slots: Collection[str]) -> None:
        """Remove the keys and certificates that orders before have brought for these references."""
        await self.run(lambda driver: token_keys.remove_all(driver, slots))

    # --- what is old, and what is taken back

    async def remove_old(self) -> None:
        """Remove the keys and certificates in whose place the order has put others."""
        for slot, der in self._written.items():

            async def remove(driver: Driver, slot: str = slot, der: bytes = der) -> None:
                used = self._ids.values()
                await token_keys.remove_others(driver, slot, await self._id(driver, slot), der, used)

            await self.run(remove)
        await self.run(lambda driver: token_keys.remove_torn(driver, token_keys.RETIRED, self._ids.values()))

    async def take_back(self) -> None:
        """Remove what the order has put beside the old; nobody is waited for, and what can't be removed stays.

        It does no harm: the next order for the same keys removes it.
        """
        try:
            driver = await self._still_there()
            if driver is None:
                return
            for slot in self._made:
                await driver.delete(self._ids[slot])
            for slot in self._written.keys() - self._made - self._stays:
                await driver.delete_certificates(self._ids[slot], [self._written[slot]])
        except InlayError:
            await self.let_go()

    # --- helpers

    async def _using(self, driver: Driver, key: bytes, use: Callable[[], Awaitable[T]]) -> T:
        """Use a key; where it wants the PIN for that, and the reader asks for it, the window says so."""
        if self._typed_at_reader and await driver.wants_pin(key):
            await self._ask(token_pad.question(await self._seen(driver)))
        return await use()

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


def _spki(public: object) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    der: bytes = public.public_bytes(*form)  # type: ignore[attr-defined]
    return der
