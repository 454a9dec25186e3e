"""Who encodes a new card beside Inlay, and how: yubikit in this process, and programs, one call for each command.

Each of them goes through the steps that it has, `bench.encode_steps`, on a card of its own; what isn't its work, such
as a CA's, is done between them. Each program is called as sparingly as it allows.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from ykman.piv import generate_ccc, generate_chuid
from yubikit.piv import KEY_TYPE, MANAGEMENT_KEY_TYPE, OBJECT_ID, SLOT, PivSession

from bench.encode_steps import BACK, FIND, IDENTITY, KEY, KEYS, NEW_KEY, PIN, PROOFS, PUK, REQUESTS, WRITE
from tests.support.card_checks import module
from tests.support.virtual_cards import Issuer

if TYPE_CHECKING:
    from bench.one_card import OneCard

SLOTS: Final = {"9a": 0x9A, "9c": 0x9C, "9d": 0x9D}
SPKI: Final = serialization.PublicFormat.SubjectPublicKeyInfo
_SLOTS: Final = [SLOT(slot) for slot in SLOTS.values()]
_SIGNING: Final = ("9a", "9c")
_PROCESS_SECONDS: Final = 60
_YKMAN: Final = str(Path(sys.executable).parent / "ykman")

Step = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Given:
    """What the card comes with, and what it gets."""

    key: bytes
    puk: str
    new_key: bytes
    new_puk: str
    new_pin: str


class Client(ABC):
    """One of them.

    Attributes:
        name: what the tables call it.
        cant: steps that it doesn't have, and why.
        encoded: its steps need a card that is encoded.
        starts: started so, it does nothing with a card; None: it is no process.
    """

    name: ClassVar[str]
    cant: ClassVar[dict[str, str]] = {}
    encoded: ClassVar[bool] = False
    starts: ClassVar[list[str] | None] = None

    @abstractmethod
    def steps(self, place: OneCard) -> Iterator[Step]:
        """Its steps; what is done between two of them isn't counted."""


class Yubikit(Client):
    """Yubico's own library, in one session."""

    name = "yubikit"

    def __init__(self, given: Given) -> None:
        """Give the card these."""
        self._given, self._issuer = given, Issuer()

    def steps(self, place: OneCard) -> Iterator[Step]:
        """See `Client`."""
        given, opened = self._given, list[PivSession]()
        with contextlib.ExitStack() as stack:
            yield FIND, lambda: opened.append(stack.enter_context(place.yubikit()))
            (session,) = opened
            yield KEY, lambda: session.authenticate(given.key)
            yield PUK, lambda: session.change_puk(given.puk, given.new_puk)
            yield PIN, lambda: session.unblock_pin(given.new_puk, given.new_pin)
            yield IDENTITY, lambda: _give_identity(session)
            keys = dict[SLOT, ec.EllipticCurvePublicKey]()
            yield KEYS, lambda: keys.update((slot, _generate(session, slot)) for slot in _SLOTS)
            yield REQUESTS, lambda: _sign(session, given.new_pin)
            issued = {slot: self._issue(slot, public) for slot, public in keys.items()}
            yield WRITE, lambda: _write(session, issued)
            new_key = MANAGEMENT_KEY_TYPE.TDES, given.new_key
            yield NEW_KEY, lambda: session.set_management_key(*new_key)
            yield BACK, lambda: [session.get_certificate(slot) for slot in _SLOTS]
            yield PROOFS, lambda: _prove(session, given.new_pin)

    def _issue(self, slot: SLOT, public: ec.EllipticCurvePublicKey) -> x509.Certificate:
        return x509.load_der_x509_certificate(self._issuer.issue(public, slot))


def _give_identity(session: PivSession) -> None:
    session.put_object(OBJECT_ID.CHUID, generate_chuid())
    session.put_object(OBJECT_ID.CAPABILITY, generate_ccc())


def _generate(session: PivSession, slot: SLOT) -> ec.EllipticCurvePublicKey:
    return cast(ec.EllipticCurvePublicKey, session.generate_key(slot, KEY_TYPE.ECCP256))


def _write(session: PivSession, issued: dict[SLOT, x509.Certificate]) -> None:
    for slot, certificate in issued.items():
        session.put_certificate(slot, certificate)


def _sign(session: PivSession, pin: str) -> None:
    for slot in (SLOT.AUTHENTICATION, SLOT.SIGNATURE):
        session.verify_pin(pin)
        session.sign(slot, KEY_TYPE.ECCP256, b"request", hashes.SHA256())


def _prove(session: PivSession, pin: str) -> None:
    _sign(session, pin)
    session.verify_pin(pin)
    session.calculate_secret(SLOT.KEY_MANAGEMENT, ec.generate_private_key(ec.SECP256R1()).public_key())


class Ykman(Client):
    """Yubico's program for YubiKeys, with a reader's name."""

    name = "ykman"
    cant: ClassVar = {PROOFS: "it signs nothing but requests and self-signed certificates"}
    starts: ClassVar = [_YKMAN, "--version"]

    def __init__(self, given: Given, folder: Path) -> None:
        """Give the card these, with files in a folder."""
        self._given, self._folder, self._issuer = given, folder, Issuer()

    def steps(self, place: OneCard) -> Iterator[Step]:
        """See `Client`."""
        given, folder = self._given, self._folder
        call, key = [_YKMAN, "--reader", place.reader, "piv"], ["-m", given.key.hex()]
        access = [*call, "access"]
        yield PUK, runs([*access, "change-puk", "-p", given.puk, "-n", given.new_puk])
        yield PIN, runs([*access, "unblock-pin", "-p", given.new_puk, "-n", given.new_pin])
        yield IDENTITY, runs(*([*call, "objects", "generate", *key, name] for name in ("chuid", "ccc")))
        generate = [*call, "keys", "generate", *key, "-a", "eccp256"]
        yield KEYS, runs(*([*generate, slot, str(folder / slot)] for slot in SLOTS))
        request = [*call, "certificates", "request", "-P", given.new_pin, "-s", "CN=Alex Example"]
        asked = [(slot, str(folder / slot), str(folder / "csr")) for slot in _SIGNING]
        yield REQUESTS, runs(*([*request, *item] for item in asked))
        write = [*call, "certificates", "import", *key, "--no-update-chuid"]
        yield WRITE, runs(*([*write, slot, certified(self._issuer, folder, slot)] for slot in SLOTS))
        setting = [*access, "change-management-key", *key, "-n", given.new_key.hex(), "-a", "tdes", "-f"]
        yield NEW_KEY, runs(setting)
        yield BACK, runs(*([*call, "certificates", "export", slot, str(folder / "out")] for slot in SLOTS))


class YubicoPivTool(Client):
    """Yubico's program for PIV; Debian's, which knows 3DES alone for the management key."""

    name = "yubico-piv-tool"
    cant: ClassVar = {
        REQUESTS: "it fails before its first command with OpenSSL 3",
        PROOFS: "as requests",
    }
    starts: ClassVar = ["yubico-piv-tool", "--version"]

    def __init__(self, given: Given, folder: Path) -> None:
        """Give the card these, with files in a folder."""
        self._given, self._folder, self._issuer = given, folder, Issuer()

    def steps(self, place: OneCard) -> Iterator[Step]:
        """See `Client`."""
        given, folder = self._given, self._folder
        call = ["yubico-piv-tool", "-r", place.reader]
        managed = [*call, f"-k{given.key.hex()}"]
        yield PUK, runs([*call, "-a", "change-puk", "-P", given.puk, "-N", given.new_puk])
        yield PIN, runs([*call, "-a", "unblock-pin", "-P", given.new_puk, "-N", given.new_pin])
        yield IDENTITY, runs([*managed, "-a", "set-chuid", "-a", "set-ccc"])
        generate = [*managed, "-a", "generate", "-A", "ECCP256"]
        yield KEYS, runs(*([*generate, "-s", slot, "-o", str(folder / slot)] for slot in SLOTS))
        write = [*managed, "-a", "import-certificate"]
        files = [(slot, certified(self._issuer, folder, slot)) for slot in SLOTS]
        yield WRITE, runs(*([*write, "-s", slot, "-i", file] for slot, file in files))
        yield NEW_KEY, runs([*managed, "-a", "set-mgm-key", "-n", given.new_key.hex()])
        read = [*call, "-a", "read-certificate", "-o", str(folder / "out")]
        yield BACK, runs(*([*read, "-s", slot] for slot in SLOTS))


class Pkcs11Tool(Client):
    """OpenSC's program for its module, on a card that was encoded: it has no management key.

    It changes the PIN by the old one: its way by the PUK ends with CKR_OPERATION_NOT_INITIALIZED.
    """

    name = "pkcs11-tool"
    cant: ClassVar = dict.fromkeys(
        (PUK, IDENTITY, KEYS, REQUESTS, WRITE, NEW_KEY), "OpenSC's module takes no management key"
    )
    encoded = True
    starts: ClassVar = ["pkcs11-tool", "--module", "/dev/null", "--version"]

    def __init__(self, given: Given, folder: Path) -> None:
        """The card has these, and there are files in a folder."""
        self._given, self._folder = given, folder

    def steps(self, place: OneCard) -> Iterator[Step]:
        """See `Client`."""
        given, out = self._given, str(self._folder / "out")
        call = ["pkcs11-tool", "--module", str(module())]
        login, told = [*call, "--login", "--pin", given.new_pin], str(self._folder / "digest")
        (self._folder / "digest").write_bytes(bytes(32))
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        (self._folder / "other").write_bytes(other.public_bytes(Encoding.DER, SPKI))
        yield (
            PIN,
            runs([*login, "--change-pin", "--new-pin", given.new_pin]),
        )  # not by the PUK, as it should be
        read = [*call, "--read-object", "--type", "cert", "-o", out]
        yield BACK, runs(*([*read, "--id", number] for number in ("01", "02", "03")))
        sign = [*login, "--sign", "--mechanism", "ECDSA", "--input-file", told, "--output-file", out]
        derive = ["--derive", "--mechanism", "ECDH1-DERIVE", "--input-file", str(self._folder / "other")]
        proofs = [[*sign, "--id", number] for number in ("01", "02")]
        yield PROOFS, runs(*proofs, [*login, *derive, "--id", "03", "--output-file", out])


def certified(issuer: Issuer, folder: Path, slot: str) -> str:
    """A file with a certificate for the key that a program has put into a file of the slot's name."""
    public = serialization.load_pem_public_key((folder / slot).read_bytes())
    issued = issuer.issue(cast(ec.EllipticCurvePublicKey, public), SLOTS[slot])
    certificate = x509.load_der_x509_certificate(issued)
    file = folder / f"{slot}.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return str(file)


def runs(*calls: list[str]) -> Calls:
    """Processes, one after the other."""
    return Calls(calls)


@dataclass(frozen=True)
class Calls:
    """Processes, one after the other."""

    calls: tuple[list[str], ...]

    def __call__(self) -> None:
        """Run them."""
        for argv in self.calls:
            run(argv)


def run(argv: list[str], *, check: bool = True) -> None:
    """One process.

    Raises:
        RuntimeError: it has failed.
    """
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_PROCESS_SECONDS, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")
