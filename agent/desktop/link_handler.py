"""The `inlay` command: opens links by itself, and loads everything else by its name.

`inlay open -- LINK` runs at each click in a browser, so it imports next to nothing: `_socket` instead
of `socket`, its own one-line request instead of `json`. It accepts no flag and no further argument:
what a web page can influence is the link alone, and the link can name a portal and a code alone.
"""

from __future__ import annotations

import sys

SUBCOMMANDS = {
    "agent": "agent.__main__",
    "code": "agent.desktop.cli",
    "trust": "agent.desktop.cli",
    "cards": "agent.desktop.cli",
    "readers": "agent.desktop.cli",
    "link": "agent.desktop.cli",
    "doctor": "agent.desktop.cli",
    "autostart": "agent.desktop.cli_agent",
    "start-over": "agent.desktop.cli",
}
"""Subcommand → module with ``run(argv) -> int``; ``agent`` gets what follows, the others all of it."""

USAGE = """\
usage: inlay COMMAND …

  open -- LINK                          open a link of a web page (inlay:PORTAL/CODE)
  code [--portal PORTAL] [CODE]         enter the code that a web page shows
  trust add|list|remove                 the portals this machine trusts
  cards                                 the virtual cards of this user
  cards show [--window] [CARD]          all that may be said of a card
  cards change-pin|unblock|delete [CARD]  new PIN, new PIN by the PUK, remove the card
  readers                               the card readers, and what is in them
  link register|unregister|status       who opens inlay: links
  doctor                                what is wrong on this machine, and what to do
  start-over [--yes]                    a new secret for this device, where the old one is lost
  agent                                 run the agent itself (started by itself when needed)
  agent --traffic                       the same, and log what is said to cards, without PINs and keys
  agent --stop [--now]                  end the agent; --now: even if something is under way
  autostart on|off|status               whether the agent starts when you log in

Every command but open and agent takes --json.
"""

EXIT_OK, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2


def main() -> int:
    """Run the command line of this process; the return value is the exit status."""
    arguments = sys.argv[1:]
    command = arguments[0] if arguments else ""
    if command == "open":
        return open_link(arguments[1:])
    if command in SUBCOMMANDS:
        return _run_subcommand(command, arguments)
    if command in ("help", "--help", "-h"):
        sys.stdout.write(USAGE)
        return EXIT_OK
    sys.stderr.write(USAGE)
    return EXIT_USAGE


def open_link(arguments: list[str]) -> int:
    """Hand a link to the agent, starting it when it isn't running.

    Args:
        arguments: what follows ``open``: exactly ``--`` and the link.

    Returns:
        0 when the agent has taken it, 1 when something refused (said on standard error, and in a
        window where there is a display and no terminal), 2 for a wrong command line.
    """
    from protocol.link import LinkError, parse

    if len(arguments) != 2 or arguments[0] != "--":
        from agent.desktop.causes import told

        return _refuse(*told("arguments_refused"), EXIT_USAGE)
    try:
        parse(arguments[1])
    except LinkError as error:
        next_step = "Go back to the page and start again. If you clicked nothing, you can ignore this."
        return _refuse(error.cause, "This link can't be opened.", error.explanation, next_step)
    return _deliver(arguments[1])


def _deliver(link: str) -> int:
    import os

    from agent.desktop import agent_socket, paths

    parameters = {"link": link, "environment": paths.handed_over(dict(os.environ))}
    terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        connection = agent_socket.connect_or_start()
        answer = agent_socket.ask(connection, "open", parameters, terminal)
    except agent_socket.AgentUnreachable as error:
        return _refuse(error.code, error.happened, error.why, error.next_step)
    if answer.startswith(b'{"result":'):
        return EXIT_OK
    return _show_refusal(answer)


def _show_refusal(answer: bytes) -> int:
    """The agent said no: it has shown a window or a notification itself where it could."""
    from agent.desktop.cli_output import error_text
    from agent.desktop.client import refusal

    sys.stderr.write(error_text(refusal(answer)))
    return EXIT_REFUSED


def _run_subcommand(command: str, arguments: list[str]) -> int:
    import importlib

    if command == "agent" and "--stop" in arguments:
        return int(importlib.import_module("agent.desktop.cli_agent").run(arguments))
    module = importlib.import_module(SUBCOMMANDS[command])
    status = module.run(arguments[1:] if command == "agent" else arguments)
    return int(status)


def _refuse(code: str, happened: str, why: str, next_step: str, status: int = EXIT_REFUSED) -> int:
    """Say what happened, why, and what to do: on the terminal, or in a window where there is none."""
    sys.stderr.write(f"inlay: {happened}\n  Why: {why}\n  Next: {next_step}\n  ({code})\n")
    if not sys.stderr.isatty():
        from agent.desktop.lone_window import show_error

        show_error(code, happened, why, next_step)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
