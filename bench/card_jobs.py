"""The same job on the same card in the same reader by Inlay and by other programs: how many APDUs, and how long.

``python -m bench.card_jobs [--rounds N]``. One simulated card (it answers at once; every APDU is counted in it) in one
reader of a real pcscd; every client does every job in turn with all others, and the card is put back in between,
outside the time. Beside Inlay's driver and an order's whole work on the card (the look at it, its identity, the tries)
stand yubikit and, as processes, ykman, pkcs11-tool (OpenSC) and yubico-piv-tool, where they have the job. The measure
is a replay of the driver's own APDUs by pyscard: what that takes is the card's and pcscd's time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from yubikit.core.smartcard import ApduError
from yubikit.piv import KEY_TYPE, SLOT, PivSession

from agent.pcsc import piv_objects, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from bench.one_card import OneCard, Runs, one_card
from tests.cards.profiles import P_256, PROFILES, TDES
from tests.cards.simulated import PIN, PUK, factory_key
from tests.support.card_checks import module
from tests.support.card_in_hand import card_in_hand
from tests.support.card_jobs import BY_DRIVER, DIGEST, NEW_PIN, CardFacts, as_order, by_driver
from tests.support.virtual_cards import Issuer

ROUNDS: Final = 20
_PROCESSES_EVERY: Final = 4
"""Processes take part in every fourth round: most of their time is their start."""
_CARD: Final = dataclasses.replace(
    PROFILES[1], name="3DES, which yubico-piv-tool knows alone", management=(TDES,)
)
_GUID: Final = "d6" * 16
_KEY: Final = factory_key(TDES)
_OLD, _NEW, _UNBLOCKER = PIN.decode(), NEW_PIN.decode(), PUK.decode()
_PROCESS_SECONDS: Final = 60
_DRIVER: Final = "Inlay's driver"
_ORDER: Final = "Inlay, in an order"
_REPLAY: Final = "replay of Inlay's driver"
_OWN: Final = frozenset({_DRIVER, _ORDER, _REPLAY})
_MORE: Final = {
    "read card": "it asks what the card can do, and reads retired slots that the key history doesn't name"
}
"""Jobs for which the driver may need more APDUs than others, and why."""
_PROGRAMS: Final = ("ykman", "pkcs11-tool", "yubico-piv-tool")

Client = Callable[[], object]


def _read_all(session: PivSession) -> None:
    session.get_pin_metadata()
    session.get_puk_metadata()
    for slot in SLOT:
        with contextlib.suppress(ApduError):  # none there
            session.get_certificate(slot)


def _sign(session: PivSession) -> None:
    session.verify_pin(_OLD)
    prehashed = Prehashed(hashes.SHA256())
    session.sign(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256, DIGEST, prehashed)  # type: ignore[arg-type]  # it takes it


def _generate(session: PivSession) -> None:
    session.authenticate(_KEY)
    session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)


def _write(certificate: x509.Certificate, session: PivSession) -> None:
    session.authenticate(_KEY)
    session.put_certificate(SLOT.AUTHENTICATION, certificate)


def _yubikit_jobs(der: bytes) -> dict[str, Callable[[PivSession], object]]:
    return {
        "change PIN": lambda session: session.change_pin(_OLD, _NEW),
        "unblock by PUK": lambda session: session.unblock_pin(_UNBLOCKER, _NEW),
        "verify PIN": lambda session: session.verify_pin(_OLD),
        "write certificate": partial(_write, x509.load_der_x509_certificate(der)),
        "read certificate": lambda session: session.get_certificate(SLOT.AUTHENTICATION),
        "read card": _read_all,
        "generate P-256": _generate,
        "sign by P-256": _sign,
    }


def _commands(reader: str, folder: Path) -> dict[str, dict[str, list[str]]]:
    """By program and job, what is run; a program has only the jobs that it can do."""
    ykman = [str(Path(sys.executable).parent / "ykman"), "--reader", reader, "piv"]
    opensc = ["pkcs11-tool", "--module", str(module())]
    tool = ["yubico-piv-tool", "-r", reader]
    pem, digest, out = (str(folder / name) for name in ("certificate.pem", "digest", "out"))
    key = _KEY.hex()
    signing = ["--sign", "--mechanism", "ECDSA", "--id", "01", "--input-file", digest, "--output-file", out]
    return {
        "ykman": {
            "change PIN": [*ykman, "access", "change-pin", "-P", _OLD, "-n", _NEW],
            "unblock by PUK": [*ykman, "access", "unblock-pin", "-p", _UNBLOCKER, "-n", _NEW],
            "write certificate": [
                *ykman,
                "certificates",
                "import",
                "-m",
                key,
                "--no-update-chuid",
                "9a",
                pem,
            ],
            "read certificate": [*ykman, "certificates", "export", "9a", out],
            "read card": [*ykman, "info"],
            "generate P-256": [*ykman, "keys", "generate", "-m", key, "-a", "eccp256", "9a", out],
        },
        "pkcs11-tool": {
            "change PIN": [*opensc, "--login", "--pin", _OLD, "--change-pin", "--new-pin", _NEW],
            "verify PIN": [*opensc, "--login", "--pin", _OLD, "--list-objects", "--type", "privkey"],
            "read certificate": [*opensc, "--read-object", "--type", "cert", "--id", "01", "-o", out],
            "read card": [*opensc, "--list-objects"],
            "sign by P-256": [*opensc, "--login", "--pin", _OLD, *signing],
        },
        "yubico-piv-tool": {
            "change PIN": [*tool, "-a", "change-pin", "-P", _OLD, "-N", _NEW],
            "unblock by PUK": [*tool, "-a", "unblock-pin", "-P", _UNBLOCKER, "-N", _NEW],
            "verify PIN": [*tool, "-a", "verify-pin", "-P", _OLD],
            "write certificate": [*tool, f"-k{key}", "-a", "import-certificate", "-s", "9a", "-i", pem],
            "read certificate": [*tool, "-a", "read-certificate", "-s", "9a", "-o", out],
            "read card": [*tool, "-a", "status"],
            "generate P-256": [*tool, f"-k{key}", "-a", "generate", "-s", "9a", "-A", "ECCP256", "-o", out],
        },
    }


_STARTS: Final = {
    "ykman": [str(Path(sys.executable).parent / "ykman"), "--version"],
    "pkcs11-tool": [
        "pkcs11-tool",
        "--module",
        "/dev/null",
        "--version",
    ],  # it has none, and ends with its help
    "yubico-piv-tool": ["yubico-piv-tool", "--version"],
}


class Jobs:
    """All clients with the one card."""

    def __init__(self, place: OneCard, folder: Path, loop: asyncio.Runner) -> None:
        self._place, self._loop = place, loop
        private = ec.generate_private_key(ec.SECP256R1())
        der = Issuer().issue(private.public_key(), 0x9A)
        self._facts = CardFacts(ManagementAlgorithm.TDES, _KEY, der)
        card = place.card
        card.keys[0x9A] = (P_256, private)
        card.objects[0x5FC102] = bytes.fromhex(f"3019{'D4' * 25}3410{_GUID}350832303330313233313E00FE00")
        card.objects[0x5FC105] = piv_objects.certificate_object(der)
        self._fresh = (card.pin, card.puk, dict(card.objects), dict(card.keys))
        pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
        (folder / "certificate.pem").write_bytes(pem)
        (folder / "digest").write_bytes(DIGEST)
        self._yubikit = _yubikit_jobs(der)
        self._processes = _commands(place.reader, folder)
        self.runs: dict[str, dict[str, Runs]] = {job: {} for job in BY_DRIVER}
        self.starts = {program: Runs() for program in _PROGRAMS}

    def round(self, *, processes: bool) -> None:
        """Every job once by every client that has it."""
        for job in self.runs:
            sent = self._measure(job, _DRIVER, partial(self._driver, job))
            self._measure(job, _ORDER, partial(self._order, job))
            self._measure(job, "yubikit", partial(self._by_yubikit, job))
            self._measure(job, _REPLAY, partial(self._place.replay, sent))
            for program in _PROGRAMS if processes else ():
                if job in self._processes[program]:
                    self._measure(job, program, partial(_run, self._processes[program][job]))
        for program in _PROGRAMS if processes else ():
            starting = partial(_run, _STARTS[program], check=program != "pkcs11-tool")
            self._place.measure(self.starts[program], starting)

    def _measure(self, job: str, name: str, client: Client) -> list[bytes]:
        self._put_back(job)
        sent = self._place.measure(self.runs[job].setdefault(name, Runs()), client)
        _see_that_it_is_done(self._place, job, name, sent)
        return sent

    def _put_back(self, job: str) -> None:
        card = self._place.card
        card.pin, card.puk, objects, keys = self._fresh
        card.objects, card.keys = dict(objects), dict(keys)
        card.pin_left = 0 if job == "unblock by PUK" else card.profile.pin_tries
        card.puk_left = card.profile.puk_tries

    def _connect(self) -> CardConnection:
        return CardConnection(scard.connect(self._place.reader), self._place.reader)

    def _driver(self, job: str) -> None:
        with self._connect() as card:
            by_driver(card, job, self._facts)

    def _order(self, job: str) -> None:
        card = card_in_hand(self._connect, _GUID, _KEY, all_features=job == "read card")
        self._loop.run(as_order(card, job, self._facts))

    def _by_yubikit(self, job: str) -> None:
        with self._place.yubikit() as session:
            self._yubikit[job](session)


def _see_that_it_is_done(place: OneCard, job: str, name: str, sent: list[bytes]) -> None:
    """A client that didn't do its job would be the fastest."""
    card = place.card
    done = {
        "change PIN": card.pin.startswith(NEW_PIN),
        "unblock by PUK": card.pin.startswith(NEW_PIN) and card.pin_left > 0,
        "verify PIN": any(apdu[1] == 0x20 and len(apdu) > 5 for apdu in sent) and card.pin_left > 0,
        "write certificate": any(apdu[1] == 0xDB for apdu in sent),
        "generate P-256": any(apdu[1] == 0x47 for apdu in sent),
        "sign by P-256": any(apdu[1] == 0x87 and apdu[3] == 0x9A for apdu in sent),
    }.get(job, any(apdu[1] == 0xCB for apdu in sent))
    if not done:
        raise RuntimeError(f"{name} did not {job}")


def _run(argv: list[str], *, check: bool = True) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_PROCESS_SECONDS, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")


def _print(jobs: Jobs, load: float) -> None:
    print(f"{'job':<18} {'client':<25} {'APDUs':>5} {'median':>9} {'least':>9} {'ratio':>7}")
    for job, clients in jobs.runs.items():
        base = clients[_REPLAY].median
        for name, runs in clients.items():
            times = (
                f"{runs.median:6.2f} ms {runs.least:6.2f} ms"
                if runs.median < 100
                else (f"{runs.median:6.0f} ms {runs.least:6.0f} ms")
            )
            print(f"{job:<18} {name:<25} {runs.apdus:>5} {times} {runs.median / base:7.1f}")
        missing = [name for name in _PROGRAMS if name not in clients]
        if missing:
            print(f"{job:<18} not done by {', '.join(missing)}")
    for name, runs in jobs.starts.items():
        print(f"{'start alone':<18} {name:<25} {runs.apdus:>5} {runs.median:6.0f} ms {runs.least:6.0f} ms")
    print(
        f"load of the machine before and after: {load:.1f}, {os.getloadavg()[0]:.1f}; {os.cpu_count()} processors"
    )


def main() -> int:
    """Run, and print; 1 when Inlay's driver needs more APDUs for a job than the best of the others."""
    parser = argparse.ArgumentParser(prog="python -m bench.card_jobs")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with one_card(_CARD) as place, tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        jobs = Jobs(place, Path(folder), loop)
        for number in range(options.rounds):
            jobs.round(processes=number % _PROCESSES_EVERY == 0)
    _print(jobs, load)
    others = {
        job: min(runs.apdus for name, runs in clients.items() if name not in _OWN)
        for job, clients in jobs.runs.items()
    }
    more = [job for job, least in others.items() if jobs.runs[job][_DRIVER].apdus > least]
    for job in more:
        print(f"more APDUs than the best of the others: {job}; {_MORE.get(job, 'it should not')}")
    return int(bool(set(more) - set(_MORE)))


if __name__ == "__main__":
    sys.exit(main())
