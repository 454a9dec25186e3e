"""What the table of clients and operations is made of: one card, in one reader, and rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vsc import personalise
from agent.vsc.commands import Algorithm
from tests.interop.card.certified import Root
from tests.support.virtual_cards import PIN, PUK, empty_card, prove_management

if TYPE_CHECKING:
    from agent.vsc.card import VirtualCard
    from agent.vsc.store import CardStore
    from tests.support.pcscd import PrivatePcscd

MODULE: Final = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
PIN_TEXT, PUK_TEXT = PIN.decode(), PUK.decode()
MANAGEMENT_KEY: Final = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")
"""3DES: yubico-piv-tool 2.2 knows no other kind."""

KEYS: Final = {
    0x9A: Algorithm.RSA_2048,
    0x9C: Algorithm.P_384,
    0x9D: Algorithm.RSA_3072,
    0x9E: Algorithm.P_256,
    0x82: Algorithm.P_256,
    0x83: Algorithm.P_384,
    0x84: Algorithm.RSA_2048,
}
"""Keys with certificates. OpenSC 0.23 has no use for RSA-4096 and Ed25519; yubikit uses those in other slots."""


@dataclass
class Client:
    """The card in its reader, and a home for programs that use it.

    Attributes:
        card: the card.
        pcscd: the pcscd that has it.
        root: issuer of its certificates.
        home: the programs' HOME.
    """

    card: VirtualCard
    pcscd: PrivatePcscd
    root: Root
    home: Path
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Nobody's settings but those of this home."""
        self.env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "GNUPGHOME": str(self.home / "gnupg"),
        }

    @property
    def reader(self) -> str:
        """Name of the reader."""
        return self.pcscd.readers[0]

    def run(
        self, *argv: str, fails: bool = False, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program, demand its success (or its failure); what it printed on both channels."""
        done = self.pcscd.run(argv, env={**self.env, **(env or {})}, stdin=stdin)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{argv}: {done.returncode}\n{said}"
        return said

    def path(self, name: str) -> Path:
        """A file in the home."""
        return self.home / name

    def write(self, name: str, content: bytes) -> Path:
        """Make a file in the home."""
        path = self.path(name)
        path.write_bytes(content)
        return path

    def certificate(self, slot: int) -> x509.Certificate:
        """A slot's certificate."""
        return x509.load_der_x509_certificate(personalise.read_certificate(self.card, slot))

    def public_pem(self, slot: int) -> Path:
        """A slot's public key as a file for openssl."""
        public = personalise.public_key(self.card, slot)
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return self.write(f"public-{slot:02x}.pem", pem)


@dataclass(frozen=True)
class Operation:
    """A row of the table.

    Attributes:
        client: the program.
        name: what it does with the card.
        run: does it, and checks the result by other means.
        cannot: why it can't, when it can't; `run` then checks that it still can't.
    """

    client: str
    name: str
    run: Callable[[Client], None]
    cannot: str = ""


def make_card(store: CardStore, root: Root) -> VirtualCard:
    """The card of the table: keys and certificates as above, the management key as an administrator set it."""
    card = empty_card(store)
    for slot, algorithm in KEYS.items():
        public = personalise.generate(card, slot, algorithm)
        personalise.write_certificate(card, slot, root.issue(public, slot))
    prove_management(card)
    assert card.transmit(bytes.fromhex("00FFFFFF1B039B18") + MANAGEMENT_KEY) == b"\x90\x00"
    personalise.activate(card)
    return card
