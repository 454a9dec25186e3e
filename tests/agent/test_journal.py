"""The journal: durable before anything else, never the same order twice, nothing secret in the open."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import Journal, JournalUnusableError, OpenClaim, OrderRef
from agent.journal_cards import JournalledCard
from agent.sealing import SealBrokenError, Sealer
from protocol.errors import InlayError
from protocol.messages import ErrorData, PinPolicy, Transport
from protocol.orders import Position, Stage

KEY = bytes(range(32))
REF = OrderRef("portal.test", "order-1")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite", Sealer(KEY))
    yield opened
    opened.close()


def test_an_order_is_begun_once(journal: Journal) -> None:
    journal.begin(REF, "token", b"key")
    with pytest.raises(InlayError) as caught:
        journal.begin(REF, "token", b"key")
    assert caught.value.code == "order_replayed"


def test_an_order_is_begun_once_even_after_it_was_settled_and_reopened(
    journal: Journal, tmp_path: Path
) -> None:
    journal.begin(REF, "token", b"key")
    journal.end(REF, "finished")
    journal.settle(REF)
    journal.close()
    again = Journal(tmp_path / "journal.sqlite", Sealer(KEY))
    with pytest.raises(InlayError) as caught:
        again.begin(REF, "token", b"key")
    assert caught.value.code == "order_replayed"
    assert again.order(REF).token == ""
    again.close()


def test_the_same_id_of_another_portal_is_another_order(journal: Journal) -> None:
    journal.begin(REF, "token", b"key")
    journal.begin(OrderRef("other.test", REF.jti), "token", b"key")
    assert len(journal.unsettled()) == 2


def test_an_order_nobody_began_is_unknown(journal: Journal) -> None:
    with pytest.raises(InlayError) as caught:
        journal.order(REF)
    assert caught.value.code == "order_unknown"


def test_another_device_secret_opens_nothing(journal: Journal, tmp_path: Path) -> None:
    journal.begin(REF, "token", b"key")
    stranger = Journal(tmp_path / "journal.sqlite", Sealer(bytes(32)))
    with pytest.raises(SealBrokenError):
        stranger.unsettled()
    stranger.close()


def test_a_row_moved_to_another_order_opens_nothing(journal: Journal, tmp_path: Path) -> None:
    other = OrderRef("portal.test", "order-2")
    journal.begin(REF, "token-1", b"key")
    journal.begin(other, "token-2", b"key")
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(
            "UPDATE orders SET token = (SELECT token FROM orders WHERE jti = ?) WHERE jti = ?",
            (other.jti, REF.jti),
        )
    db.close()
    with pytest.raises(SealBrokenError):
        journal.order(REF)


def test_a_newer_journal_is_left_alone(journal: Journal, tmp_path: Path) -> None:
    journal.close()
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalUnusableError) as caught:
        Journal(tmp_path / "journal.sqlite", Sealer(KEY))
    assert caught.value.reason == "version"


def test_step_times_are_milliseconds_in_an_older_journal_too(journal: Journal, tmp_path: Path) -> None:
    journal.begin(REF, "token", b"key")
    journal.close()
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    with db:
        db.execute(
            "INSERT INTO steps (portal, jti, step, phase, at) VALUES (?, ?, 'make', 'before', 1750000000)",
            REF,
        )
        db.execute("DROP TABLE claims")
        db.execute("ALTER TABLE cards DROP COLUMN policy")
        db.execute("PRAGMA user_version = 1")
    begun = time.time_ns() // 1_000_000
    again = Journal(tmp_path / "journal.sqlite", Sealer(KEY))
    again.step(REF, "make", "after")
    again.close()
    Journal(tmp_path / "journal.sqlite", Sealer(KEY)).close()  # once and no more
    times = [at for (at,) in db.execute("SELECT at FROM steps ORDER BY id")]
    db.close()
    assert times[0] == 1_750_000_000_000
    assert begun <= times[1] <= time.time_ns() // 1_000_000


def test_a_claim_is_open_until_its_order_begins_or_it_is_refused(journal: Journal, tmp_path: Path) -> None:
    begun = OpenClaim("portal.test", "code-one", Transport.LINK, None)
    refused = OpenClaim("portal.test", "code-two", Transport.LOOPBACK, "https://portal.test")
    for claim in (begun, refused, begun):
        journal.open_claim(claim)
    journal.close()
    assert b"code-one" not in (tmp_path / "journal.sqlite").read_bytes()
    again = Journal(tmp_path / "journal.sqlite", Sealer(KEY))
    assert again.open_claims() == [begun, refused]
    again.begin(REF, "token", b"key", begun)
    again.close_claim(refused)
    assert again.open_claims() == []
    again.close()


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all" * 300)
    with pytest.raises(JournalUnusableError) as caught:
        Journal(path, Sealer(KEY))
    assert caught.value.reason == "damaged"


def test_nothing_secret_is_in_the_file(journal: Journal, tmp_path: Path) -> None:
    journal.begin(REF, "order-token-text", b"ephemeral-key-bytes")
    journal.store_sent(REF, Position(Stage.CONSENTED, 1, 0), 1, "message-with-number-417")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"order-token-text", b"ephemeral-key-bytes", b"message-with-number"):
        assert secret not in written
    assert stat.S_IMODE((tmp_path / "journal.sqlite").stat().st_mode) == 0o600


def test_messages_and_positions_are_kept_together(journal: Journal) -> None:
    journal.begin(REF, "token", b"key")
    journal.store_sent(REF, Position(Stage.CONSENTED, 1, 0), 1, "one")
    journal.store_received(REF, Position(Stage.PROCEEDING, 1, 1))
    journal.store_sent(REF, Position(Stage.REQUESTED, 2, 1), 2, "two")
    found = journal.order(REF)
    assert (found.token, found.key) == ("token", b"key")
    assert found.position == Position(Stage.REQUESTED, 2, 1)
    assert journal.outbox(REF, 0) == [(1, "one"), (2, "two")]
    assert journal.outbox(REF, 1) == [(2, "two")]


def test_an_undo_keeps_its_cause_and_settling_removes_what_was_needed(journal: Journal) -> None:
    error = ErrorData(error="cancelled_at_portal")
    journal.begin(REF, "token", b"key")
    journal.store_received(REF, Position(Stage.UNDOING, 0, 1), error)
    assert journal.order(REF).error == error
    journal.end(REF, "undone")
    assert [item.outcome for item in journal.unsettled()] == ["undone"]
    journal.settle(REF)
    assert journal.unsettled() == []
    assert journal.order(REF).error == error


def test_steps_and_cards(journal: Journal) -> None:
    journal.begin(REF, "token", b"key")
    journal.step(REF, "make", "before")
    journal.step(REF, "make", "after")
    assert journal.steps(REF) == [("make", "before"), ("make", "after")]
    card = JournalledCard("ab" * 16, "portal.test", "order-1", "alex@example.org", "file", 5)
    ruled = card._replace(card="cd" * 16, policy=PinPolicy(min_length=9, max_length=12, agent_only=True))
    journal.add_card(card)
    journal.add_card(ruled)
    assert journal.cards() == {card.card: card, ruled.card: ruled}
    journal.remove_card(card.card)
    assert journal.cards() == {ruled.card: ruled}


_KILLED = """
import os, signal, sys
from pathlib import Path
from agent.journal import Journal, OrderRef
from agent.sealing import Sealer
journal = Journal(Path(sys.argv[1]), Sealer(bytes(range(32))))
journal.begin(OrderRef("portal.test", "order-1"), "token", b"key")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_begun_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path)], cwd=root, check=False, env={**os.environ}
    )
    assert killed.returncode == -9
    journal = Journal(path, Sealer(KEY))
    assert journal.order(REF).ref == REF
    journal.close()
