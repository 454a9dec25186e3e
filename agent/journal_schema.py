"""The journal's tables, one script for each version (``PRAGMA user_version``); scripts are only ever added."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE orders (
        jti       TEXT NOT NULL,
        portal    TEXT NOT NULL,
        token     BLOB NOT NULL,  -- sealed: the order as the portal signed it
        key       BLOB NOT NULL,  -- sealed: the order's ephemeral key, PKCS#8 PEM
        stage     TEXT NOT NULL,
        sent      INTEGER NOT NULL,
        received  INTEGER NOT NULL,
        outcome   TEXT NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'finished', 'undone')),
        settled   INTEGER NOT NULL DEFAULT 0,  -- the portal knows the outcome, nothing is left to be said
        error     BLOB,                        -- why it was undone, as ErrorData
        begun     INTEGER NOT NULL,
        contact   INTEGER NOT NULL,            -- when the portal was last heard of
        PRIMARY KEY (portal, jti)
    ) STRICT;
    CREATE TABLE outbox (
        portal  TEXT NOT NULL,
        jti     TEXT NOT NULL,
        seq     INTEGER NOT NULL,
        token   BLOB NOT NULL,  -- sealed: the signed message
        PRIMARY KEY (portal, jti, seq),
        FOREIGN KEY (portal, jti) REFERENCES orders (portal, jti) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE steps (
        id      INTEGER PRIMARY KEY,
        portal  TEXT NOT NULL,
        jti     TEXT NOT NULL,
        step    TEXT NOT NULL,
        phase   TEXT NOT NULL CHECK (phase IN ('before', 'after')),
        at      INTEGER NOT NULL,
        FOREIGN KEY (portal, jti) REFERENCES orders (portal, jti) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE cards (
        card     TEXT PRIMARY KEY,
        portal   TEXT NOT NULL,
        jti      TEXT NOT NULL,
        account  TEXT NOT NULL,
        level    TEXT NOT NULL,
        expires  INTEGER NOT NULL
    ) STRICT;
    """,
    # steps: milliseconds since 1970; seconds said nothing of steps that take less
    "UPDATE steps SET at = at * 1000;",
    """
    CREATE TABLE claims (
        id      TEXT PRIMARY KEY,  -- SHA-256 of portal and code
        portal  TEXT NOT NULL,
        code    BLOB NOT NULL,     -- sealed: code and how it came
        at      INTEGER NOT NULL
    ) STRICT;
    """,
    # cards: the PIN's rules, JSON; empty for cards of before
    "ALTER TABLE cards ADD COLUMN policy BLOB NOT NULL DEFAULT x'';",
)
