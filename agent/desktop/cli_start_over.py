"""`inlay start-over`: a new secret for this device where the old one is lost, after the person has agreed."""

from __future__ import annotations

import argparse
import sys

from agent.desktop import cli_output
from agent.desktop.client import Refusal, request
from agent.desktop.link_handler import EXIT_OK


def run(options: argparse.Namespace) -> int:
    """Show what is lost, ask, and put it aside."""
    found = request("start_over", {})
    if not options.yes and not _agreed(options, found):
        raise Refusal("user_cancelled", "Nothing was put aside.", "You did not agree.", "")
    done = request("start_over.confirm", {})
    if options.json:
        cli_output.write_json(done)
        return EXIT_OK
    cli_output.write_line(f"Put aside in {done['folder']}: moved back, it is what it was.")
    for portal in sorted({str(card["portal"]) for card in done["cards"] if card["portal"]}):
        cli_output.write_line(f"Get a new virtual card at https://{portal}/")
    return EXIT_OK


def _agreed(options: argparse.Namespace, found: dict[str, object]) -> bool:
    if options.json or not (sys.stdin is not None and sys.stdin.isatty()):
        raise Refusal(
            "confirmation_required",
            "Nothing was put aside.",
            "There is no terminal to ask for confirmation.",
            "Run it in a terminal, or with --yes.",
        )
    cards = found["cards"]
    assert isinstance(cards, list)  # noqa: S101 - the agent's own answer
    cli_output.write_line(
        "The secret that protects this device's cards is lost. These can't be used without it:"
    )
    for card in cards:
        cli_output.write_line(f"  {card['account'] or card['card']} ({card['portal'] or 'unknown portal'})")
    cli_output.write_line("If the key store can be restored, restore it instead: they work again then.")
    sys.stderr.write("Put them aside, and begin with a new secret? Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() == "yes"
