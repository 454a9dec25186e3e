"""GnuPG beside the card: it looks at every reader, and must neither be disturbed nor disturb."""

from __future__ import annotations

from typing import Final

from tests.interop.card import client_opensc
from tests.interop.card.clients import Client, Operation


def _home(client: Client) -> None:
    folder = client.path("gnupg")
    if not folder.exists():
        folder.mkdir(mode=0o700)
        (folder / "scdaemon.conf").write_text("disable-ccid\npcsc-shared\n")
        argv = ["gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Holder <holder@example.test>"]
        client.run(*argv, "ed25519", "sign", "1d")


def _own_key(client: Client) -> None:
    """gpg-agent signs with a key of its own while the card is in the reader."""
    _home(client)
    message = client.write("letter", b"letter")
    client.run("gpg", "--batch", "--yes", "--detach-sign", str(message))
    assert "Good signature" in client.run("gpg", "--verify", f"{message}.sig")


def _card_status(client: Client) -> None:
    """scdaemon 2.2 has no PIV: it says that there is no card it could use, and lets go of the reader."""
    _home(client)
    tries = client.card.details().pin_tries
    client.run("gpg", "--batch", "--card-status", fails=True)
    assert client.card.details().pin_tries == tries
    client_opensc.OPERATIONS[0].run(client)
    client.run("gpgconf", "--kill", "all")


OPERATIONS: Final = [
    Operation("gpg-agent", "sign with its own key beside the card", _own_key),
    Operation("scdaemon", "look at the card, let go of it", _card_status, "2.2 knows no PIV (2.3 does)"),
]
