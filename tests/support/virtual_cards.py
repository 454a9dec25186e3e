"""Virtual cards for tests: cheap to open, filled with certificates of a throw-away CA, in a slot of vpcd."""

from __future__ import annotations

import asyncio
import datetime
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.keys_system import DeviceSecret, Level, open_device_secret
from agent.vsc import personalise, tlv
from agent.vsc.commands import RETIRED, Algorithm
from agent.vsc.state import Argon2Cost
from agent.vsc.store import CardStore
from agent.vsc.vpcd import Attachment, AttachmentState, attach
from tests.support import vpcd_slots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.vsc.card import VirtualCard
    from agent.vsc.slot_keys import PublicKey
    from agent.vsc.vpcd import Confirm

CHEAP = Argon2Cost(passes=1, memory_kib=64, lanes=1)
PIN, PUK = b"123456", b"87654321"
FACTORY_KEY = bytes.fromhex("0102030405060708" * 3)
RSA_KEYS = {0x9A: Algorithm.RSA_2048, 0x9C: Algorithm.RSA_2048, 0x9D: Algorithm.RSA_2048}
EC_KEYS = {0x9A: Algorithm.P_256, 0x9C: Algorithm.P_256, 0x9D: Algorithm.P_256}

_NAMES = {0x9A: "Authentication", 0x9C: "Signature", 0x9D: "Encryption", 0x9E: "Card"}


def store_in(folder: Path) -> CardStore:
    """A store under a device secret in a file."""
    return CardStore(folder / "cards", file_secret(folder))


def file_secret(folder: Path) -> DeviceSecret:
    """The device secret of a folder, level file."""
    return open_device_secret(Level.FILE, folder, allow_file=True)


def empty_card(store: CardStore) -> VirtualCard:
    """A card without keys, PIN and PUK as above."""
    return personalise.create(
        store,
        label="Virtual smart card of a test",
        pin=bytearray(PIN),
        puk=bytearray(PUK),
        cost=CHEAP,
    )


def full_card(store: CardStore, keys: Mapping[int, Algorithm]) -> VirtualCard:
    """An active card with a key and a certificate in each of the slots."""
    card = empty_card(store)
    issuer = Issuer()
    for slot, algorithm in keys.items():
        public = personalise.generate(card, slot, algorithm)
        personalise.write_certificate(card, slot, issuer.issue(public, slot))
    personalise.activate(card)
    return card


def prove_management(card: VirtualCard) -> None:
    """Authenticate with the card's management key, whatever it is; the card is selected."""
    algorithm = card.management_algorithm
    ask = bytes((0x00, 0x87, algorithm, 0x9B, 0x04, 0x7C, 0x02, 0x81, 0x00, 0x00))
    challenge = card.transmit(ask)[4:-2]
    proof = tlv.encode(0x7C, tlv.encode(0x82, card.answer_management_challenge(challenge)))
    assert card.transmit(bytes((0x00, 0x87, algorithm, 0x9B, len(proof))) + proof) == b"\x90\x00"


def verify(public: PublicKey, signature: bytes, message: bytes) -> None:
    """Verify what `personalise.sign` made.

    Raises:
        InvalidSignature: it isn't a signature over that message.
    """
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    elif isinstance(public, Ed25519PublicKey):
        public.verify(signature, message)
    else:
        raise TypeError(type(public).__name__)


@dataclass
class Issuer:
    """A throw-away CA."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def issue(self, public: PublicKey, slot: int) -> bytes:
        """Certify a slot's key for what the slot is for; DER."""
        now = datetime.datetime.now(datetime.UTC)
        encrypts, is_rsa = slot == 0x9D or slot in RETIRED, isinstance(public, rsa.RSAPublicKey)
        usage = x509.KeyUsage(
            digital_signature=not encrypts,
            content_commitment=slot == 0x9C,
            key_encipherment=encrypts and is_rsa,
            data_encipherment=False,
            key_agreement=encrypts and not is_rsa,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"Test {_NAMES.get(slot, f'Retired {slot:02X}')}")]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Throw-away CA")]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(usage, critical=True)
        )
        if slot == 0x9A:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def factory_card(folder: Path) -> VirtualCard:
    """A card as it comes from its maker: no keys, the factory's PUK and management key."""
    made = empty_card(store_in(folder))
    personalise.activate(made)
    assert made.transmit(bytes.fromhex("00A4040009A0000003080000100000")).endswith(b"\x90\x00")
    prove_management(made)
    assert made.transmit(bytes.fromhex("00FFFFFF1B0A9B18") + FACTORY_KEY) == b"\x90\x00"
    made.reset()
    return made


class InReader:
    """A card in a slot of vpcd while the ``with`` block runs, served by a thread of its own."""

    def __init__(self, card: VirtualCard, port: int, confirm: Confirm | None = None) -> None:
        self.states: list[AttachmentState] = []
        self._card, self._port, self._confirm = card, port, confirm
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._attachment: Attachment | None = None

    def wait_for(self, *states: AttachmentState, seconds: float = 30) -> AttachmentState:
        """Wait until the attachment is in one of these states."""
        assert self._attachment is not None
        waiting = self._attachment.wait_for(*states)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result(seconds)

    def __enter__(self) -> Self:
        """Insert the card as soon as the slot is empty, and wait until pcscd talks to it."""
        vpcd_slots.before_card(self._port)
        self._thread.start()
        self._attachment = asyncio.run_coroutine_threadsafe(self._attach(), self._loop).result(10)
        self.wait_for(AttachmentState.PRESENT, AttachmentState.FOREIGN, AttachmentState.UNCHECKED)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Remove the card."""
        assert self._attachment is not None
        asyncio.run_coroutine_threadsafe(self._attachment.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        vpcd_slots.after_card(self._port)

    async def _attach(self) -> Attachment:
        return attach(self._card, self._port, confirm=self._confirm, on_state=self.states.append)
