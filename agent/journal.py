"""The agent's memory of orders: durable before anything is done, and read again at the next start.

One SQLite file (write-ahead log, ``synchronous=FULL``). The row of an order is written before anything else
happens (``begin``), and stays, so that an order is never carried out twice. A message and the position it
leads to are written together, before the message leaves or its receipt is confirmed. Order, ephemeral key and
messages are sealed under the device secret.

Methods block for as long as the disk takes: call them from a worker thread. They may be called from any thread.

Errors: ``order_replayed`` (the order was begun before), ``card_write_failed`` (the disk refused).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from agent.journal_cards import JournalledCard, all_cards
from agent.journal_schema import MIGRATIONS
from agent.sealing import Sealer
from protocol.errors import InlayError
from protocol.messages import ErrorData, Transport
from protocol.orders import Position, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Outcome = Literal["open", "finished", "undone"]
Phase = Literal["before", "after"]

_BUSY_MILLISECONDS: Final = 5000


class OrderRef(NamedTuple):
    """Which order: the portal's id in the trust store, and the order's id there."""

    portal: str
    jti: str


class JournalledOrder(NamedTuple):
    """An order as the journal has it.

    Attributes:
        ref: which.
        token: the order as the portal signed it.
        key: its ephemeral key, PEM.
        position: how far it has come.
        outcome: ``open`` until it is finished or undone here.
        settled: the portal knows the outcome.
        error: why it was undone.
        contact: when the portal was last heard of, seconds since 1970.
    """

    ref: OrderRef
    token: str
    key: bytes
    position: Position
    outcome: Outcome
    settled: bool
    error: ErrorData | None
    contact: int

    def __repr__(self) -> str:
        return f"<JournalledOrder {self.ref.jti} {self.position.stage} {self.outcome}>"


class OpenClaim(NamedTuple):
    """A claim of a code whose answer isn't known: the portal may have begun an order.

    Attributes:
        portal: the portal's id.
        code: the code.
        transport: how it came.
        origin: of the page that brought it, with transport ``loopback``.
    """

    portal: str
    code: str
    transport: Transport
    origin: str | None

    @property
    def id(self) -> str:
        """Its name in the journal; says nothing of the code."""
        return hashlib.sha256(f"{self.portal}/{self.code}".encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<OpenClaim {self.portal} by {self.transport}>"


class JournalUnusableError(Exception):
    """The journal can't be used.

    Attributes:
        reason: ``version`` (written by a newer Inlay) or ``damaged``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Journal:
    """An open journal."""

    def __init__(self, path: Path, sealer: Sealer) -> None:
        """Open, or make, the journal.

        Args:
            path: its file, made with rights 0600; the folder exists.
            sealer: under the device secret.

        Raises:
            JournalUnusableError: it is of a newer version, or damaged.
        """
        self._sealer = sealer
        self._lock = threading.Lock()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise JournalUnusableError("damaged") from error
        except JournalUnusableError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; the journal can't be used afterwards."""
        with self._lock:
            self._db.close()

    # --- claims

    def open_claim(self, claim: OpenClaim) -> None:
        """Write that a code is going to be claimed, before the portal hears of it; harmless when it is written."""
        place = f"journal claim {claim.id}"
        sealed = self._sealer.seal(msgspec.json.encode(claim), place)
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO claims (id, portal, code, at) VALUES (?, ?, ?, ?)",
                (claim.id, claim.portal, sealed, int(time.time())),
            )

    def close_claim(self, claim: OpenClaim) -> None:
        """Write that the portal has refused a claim, or that there is nobody to ask."""
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE id = ?", (claim.id,))

    def open_claims(self) -> list[OpenClaim]:
        """The claims whose answers aren't known, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT id, code FROM claims ORDER BY at, rowid").fetchall()
        return [
            msgspec.json.decode(self._sealer.open(sealed, f"journal claim {name}"), type=OpenClaim)
            for name, sealed in rows
        ]

    # --- orders

    def begin(self, ref: OrderRef, token: str, key: bytes, claim: OpenClaim | None = None) -> None:
        """Write that an order begins: the first thing that happens to it.

        Args:
            ref: which.
            token: the order as the portal signed it.
            key: the order's ephemeral key, PEM.
            claim: the claim that the order answers.

        Raises:
            InlayError: ``order_replayed``: it was begun before, at any time.
        """
        now = int(time.time())
        start = Position()
        with self._transaction() as db:
            try:
                db.execute(
                    "INSERT INTO orders (jti, portal, token, key, stage, sent, received, begun, contact)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        ref.jti,
                        ref.portal,
                        self._sealer.seal(token.encode(), _place("order", ref)),
                        self._sealer.seal(key, _place("key", ref)),
                        start.stage,
                        start.sent,
                        start.received,
                        now,
                        now,
                    ),
                )
            except sqlite3.IntegrityError:
                raise InlayError("order_replayed") from None
            if claim is not None:
                db.execute("DELETE FROM claims WHERE id = ?", (claim.id,))

    def order(self, ref: OrderRef) -> JournalledOrder:
        """Read one order.

        Raises:
            InlayError: ``order_unknown``.
        """
        with self._lock:
            row = _find(self._db, ref)
            if row is None:
                raise InlayError("order_unknown")
            return self._opened(row)

    def unsettled(self) -> list[JournalledOrder]:
        """Orders that are not at their end here or whose end the portal doesn't know, oldest first."""
        with self._lock:
            rows = self._db.execute(_UNSETTLED).fetchall()
            return [self._opened(row) for row in rows]

    def store_sent(self, ref: OrderRef, position: Position, seq: int, token: str) -> None:
        """Write a message and the position it leads to, before it leaves."""
        sealed = self._sealer.seal(token.encode(), _place(f"outbox {seq}", ref))
        with self._transaction() as db:
            _move(db, ref, position)
            db.execute(
                "INSERT INTO outbox (portal, jti, seq, token) VALUES (?, ?, ?, ?)", (*ref, seq, sealed)
            )

    def store_received(self, ref: OrderRef, position: Position, error: ErrorData | None = None) -> None:
        """Write the position after a message of the portal, before its receipt is confirmed.

        Args:
            ref: which order.
            position: the position after it.
            error: why, when the message was ``undo``.
        """
        with self._transaction() as db:
            _move(db, ref, position)
            _touch(db, ref)
            if error is not None:
                db.execute(
                    "UPDATE orders SET error = ? WHERE portal = ? AND jti = ?",
                    (msgspec.json.encode(error), *ref),
                )

    def outbox(self, ref: OrderRef, after: int) -> list[tuple[int, str]]:
        """The messages after a sequence number, in their order: ``(seq, token)``."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, token FROM outbox WHERE portal = ? AND jti = ? AND seq > ? ORDER BY seq",
                (*ref, after),
            ).fetchall()
        return [
            (seq, self._sealer.open(sealed, _place(f"outbox {seq}", ref)).decode()) for seq, sealed in rows
        ]

    def touch(self, ref: OrderRef) -> None:
        """Write that the portal was heard of."""
        with self._transaction() as db:
            _touch(db, ref)

    def end(
        self, ref: OrderRef, outcome: Literal["finished", "undone"], error: ErrorData | None = None
    ) -> None:
        """Write that the order is at its end here: the card is active, or nothing of it is left."""
        with self._transaction() as db:
            db.execute(
                "UPDATE orders SET outcome = ?, error = coalesce(?, error) WHERE portal = ? AND jti = ?",
                (outcome, None if error is None else msgspec.json.encode(error), *ref),
            )

    def settle(self, ref: OrderRef) -> None:
        """Write that the portal knows the outcome; what was needed to go on is removed, the id stays."""
        with self._transaction() as db:
            db.execute(
                "UPDATE orders SET settled = 1, token = x'', key = x'' WHERE portal = ? AND jti = ?", ref
            )
            db.execute("DELETE FROM outbox WHERE portal = ? AND jti = ?", ref)

    # --- steps

    def step(self, ref: OrderRef, step: str, phase: Phase) -> None:
        """Write that a step begins or has ended, and when (milliseconds since 1970)."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO steps (portal, jti, step, phase, at) VALUES (?, ?, ?, ?, ?)",
                (*ref, step, phase, time.time_ns() // 1_000_000),
            )

    def steps(self, ref: OrderRef) -> list[tuple[str, str]]:
        """The steps of an order as they were written: ``(step, phase)``."""
        with self._lock:
            return self._db.execute(
                "SELECT step, phase FROM steps WHERE portal = ? AND jti = ? ORDER BY id", ref
            ).fetchall()

    # --- cards

    def add_card(self, card: JournalledCard) -> None:
        """Write where a card comes from, before it is made."""
        with self._transaction() as db:
            policy = b"" if card.policy is None else msgspec.json.encode(card.policy)
            db.execute("INSERT OR REPLACE INTO cards VALUES (?, ?, ?, ?, ?, ?, ?)", (*card[:-1], policy))

    def extend_card(self, card: str, expires: int) -> None:
        """Write that a card is valid for longer; never for shorter."""
        with self._transaction() as db:
            db.execute("UPDATE cards SET expires = max(expires, ?) WHERE card = ?", (expires, card))

    def remove_card(self, card: str) -> None:
        """Forget a card."""
        with self._transaction() as db:
            db.execute("DELETE FROM cards WHERE card = ?", (card,))

    def cards(self) -> dict[str, JournalledCard]:
        """All cards by name."""
        with self._lock:
            return all_cards(self._db)

    # --- inside

    def _prepare(self) -> None:
        db = self._db
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise JournalUnusableError("version")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        for number in range(version, len(MIGRATIONS)):
            db.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; on the disk when the block is left."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise InlayError("card_write_failed", cause=error.sqlite_errorname) from error

    def _opened(self, row: _Row) -> JournalledOrder:
        jti, portal, token, key, stage, sent, received, outcome, settled, error, contact = row
        ref = OrderRef(portal, jti)
        return JournalledOrder(
            ref,
            self._sealer.open(token, _place("order", ref)).decode() if token else "",
            self._sealer.open(key, _place("key", ref)) if key else b"",
            Position(Stage(stage), sent, received),
            outcome,
            bool(settled),
            None if error is None else msgspec.json.decode(error, type=ErrorData),
            contact,
        )


_SELECT: Final = (
    "SELECT jti, portal, token, key, stage, sent, received, outcome, settled, error, contact FROM orders"
)
_ONE: Final = _SELECT + " WHERE portal = ? AND jti = ?"
_UNSETTLED: Final = _SELECT + " WHERE settled = 0 ORDER BY begun, rowid"
_Row = tuple[str, str, bytes, bytes, str, int, int, Outcome, int, bytes | None, int]


def _find(db: sqlite3.Connection, ref: OrderRef) -> _Row | None:
    row: _Row | None = db.execute(_ONE, ref).fetchone()
    return row


def _move(db: sqlite3.Connection, ref: OrderRef, position: Position) -> None:
    db.execute(
        "UPDATE orders SET stage = ?, sent = ?, received = ? WHERE portal = ? AND jti = ?",
        (position.stage, position.sent, position.received, *ref),
    )


def _touch(db: sqlite3.Connection, ref: OrderRef) -> None:
    db.execute("UPDATE orders SET contact = ? WHERE portal = ? AND jti = ?", (int(time.time()), *ref))


def _place(what: str, ref: OrderRef) -> str:
    return f"journal {what} {ref.portal} {ref.jti}"
