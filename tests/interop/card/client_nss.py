"""NSS with OpenSC's module (Firefox, Thunderbird, Chromium, LibreOffice): modutil, certutil, cmsutil."""

from __future__ import annotations

import shutil
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.card.clients import MODULE, PIN_TEXT, Client, Operation


def _database(client: Client) -> str:
    """A fresh database that trusts the root and has the module."""
    folder = client.path("nss")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    database = f"sql:{folder}"
    client.write("root.pem", client.root.pem())
    client.run("certutil", "-d", database, "-N", "--empty-password")
    client.run(
        "certutil", "-d", database, "-A", "-t", "CT,C,C", "-n", "root", "-i", str(client.path("root.pem"))
    )
    client.run("modutil", "-dbdir", database, "-add", "OpenSC", "-libfile", MODULE, "-force")
    client.write("pin", PIN_TEXT.encode())
    return database


def _token(client: Client, database: str) -> str:
    said = client.run("modutil", "-dbdir", database, "-list")
    tokens = [line.partition("token:")[2].strip() for line in said.splitlines() if "token:" in line]
    return next(token for token in tokens if token and "NSS" not in token)


def _modules(client: Client) -> None:
    database = _database(client)
    assert _token(client, database).startswith("Card Holder 9A")


def _certificates(client: Client) -> None:
    database = _database(client)
    options = ["-h", "all", "-f", str(client.path("pin"))]
    assert client.run("certutil", "-d", database, "-L", *options).count("Certificate for ") == 7
    assert client.run("certutil", "-d", database, "-K", *options).count("rsa ") >= 2


def _sign(client: Client) -> None:
    database = _database(client)
    nick = f"{_token(client, database)}:Certificate for Digital Signature"
    message, signed = client.write("mail", b"a mail\n"), client.path("mail.p7m")
    files = ["-i", str(message), "-o", str(signed)]
    client.run(
        "cmsutil", "-S", "-d", database, "-f", str(client.path("pin")), "-N", nick, "-H", "SHA384", *files
    )
    judged = ["-inform", "DER", "-in", str(signed), "-CAfile", str(client.path("root.pem"))]
    assert "successful" in client.run("openssl", "cms", "-verify", *judged)


def _decrypt(client: Client) -> None:
    database = _database(client)
    recipient = client.write("recipient.pem", client.certificate(0x9D).public_bytes(Encoding.PEM))
    message, sealed, plain = client.write("mail", b"a mail\n"), client.path("mail.der"), client.path("plain")
    argv = ["-encrypt", "-aes256", "-outform", "DER", "-binary", "-in", str(message), "-out", str(sealed)]
    client.run("openssl", "cms", *argv, str(recipient))
    files = ["-i", str(sealed), "-o", str(plain)]
    client.run("cmsutil", "-D", "-d", database, "-f", str(client.path("pin")), *files)
    assert plain.read_bytes() == b"a mail\n"


OPERATIONS: Final = [
    Operation("NSS modutil", "load OpenSC's module, find the card", _modules),
    Operation("NSS certutil", "list certificates and keys", _certificates),
    Operation("NSS cmsutil", "sign a mail (9C)", _sign),
    Operation("NSS cmsutil", "decrypt a mail (9D)", _decrypt),
]
