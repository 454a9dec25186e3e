"""Thousands of signatures over pcscd + vpcd: what the card leaks, and how fast it is beside its bounds.

``python -m bench.card_soak [--signatures N]``. The card runs in a process of its own, as in the agent. Its
memory (PSS), open handles and threads are read before and after. Beside it, in the other slot: the same exchange
with a card that answers at once (same bytes, no engine, no key); and the bare operation of `cryptography`. The three
take turns in short rounds, so that whatever else the machine does, it does to each of them; a round's figures are
compared with each other alone, and the median of the rounds is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from smartcard.CardConnection import CardConnection
from smartcard.Exceptions import CardConnectionException, NoCardException
from smartcard.System import readers

from agent.vsc import tlv
from agent.vsc.card import ATR, VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.rsa_padding import pkcs1_block
from agent.vsc.vpcd import AttachmentState, attach
from agent.vsc.vpcd_session import Frames, frame
from tests.support import isolation
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import Child, wait_until
from tests.support.virtual_cards import PIN, full_card, store_in

DIGEST: Final = bytes(range(32))
SLOTS: Final = {Algorithm.P_256: 0x9A, Algorithm.RSA_2048: 0x9E}
WARM_UP: Final = 1000
GROWTH_KIB: Final = 2048
"""More memory after thousands of signatures than before, and it is a leak; allocators wobble below that."""

_SLOT: Final = {"card": 0, "instant": 1}
_ANSWER_BYTES: Final = {Algorithm.P_256: 71, Algorithm.RSA_2048: 256}
_ROUND: Final = 250
"""Signatures in a round: short beside what else the machine does, long beside a clock's tick."""


@dataclass(frozen=True)
class Use:
    """What a process holds.

    Attributes:
        pss_kib: proportional set size.
        handles: open file descriptors.
        threads: running threads.
    """

    pss_kib: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Round:
    """What a signature took in one round, in seconds.

    Attributes:
        card: over pcscd and vpcd.
        instant: the exchange with a card that answers at once.
        bare: `cryptography` alone.
    """

    card: float
    instant: float
    bare: float

    @property
    def share(self) -> float:
        """Of what pcscd and vpcd allow, less the signature itself; 1 is all of it."""
        return (self.instant + self.bare) / self.card


@dataclass(frozen=True)
class Report:
    """One algorithm's figures.

    Attributes:
        algorithm: which.
        signatures: how many.
        rounds: what they took.
        before: of the card's process, after warming up.
        after: at the end.
    """

    algorithm: Algorithm
    signatures: int
    rounds: list[Round]
    before: Use
    after: Use

    @property
    def share(self) -> float:
        """The median of the rounds' shares."""
        return statistics.median(item.share for item in self.rounds)

    @property
    def leaks(self) -> bool:
        """Whether the process holds more than before."""
        grown = self.after.pss_kib - self.before.pss_kib > GROWTH_KIB
        return grown or self.after.handles > self.before.handles or self.after.threads > self.before.threads

    def __str__(self) -> str:
        """The figures, in two lines."""
        card, instant, bare = (
            1 / statistics.median(seconds)
            for seconds in zip(*((item.card, item.instant, item.bare) for item in self.rounds), strict=True)
        )
        return (
            f"soak: {self.signatures} x {self.algorithm.label}: {card:.0f}/s; a card that answers at once "
            f"{instant:.0f}/s; bare cryptography {bare:.0f}/s; {self.share:.0%} of what they allow\n"
            f"soak: before -> after: PSS {self.before.pss_kib} -> {self.after.pss_kib} KiB, handles "
            f"{self.before.handles} -> {self.after.handles}, threads {self.before.threads} -> "
            f"{self.after.threads}: {'LEAKS' if self.leaks else 'no leak'}"
        )


def soak(pcscd: PrivatePcscd, folder: Path, signatures: int) -> list[Report]:
    """Measure each algorithm.

    Args:
        pcscd: a running one, in namespaces of the caller's own.
        folder: an existing empty one.
        signatures: of each algorithm.
    """
    reports = []
    for algorithm in SLOTS:
        with (
            _served(pcscd, folder, "card", algorithm) as child,
            _served(pcscd, folder, "instant", algorithm),
            _exchange(pcscd, "card", algorithm) as card,
            _exchange(pcscd, "instant", algorithm) as instant,
        ):
            bare = _bare(algorithm)
            for operation in (card, instant, bare):
                _seconds(operation, min(WARM_UP, signatures))
            before = use_of(child.pid)
            rounds = [
                Round(*(_seconds(operation, count) for operation in (card, instant, bare)))
                for count in _rounds(signatures)
            ]
            after = use_of(child.pid)
        reports.append(Report(algorithm, signatures, rounds, before, after))
    return reports


def _rounds(signatures: int) -> list[int]:
    """How many signatures are in each round."""
    rest = signatures % _ROUND
    return [_ROUND] * (signatures // _ROUND) + [rest] * bool(rest)


def _seconds(operation: Callable[[], None], count: int) -> float:
    """Seconds that an operation takes."""
    begin = time.perf_counter()
    for _ in range(count):
        operation()
    return (time.perf_counter() - begin) / count


def use_of(pid: int) -> Use:
    """What a process holds now."""
    process = Path("/proc") / str(pid)
    pss = next(
        line for line in (process / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:")
    )
    return Use(
        int(pss.split()[1]), len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
    )


@contextlib.contextmanager
def _served(pcscd: PrivatePcscd, folder: Path, kind: str, algorithm: Algorithm) -> Iterator[Child]:
    """A card in its slot, in a process of its own."""
    home = folder / f"{kind}-{algorithm.name}"
    home.mkdir()
    argv = [sys.executable, "-m", "bench.card_soak", "--serve", kind, "--algorithm", algorithm.name]
    log = home / "log"
    child = Child(
        [*argv, "--port", str(pcscd.vpcd_ports[_SLOT[kind]]), "--folder", str(home)], log=log, cwd=Path.cwd()
    )
    with child:
        child.wait_until(lambda: "present" in child.output(), "the card in its reader", seconds=30)
        yield child
    # until pcscd has seen the card go: the next one must not be taken for it
    wait_until(lambda: not _has_card(pcscd, kind), "an empty reader")


def _has_card(pcscd: PrivatePcscd, kind: str) -> bool:
    try:
        _let_go(_connect(pcscd, kind))
    except (NoCardException, CardConnectionException):
        return False
    return True


def _connect(pcscd: PrivatePcscd, kind: str) -> CardConnection:
    reader = next(found for found in readers() if found.name == pcscd.readers[_SLOT[kind]])
    connection = reader.createConnection()
    try:
        connection.connect(CardConnection.T1_protocol)
    except (NoCardException, CardConnectionException):
        connection.release()
        raise
    return connection


@contextlib.contextmanager
def _exchange(pcscd: PrivatePcscd, kind: str, algorithm: Algorithm) -> Iterator[Callable[[], None]]:
    """Asks the card in a slot for one signature, which is checked to be one by its length."""
    wait_until(lambda: _has_card(pcscd, kind), "the card in its reader")
    connection = _connect(pcscd, kind)
    command, shortest = list(_command(algorithm)), _ANSWER_BYTES[algorithm] - 4

    def sign() -> None:
        answer, *status = connection.transmit(command, CardConnection.T1_protocol)
        if status != [0x90, 0x00] or len(answer) < shortest:
            raise AssertionError(bytes(status).hex())

    try:
        for setup in ("00A4040005A000000308", "0020008008" + PIN.hex() + "FFFF"):
            connection.transmit(list(bytes.fromhex(setup)), CardConnection.T1_protocol)
        yield sign
    finally:
        _let_go(connection)


def _let_go(connection: CardConnection) -> None:
    with contextlib.suppress(CardConnectionException):  # the card is gone already
        connection.disconnect()
    connection.release()


def _command(algorithm: Algorithm) -> bytes:
    """GENERAL AUTHENTICATE in extended length."""
    block = DIGEST if algorithm is Algorithm.P_256 else pkcs1_block(DIGEST, 256)
    template = tlv.encode(0x7C, tlv.encode(0x82, b"") + tlv.encode(0x81, block))
    head = bytes((0x00, 0x87, algorithm, SLOTS[algorithm]))
    return head + b"\x00" + len(template).to_bytes(2, "big") + template + b"\x00\x00"


def _bare(algorithm: Algorithm) -> Callable[[], None]:
    """Makes one signature without any card."""
    hashed = Prehashed(hashes.SHA256())
    if algorithm is Algorithm.P_256:
        ec_key, ecdsa = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashed)
        return lambda: _drop(ec_key.sign(DIGEST, ecdsa))
    rsa_key, pkcs1 = rsa.generate_private_key(65537, 2048), padding.PKCS1v15()
    return lambda: _drop(rsa_key.sign(DIGEST, pkcs1, hashed))


def _drop(_signature: bytes) -> None:
    return


async def _serve_card(port: int, card: VirtualCard) -> None:
    attachment = attach(card, port)
    await attachment.wait_for(AttachmentState.PRESENT)
    sys.stdout.write("present\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _serve_instantly(port: int, algorithm: Algorithm) -> None:
    """Answer every APDU with as many bytes as the card would, and do nothing else."""
    signature = tlv.encode(0x7C, tlv.encode(0x82, bytes(_ANSWER_BYTES[algorithm]))) + b"\x90\x00"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frames, told = Frames(), False
        while True:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            for message in frames.feed(connection.recv(65_537)):
                if message == b"\x04":
                    connection.sendall(frame(ATR))
                elif len(message) > 1:
                    connection.sendall(frame(signature))
                if not told:
                    told = True
                    sys.stdout.write("present\n")
                    sys.stdout.flush()


def main() -> int:
    """Run the soak, or serve a card for it; 1 when something leaked."""
    parser = argparse.ArgumentParser(prog="python -m bench.card_soak")
    parser.add_argument("--signatures", type=int, default=10_000)
    parser.add_argument("--serve", choices=["card", "instant"])
    parser.add_argument("--algorithm", type=lambda name: Algorithm[name], default=Algorithm.P_256)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.serve == "instant":
        _serve_instantly(options.port, options.algorithm)
    elif options.serve == "card":
        card = full_card(store_in(options.folder), {SLOTS[options.algorithm]: options.algorithm})
        asyncio.run(_serve_card(options.port, card))
    isolation.enter()
    with tempfile.TemporaryDirectory() as folder, PrivatePcscd(Path(folder)) as pcscd:
        reports = soak(pcscd, Path(folder), options.signatures)
    for report in reports:
        print(report)
    print(f"soak: load average of the last minute, with what is measured: {os.getloadavg()[0]:.1f}")
    return int(any(report.leaks for report in reports))


if __name__ == "__main__":
    sys.exit(main())
