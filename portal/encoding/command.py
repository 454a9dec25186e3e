"""``inlay-portal encoding``: checks encoding descriptions before anybody uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portal.encoding import piv_rules, rules
from portal.encoding.parser import load
from portal.encoding.piv_rules import Part
from portal.encoding.problems import EncodingError
from portal.encoding.rules import Usage

if TYPE_CHECKING:
    import argparse

    from portal.config import Config
    from portal.encoding.description import Description


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's own arguments."""
    parser = commands.add_parser("encoding", help="check encoding descriptions; 1 when one has a fault")
    whole = "without any: those of card_descriptions, as the portal reads them when it starts"
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.dsc", help=whole)
    parser.add_argument(
        "--usage", choices=[usage.name.lower() for usage in Usage], help="the task that uses them"
    )
    piv = "they are of PIV cards, for this part of card_descriptions: what such a card can't do is a fault"
    parser.add_argument("--piv", choices=[part.value for part in Part], help=piv)


def run(config: Config, options: argparse.Namespace) -> int:
    """Say every problem of every file, as ``FILE:LINE: sentence``; without a file, of the configured descriptions.

    Returns:
        Exit status: 1 when there is one.

    Raises:
        ConfigError: a configured description has a fault.
    """
    if not options.files:
        print(f"card_descriptions: no problem found; kinds of cards: {len(config.described_cards())}")  # noqa: T201
        return 0
    faults = 0
    for path in options.files:
        try:
            description = load(path)
            _check(description, options)
        except EncodingError as error:
            faults += 1
            for problem in error.problems:
                print(f"{path}:{problem.line}: {problem.sentence}")  # noqa: T201
        else:
            print(f"{path}: {len(description.applications)} applications, no problem found")  # noqa: T201
    return 1 if faults else 0


def _check(description: Description, options: argparse.Namespace) -> None:
    """What the options ask for beyond what a description says by itself.

    Raises:
        EncodingError: with every problem.
    """
    if options.usage is not None:
        rules.check(description, Usage[options.usage.upper()])
    if options.piv is not None and (found := piv_rules.of_description(description, Part(options.piv), {})):
        raise EncodingError(found)
