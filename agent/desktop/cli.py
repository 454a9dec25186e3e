"""`inlay code | trust | cards | readers | link`: what a person, or support, does from a terminal.

Each talks to the daemon over its private socket; `link` alone works on this user's files by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.desktop import cli_cards, cli_output, cli_start_over, paths, url_handler
from agent.desktop.causes import told
from agent.desktop.client import Refusal, request
from agent.desktop.link_handler import EXIT_OK, EXIT_REFUSED
from protocol.link import LinkError, normalise_typed_code

Command = Callable[[argparse.Namespace], int]

PORTAL_COLUMNS = (
    ("portal", "PORTAL"),
    ("name", "NAME"),
    ("origin", "ORIGIN"),
    ("scope", "SCOPE"),
    ("fingerprint", "FINGERPRINT"),
)
CARD_COLUMNS = (
    ("label", "LABEL"),
    ("serial", "SERIAL"),
    ("state", "STATE"),
    ("level", "KEYS IN"),
    ("portal", "PORTAL"),
    ("account", "ACCOUNT"),
    ("reader", "READER"),
    ("expires", "EXPIRES"),
    ("problem", "PROBLEM"),
)
READER_COLUMNS = (
    ("name", "READER"),
    ("card", "CARD"),
    ("label", "LABEL"),
    ("atr", "ATR"),
    ("problem", "PROBLEM"),
)


def run(arguments: list[str]) -> int:
    """Run one subcommand.

    Args:
        arguments: the subcommand's name and what follows it.

    Returns:
        The exit status: 0 done, 1 refused, 2 wrong command line.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    command: Command = options.command
    try:
        return command(options)
    except Refusal as refusal:
        cli_output.write_refusal(refusal, as_json=options.json)
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="write one JSON document")
    parser = argparse.ArgumentParser(prog="inlay", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    code = commands.add_parser("code", parents=[common], help="enter the code that a web page shows")
    code.add_argument("code", nargs="?", help="ten letters and digits; asked for when left out")
    code.add_argument("--portal", help="the portal, where several are trusted")
    code.set_defaults(command=_code)

    _add_trust(commands, common)

    cards = commands.add_parser("cards", parents=[common], help="this user's virtual cards")
    cards.set_defaults(command=_cards)
    cli_cards.add_parsers(cards.add_subparsers(metavar="show|change-pin|unblock|delete"), _if_given())
    readers = commands.add_parser("readers", parents=[common], help="the card readers")
    readers.set_defaults(command=_readers)

    doctor = commands.add_parser("doctor", parents=[common], help="find out what is wrong, and what to do")
    doctor.set_defaults(command=_doctor)

    over = commands.add_parser(
        "start-over", parents=[common], help="a new secret for this device, where the old one is lost"
    )
    over.add_argument("--yes", action="store_true", help="put the old cards aside without a question")
    over.set_defaults(command=cli_start_over.run)

    _add_link(commands, common)
    return parser


def _add_trust(commands: Any, common: argparse.ArgumentParser) -> None:
    trust = commands.add_parser("trust", help="the portals this machine trusts").add_subparsers(
        required=True, metavar="add|list|remove"
    )
    add = trust.add_parser("add", parents=[common], help="trust a portal")
    add.add_argument("url", help="the portal's https address")
    add.add_argument("--fingerprint", help="trust it without a question if this is its fingerprint")
    add.add_argument("--ca-file", help="certificates to trust for this portal's TLS, PEM")
    add.set_defaults(command=_trust_add)
    trust.add_parser("list", parents=[common], help="list them").set_defaults(command=_trust_list)
    remove = trust.add_parser("remove", parents=[common], help="trust a portal no longer")
    remove.add_argument("portal", help="its name as in the list")
    remove.set_defaults(command=_trust_remove)


def _add_link(commands: Any, common: argparse.ArgumentParser) -> None:
    link = commands.add_parser("link", help="who opens inlay: links").add_subparsers(
        required=True, metavar="register|unregister|status"
    )
    for name, function in (
        ("register", _link_register),
        ("unregister", _link_unregister),
        ("status", _link_status),
    ):
        link.add_parser(name, parents=[common]).set_defaults(command=function)


def _if_given() -> argparse.ArgumentParser:
    """``--json`` for a subcommand whose parent takes it, too: not given, it leaves the parent's as it is."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="write one JSON document"
    )
    return common


def _code(options: argparse.Namespace) -> int:
    terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    portal, typed = options.portal, options.code
    if portal is None or typed is None:
        portals = _portal_ids() if portal is None else [portal]
        if typed is None and terminal is None:
            from agent.desktop.lone_window import ask_code

            chosen = ask_code(portals)
            if chosen is None:
                return EXIT_REFUSED
            portal, typed = chosen
        else:
            portal = _choose_portal(portals, terminal)
            typed = typed if typed is not None else _ask("Code: ")
    try:
        code = normalise_typed_code(typed)
    except LinkError as error:
        raise Refusal(
            error.cause,
            "This code can't be used.",
            error.explanation,
            "Compare it with the page: ten letters and digits.",
        ) from None
    environment = paths.handed_over(dict(os.environ))
    answer = request("code", {"portal": portal, "code": code, "environment": environment}, terminal)
    _report(options, answer, "Inlay has the code.")
    return EXIT_OK


def _portal_ids() -> list[str]:
    found = [str(entry["portal"]) for entry in request("trust.list", {})["portals"]]
    if not found:
        raise Refusal(
            "portal_unknown",
            "Inlay does not know any portal yet.",
            "No portal is in the trust store.",
            "Ask your support for the portal's address, then run: inlay trust add ADDRESS",
        )
    return found


def _choose_portal(portals: list[str], terminal: int | None) -> str:
    if len(portals) == 1:
        return portals[0]
    if terminal is None:
        raise Refusal(*told("portal_ambiguous", count=len(portals)))
    for number, portal in enumerate(portals, 1):
        cli_output.write_line(f"  {number}  {portal}")
    answer = _ask("Portal (number): ")
    if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(portals):
        return portals[int(answer) - 1]
    raise Refusal(
        "portal_unknown", "There is no such portal.", "The number is not in the list.", "Try again."
    )


def _trust_add(options: argparse.Namespace) -> int:
    ca_file = os.path.abspath(options.ca_file) if options.ca_file else None
    found = request("trust.add", {"url": options.url, "ca_file": ca_file})
    fingerprint = str(found["fingerprint"])
    if options.fingerprint is not None:
        if _plain(options.fingerprint) != _plain(fingerprint):
            raise Refusal(
                "fingerprint_mismatch",
                "The portal was not added.",
                f"Its fingerprint is {fingerprint}, which is not the one given.",
                "Compare with the portal's help page; if they differ, don't go on.",
            )
    elif not _confirmed(options, found, fingerprint):
        raise Refusal("user_cancelled", "The portal was not added.", "You did not confirm it.", "")
    answer = request("trust.confirm", {"url": options.url, "ca_file": ca_file, "fingerprint": fingerprint})
    _report(options, answer, f"{found['origin']} is trusted now.")
    return EXIT_OK


def _confirmed(options: argparse.Namespace, found: dict[str, object], fingerprint: str) -> bool:
    if options.json or not (sys.stdin is not None and sys.stdin.isatty()):
        raise Refusal(
            "confirmation_required",
            "The portal was not added.",
            "There is no terminal to ask for confirmation.",
            f"Compare {fingerprint} with the portal's help page, then give it with --fingerprint.",
        )
    cli_output.write_line(f"Name         {found.get('name', '')}")
    cli_output.write_line(f"Origin       {found['origin']}")
    cli_output.write_line(f"Fingerprint  {fingerprint}")
    cli_output.write_line("The same fingerprint stands on the portal's help page. Compare before you agree:")
    cli_output.write_line("pages of this portal will be able to ask you to make and change cards.")
    return _ask("Trust this portal? Type yes: ").strip().lower() == "yes"


def _plain(fingerprint: str) -> str:
    """A fingerprint without what people put between its digits."""
    return "".join(character for character in fingerprint.lower() if character.isalnum())


def _trust_list(options: argparse.Namespace) -> int:
    answer = request("trust.list", {})
    if options.json:
        cli_output.write_json(answer)
    elif answer["portals"]:
        cli_output.write_table(answer["portals"], PORTAL_COLUMNS)
    else:
        cli_output.write_line("No portal is trusted yet. Add one with: inlay trust add ADDRESS")
    return EXIT_OK


def _trust_remove(options: argparse.Namespace) -> int:
    answer = request("trust.remove", {"portal": options.portal})
    _report(options, answer, f"{options.portal} is not trusted any more.")
    return EXIT_OK


def _cards(options: argparse.Namespace) -> int:
    return _list(options, "cards", CARD_COLUMNS, cli_cards.NO_CARD)


def _readers(options: argparse.Namespace) -> int:
    return _list(options, "readers", READER_COLUMNS, "No card reader is there.")


def _list(
    options: argparse.Namespace, method: str, columns: tuple[tuple[str, str], ...], nothing: str
) -> int:
    answer = request(method, {})
    if options.json:
        cli_output.write_json(answer)
    elif answer[method]:
        cli_output.write_table(answer[method], columns)
    else:
        cli_output.write_line(nothing)
    if not options.json:
        for line in _remarks(answer[method], answer.get("notes", [])):
            cli_output.write_line(line)
    return EXIT_OK


def _remarks(rows: Sequence[Mapping[str, Any]], notes: Sequence[Mapping[str, str]]) -> list[str]:
    """What to do about rows with a problem, each thing once, and what concerns them all."""
    steps = dict.fromkeys(f"Next: {row['next']}" for row in rows if row.get("next"))
    return [*steps, *(f"{note['happened']} {note['why']} {note['next']}" for note in notes)]


def _doctor(options: argparse.Namespace) -> int:
    from agent.desktop import (
        cli_doctor,  # late: it loads PC/SC and the key store, which no other command needs
    )

    return cli_doctor.run(options)


def _link_register(options: argparse.Namespace) -> int:
    status = url_handler.register()
    return _tell_status(options, status)


def _link_unregister(options: argparse.Namespace) -> int:
    removed = url_handler.unregister()
    _report(options, {"removed": removed}, "Inlay no longer opens inlay: links for you.")
    return EXIT_OK


def _link_status(options: argparse.Namespace) -> int:
    return _tell_status(options, url_handler.status())


def _tell_status(options: argparse.Namespace, status: url_handler.Status) -> int:
    if options.json:
        cli_output.write_json(status.as_json())
        return EXIT_OK if status.working else EXIT_REFUSED
    if status.problem is None:
        cli_output.write_line(f"Inlay opens inlay: links ({status.entry}).")
        return EXIT_OK
    problem = status.problem
    refusal = Refusal(problem.code, problem.happened, problem.why, problem.next_step)
    cli_output.write_refusal(refusal, as_json=False)
    return EXIT_REFUSED


def _report(options: argparse.Namespace, answer: dict[str, object], text: str) -> None:
    if options.json:
        cli_output.write_json(answer)
    else:
        cli_output.write_line(text)


def _ask(question: str) -> str:
    """Ask on the terminal; the question goes to standard error so that output stays clean."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
