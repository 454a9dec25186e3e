"""``inlay-portal``: makes, runs and looks after a portal.

Secrets never come as arguments: the passphrase and passwords are read from files or from the terminal. What one command
alone needs it imports itself: the others don't wait for pages and processes.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import getpass
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from portal import audit_heads, keys_command, logs, option_store
from portal import config as configuration
from portal.clock import system_clock
from portal.encoding import command as encoding_command
from portal.errors import PortalError
from portal.events import ChangeBus
from portal.keys import KeyStoreError
from portal.keys_command import open_keys as _keys
from portal.model.states import Role, UserState
from portal.model.virtual_card_options import NAME as CARD_OPTIONS
from portal.store.database import Database
from protocol import jose
from protocol.errors import InlayError
from protocol.traces import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from portal.app import Portal
    from portal.audit_heads import Head
    from portal.config import Config
    from portal.keys import KeyPort
    from portal.processes.ca_changes import Summary
    from portal.processes.reconcile import Report
    from portal.views import UserView

T = TypeVar("T")

_IDLE_SECONDS = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0, or 1 when it was refused; 2 for wrong usage.
    """
    options = _parser().parse_args(arguments)
    logs.set_up()
    try:
        config = configuration.load(options.config)
        command = _COMMANDS[options.command]
        return command(config, options)
    except (configuration.ConfigError, KeyStoreError, PortalError, InlayError, OSError) as error:
        print(f"inlay-portal: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except SQLAlchemyError as error:
        print(f"inlay-portal: the database can't be used: {describe(error)}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="inlay-portal", description="Runs and looks after an Inlay portal.")
    parser.add_argument("--config", type=Path, default=Path("/etc/inlay-portal/portal.json"), metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="make keys and database")
    commands.add_parser("serve", help="run the portal")
    commands.add_parser("fingerprint", help="show the root key's fingerprint")
    commands.add_parser("rotate-order-key", help="make a new order key; restart the portal afterwards")
    commands.add_parser("reconcile", help="handle what was left half done; 1 when something waits for the CA")
    crl = commands.add_parser("crl", help="write the current CRL (PEM)")
    crl.add_argument("--out", type=Path, metavar="FILE")
    ca = commands.add_parser("ca-certificate", help="write the CA's certificate (PEM)")
    ca.add_argument("--out", type=Path, metavar="FILE")
    _add_audit(commands)
    _add_user(commands)
    options = commands.add_parser("options", help="show or set the options of a process")
    options.add_argument(
        "--script", choices=sorted(option_store.SCRIPTS), default=CARD_OPTIONS, help=f"default {CARD_OPTIONS}"
    )
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="lists with commas")
    keys_command.add_parser(commands)
    encoding_command.add_parser(commands)
    return parser


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = commands.add_parser("audit", help="check the audit log, sign its head").add_subparsers(
        dest="what", required=True
    )
    for what, help_ in (
        ("verify", "tell every row that was changed, removed, inserted or moved; 1 when there is one"),
        ("head", "verify, sign the head of now, and add it to the signed heads"),
    ):
        audit.add_parser(what, help=help_).add_argument(
            "--heads",
            type=Path,
            metavar="FILE",
            help="signed heads; by default those that the portal exports",
        )


def _add_user(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    user = commands.add_parser("user", help="add users, set their state").add_subparsers(
        dest="what", required=True
    )
    add = user.add_parser("add", help="add a user in state active")
    add.add_argument("email")
    add.add_argument("--name", required=True)
    add.add_argument("--role", action="append", choices=[role.value for role in Role], default=[])
    add.add_argument("--password-file", type=Path, metavar="FILE", help="else the terminal asks")
    state = user.add_parser("state", help="set a user's state")
    state.add_argument("email")
    state.add_argument("state", choices=[state.value for state in UserState])


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _keys_command(config: Config, options: argparse.Namespace) -> int:
    return keys_command.run(config, options, _say)


def _portal(config: Config, keys: KeyPort) -> Portal:
    from portal.app import Portal

    return Portal(config, keys)


def _with_portal(config: Config, keys: KeyPort, work: Callable[[Portal], Awaitable[T]]) -> T:
    """Do a piece of work with a prepared portal that doesn't serve."""
    portal_ = _portal(config, keys)

    async def run() -> T:
        try:
            await portal_.prepare()
            return await work(portal_)
        finally:
            await portal_.database.close()

    return asyncio.run(run())


def _init(config: Config, _options: argparse.Namespace) -> int:
    keys = keys_command.make_keys(config)
    _with_portal(config, keys, lambda portal_: portal_.key_sets.token())
    _say(f"{config.name} ({config.origin}) is ready. Fingerprint of its root key:")
    _say(jose.fingerprint(keys.root().public))
    return 0


def _serve(config: Config, _options: argparse.Namespace) -> int:
    import portal.web

    portal_ = _portal(config, _keys(config))
    app = portal_.application()
    portal.web.setup(app, portal_.services)
    portal.web.setup_staff(app, portal_.operator, portal_.administrator, portal_.batches)
    context = None
    if config.tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.tls.certificate, config.tls.key)

    asyncio.run(_run(app, config, context))
    return 0


async def _run(app: web.Application, config: Config, tls: ssl.SSLContext | None) -> None:
    """Serve until SIGINT or SIGTERM."""
    from aiohttp import web

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # counts from a connection's beginning, too: one that sends half a request doesn't stay
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5, keepalive_timeout=_IDLE_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.listen.host, config.listen.port, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        _say(f"{config.name} is running: {config.origin} (listening on {config.listen.host}, port {port})")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await runner.cleanup()


def _fingerprint(config: Config, _options: argparse.Namespace) -> int:
    _say(jose.fingerprint(_keys(config).root().public))
    return 0


def _rotate(config: Config, _options: argparse.Namespace) -> int:
    key = _keys(config).rotate_order_key()
    _say(f"The new order key is {key.thumbprint}. It is used once the portal is started again.")
    return 0


def _reconcile(config: Config, _options: argparse.Namespace) -> int:
    """0 when nothing is left; 1 when something still waits for the CA."""
    from portal.processes import ca_changes

    async def run(portal_: Portal) -> tuple[Report, Summary]:
        report = await portal_.reconciler.run()
        await portal_.revocations.run_due()
        async with portal_.database.read() as tx:
            return report, await ca_changes.summary(tx)

    report, waiting = _with_portal(config, _keys(config), run)
    for name, count in report._asdict().items():
        _say(f"{name}: {count}")
    _say(f"revocations pending: {waiting.revocations}")
    _say(f"holds and releases pending: {waiting.others}")
    if waiting.oldest is not None:
        _say(
            f"oldest since: {datetime.datetime.fromtimestamp(waiting.oldest, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
    return 1 if report.unanswered or waiting.oldest is not None else 0


def _audit(config: Config, options: argparse.Namespace) -> int:
    """Verify, or sign the head: on the database as it is, which is neither migrated nor written to."""
    keys = _keys(config)
    database = Database(config.database, ChangeBus(), config.model())
    file: Path = options.heads or config.audit_heads_file
    recorded = audit_heads.recorded_in(file)

    async def run() -> audit_heads.Report | tuple[Head, str]:
        try:
            if options.what == "verify":
                return await audit_heads.verify(database, keys, config.portal_id, recorded)
            return await audit_heads.check_and_sign(
                database, keys, config.portal_id, system_clock(), recorded
            )
        finally:
            await database.close()

    result = asyncio.run(run())
    if not isinstance(result, audit_heads.Report):
        audit_heads.append(file, result[1])
        _say(result[1])
        return 0
    for line in result.foreign:
        _say(f"{file}, line {line}: not a head that this portal signed")
    for fault in result.faults:
        _say(str(fault))
    if result.unbroken:
        _say(f"{result.rows} rows, unbroken; {result.heads} signed heads fit ({file})")
    return 0 if result.unbroken else 1


def _crl(config: Config, options: argparse.Namespace) -> int:
    der = _with_portal(config, _keys(config), lambda portal_: portal_.ca.crl())
    return _write_pem(der, options.out, "X509 CRL")


def _ca_certificate(config: Config, options: argparse.Namespace) -> int:
    der = _with_portal(config, _keys(config), lambda portal_: portal_.ca.certificate())
    return _write_pem(der, options.out, "CERTIFICATE")


def _write_pem(der: bytes, out: Path | None, label: str) -> int:
    pem = ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", label)
    if out is None:
        sys.stdout.write(pem)
    else:
        out.write_text(pem)
    return 0


def _user(config: Config, options: argparse.Namespace) -> int:
    password = _password(options.password_file) if options.what == "add" else ""

    async def run(portal_: Portal) -> UserView:
        if options.what == "state":
            return await portal_.accounts.set_state(options.email, UserState(options.state))
        roles = [Role(role) for role in options.role] or [Role.SELF_SERVICE]
        return await portal_.accounts.add(options.email, options.name, password, roles)

    user = _with_portal(config, _keys(config), run)
    _say(f"{user.email} is {user.state}.")
    return 0


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text().rstrip("\r\n")
    return getpass.getpass("Password: ")


def _options(config: Config, options: argparse.Namespace) -> int:
    """Show the options, or set some and leave the others as they are."""
    script = option_store.script_of(options.script)
    form = {name: value.split(",") for name, _, value in (item.partition("=") for item in options.set)}

    async def run(portal_: Portal) -> option_store.Saved:
        async with portal_.database.write() as tx:
            saved = await option_store.current(tx, options.script)
            if not form:
                return saved
            values = script.parse({**script.as_form(saved.values), **form})
            now = portal_.context.clock()
            return await option_store.save(
                tx, options.script, saved.version, values, by="command line", now=now
            )

    saved = _with_portal(config, _keys(config), run)
    for name, value in saved.values.items():
        _say(f"{name}={','.join(value) if isinstance(value, list) else value}")
    return 0


_COMMANDS = {
    "init": _init,
    "serve": _serve,
    "fingerprint": _fingerprint,
    "rotate-order-key": _rotate,
    "keys": _keys_command,
    "reconcile": _reconcile,
    "audit": _audit,
    "crl": _crl,
    "ca-certificate": _ca_certificate,
    "encoding": encoding_command.run,
    "user": _user,
    "options": _options,
}

if __name__ == "__main__":
    sys.exit(main())
