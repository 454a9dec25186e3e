"""`inlay cards show | change-pin | unblock | delete`: what a person does with a card that is there.

A PIN or PUK is never an argument: the agent asks for it in its own window, or on this terminal where there is no
display. The command stays until that is done, and says what came of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from agent.desktop import cli_output, paths
from agent.desktop.causes import TABLE
from agent.desktop.client import Refusal, request
from agent.desktop.link_handler import EXIT_OK
from agent.desktop.lone_window import show_error

NO_CARD = "There is no virtual card on this machine for you yet."
_BEFORE_A_WINDOW = ("no_card", "card_unknown", "card_ambiguous")
_FIELDS = (
    ("serial", "Serial"),
    ("guid", "GUID"),
    ("state", "State"),
    ("account", "Account"),
    ("portal", "Portal"),
    ("expires", "Valid until"),
    ("level", "Keys in"),
    ("pin_tries", "PIN tries"),
    ("puk_tries", "PUK tries"),
    ("reader", "Reader"),
    ("problem", "Problem"),
)


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``inlay cards``.

    Args:
        commands: what ``add_subparsers`` of ``cards`` returned.
        common: with ``--json``, left out of the namespace when it isn't given.
    """
    show = _add(commands, common, "show", "all that may be said of a card", _show)
    show.add_argument("--window", action="store_true", help="in a window, from which the rest can be done")
    _add(commands, common, "change-pin", "choose a new PIN", _asked("cards.change_pin"))
    _add(commands, common, "unblock", "set a new PIN by the PUK", _asked("cards.unblock"))
    _add(commands, common, "delete", "remove a card from this computer", _asked("cards.delete"))


def _add(
    commands: Any,
    common: argparse.ArgumentParser,
    name: str,
    text: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, parents=[common], help=text)
    parser.add_argument(
        "card", nargs="?", metavar="CARD", help="serial, GUID or label; asked for where several are there"
    )
    parser.set_defaults(command=function)
    return parser


def _show(options: argparse.Namespace) -> int:
    if options.window:
        return _asked("cards.window")(options)
    answer = request("cards.show", {"card": options.card})
    if options.json:
        cli_output.write_json(answer)
    elif not answer["cards"]:
        cli_output.write_line(NO_CARD)
    else:
        for place, card in enumerate(answer["cards"]):
            if place:
                cli_output.write_line("")
            _write_card(card)
    return EXIT_OK


def _asked(method: str) -> Callable[[argparse.Namespace], int]:
    """A command whose answer takes a person."""

    def command(options: argparse.Namespace) -> int:
        terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        environment = paths.handed_over(dict(os.environ))
        try:
            answer = request(method, {"card": options.card, "environment": environment}, terminal)
        except Refusal as refusal:
            _say_in_a_window(refusal, terminal)
            raise
        if options.json:
            cli_output.write_json(answer)
        else:
            for line in (answer["done"], *answer["notes"]):
                if line:
                    cli_output.write_line(str(line))
        return EXIT_OK

    return command


def _say_in_a_window(refusal: Refusal, terminal: int | None) -> None:
    """What was refused before the agent opened a window, for who started this from a menu."""
    if terminal is None and (refusal.code in _BEFORE_A_WINDOW or refusal.code in TABLE):
        show_error(refusal.code, refusal.happened, refusal.why, refusal.next_step)


def _write_card(card: dict[str, Any]) -> None:
    cli_output.write_line(str(card.get("label") or f"Card {card['card']}"))
    for key, name in _FIELDS:
        value = card.get(key)
        if value is not None:
            cli_output.write_line(f"  {name:<12} {_told(key, value)}")
    for line in card.get("certificates", ()):
        cli_output.write_line(f"  {line['slot']}  {line['purpose']}: {line['subject']}")
        cli_output.write_line(f"      valid from {line['not_before']} to {line['not_after']}")


def _told(key: str, value: object) -> str:
    return "none, it is blocked" if key.endswith("_tries") and value == 0 else str(value)
