"""``inlay-portal`` as an administrator uses it, and a server that is really started."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from portal import config
from portal.__main__ import main
from tests.support.certificates import ThrowAwayCA
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

_PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a throw-away TLS certificate."""
    authority = ThrowAwayCA(tmp_path)
    (tmp_path / "passphrase").write_text("a passphrase for throw-away keys\n")
    (tmp_path / "password").write_text(_PASSWORD + "\n")
    content = {
        "origin": "https://localhost:8443",
        "name": "Example portal",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys/portal.keys",
        "passphrase_file": "passphrase",
        "listen": {"host": "127.0.0.1", "port": 0},
        "tls": {"certificate": authority.certificate_file.name, "key": authority.key_file.name},
    }
    path = tmp_path / "portal.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"origin": "http://localhost"}, "origin"),
        ({"origin": "https://localhost/"}, "origin"),
        ({"origin": "https://localhost:443"}, "origin"),
        ({"origin": "https://LOCALHOST"}, "origin"),
        ({"origin": "https://user@localhost"}, "origin"),
        ({"listen": {"host": "127.0.0.1", "port": 70_000}}, "$.listen.port"),
        ({"surprise": 1}, "surprise"),
        ({"name": ""}, "$.name"),
    ],
)
def test_configuration_refused(file: Path, changes: dict[str, Any], where: str) -> None:
    """The place is named."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(config.ConfigError) as caught:
        config.load(file)
    assert where in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "\xff"])
def test_no_configuration(file: Path, content: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing or not one: exit 1 and a sentence."""
    file.unlink() if content is None else file.write_bytes(content.encode("latin-1"))
    assert main(["--config", str(file), "fingerprint"]) == 1
    assert capsys.readouterr().err.startswith(f"inlay-portal: {file}")


def test_commands_before_init(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Say what to do."""
    assert main(["--config", str(file), "serve"]) == 1
    assert "inlay-portal init" in capsys.readouterr().err


def test_relative_paths_are_relative_to_the_file(file: Path) -> None:
    """Whatever the working directory."""
    loaded = config.load(file)
    assert loaded.key_file == str(file.parent / "keys/portal.keys")
    assert loaded.database == f"sqlite+aiosqlite:///{file.parent}/portal.db"
    assert loaded.portal_id == "localhost:8443"


def test_an_administrator_s_day(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """init (twice), users, options, keys, CRL, reconcile."""

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["--config", str(file), *arguments]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    fingerprint = run("init").splitlines()[-1]
    assert run("init").splitlines()[-1] == fingerprint
    assert run("fingerprint").strip() == fingerprint
    password = str(file.parent / "password")
    add = ("user", "add", "ada@example.org", "--name", "Ada", "--password-file", password)
    assert run(*add) == "ada@example.org is active.\n"
    assert "There is an account" in run(*add, code=1)
    assert run("user", "state", "ada@example.org", "inactive") == "ada@example.org is inactive.\n"
    assert "no such" in run("user", "state", "nobody@example.org", "active", code=1).lower()
    assert "ValidityDays=730\n" in run("options")
    assert "StorageLevels=keystore,file\n" in run("options", "--set", "StorageLevels=keystore,file")
    assert "ValidityDays" in run("options", "--set", "ValidityDays=0", code=1)
    assert "StorageLevels=keystore,file\n" in run("options")
    run("rotate-order-key")
    assert run("fingerprint").strip() == fingerprint
    assert "recovered: 0\n" in run("reconcile")
    for command, name in (("crl", "crl.pem"), ("ca-certificate", "ca.pem")):
        run(command, "--out", str(file.parent / name))
    checked = subprocess.run(
        ["openssl", "crl", "-in", "crl.pem", "-CAfile", "ca.pem", "-noout"],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "verify OK" in checked.stderr
    assert run("crl").startswith("-----BEGIN X509 CRL-----")


@pytest.fixture
def server(file: Path, tmp_path: Path) -> Iterator[Child]:
    """``inlay-portal serve``, started from a folder with hostile modules."""
    assert main(["--config", str(file), "init"]) == 0
    hostile = tmp_path / "hostile"
    (hostile / "protocol").mkdir(parents=True)
    for name in ("json.py", "protocol/__init__.py"):
        (hostile / name).write_text("raise SystemExit('hostile code ran')")
    script = Path(sys.executable).with_name("inlay-portal")
    command = [sys.executable, "-I", str(script), "--config", str(file), "serve"]
    with Child(command, log=tmp_path / "serve.log", cwd=hostile) as running:
        running.wait_until(lambda: "is running" in running.output(), "the portal runs", seconds=30)
        yield running


async def test_serve(server: Child, tmp_path: Path) -> None:
    """Over TLS, with pages and the agents' addresses; stopped by SIGTERM without a trace in the log."""
    port = int(server.output().rsplit("port ", 1)[1].split(")")[0])
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    base = f"https://localhost:{port}"
    async with ClientSession() as client:
        async with client.get(f"{base}/.well-known/inlay", ssl=trust) as response:
            assert (await response.json())["root_key"]["crv"] == "P-256"
        async with client.get(f"{base}/login", ssl=trust) as response:
            assert response.status == 200
            assert "Example portal" in await response.text()


def test_serve_stops(server: Child) -> None:
    """SIGTERM is a clean end."""
    assert server.stop() == 0
    assert "Traceback" not in server.output()


# --- encoding


_DESCRIPTION = "[Encoding]\n[Fields]\n[Description]\n[Application_A]\nCreateObjectRelation=always\n"


def test_a_description_with_faults_is_told_by_file_and_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.dsc", tmp_path / "bad.dsc"
    good.write_text(_DESCRIPTION)
    bad.write_text(_DESCRIPTION.replace("[Fields]\n", "").replace("=always", "=sometimes"))
    assert main(["--config", str(file), "encoding", str(bad), str(good)]) == 1
    said = capsys.readouterr().out
    assert f"{bad}:0: The section [Fields] is missing." in said
    assert f"{bad}:4: “sometimes” is no value of CreateObjectRelation" in said
    assert f"{good}: 1 applications, no problem found" in said
    assert main(["--config", str(file), "encoding", str(good)]) == 0
    usage = ["--usage", "operation_without_card"]
    assert main(["--config", str(file), "encoding", str(good), *usage]) == 1
    assert f"{good}:5: CreateObjectRelation=always can't be kept" in capsys.readouterr().out
