"""`inlay agent --stop [--now]` and `inlay autostart on | off | status`: when the agent runs."""

from __future__ import annotations

import argparse
import fcntl
import os
import time

from agent.desktop import agent_socket, autostart, cli_output, paths
from agent.desktop.causes import told
from agent.desktop.client import Refusal, request
from agent.desktop.link_handler import EXIT_OK, EXIT_REFUSED

END_SECONDS = 20.0
_PAUSE = 0.05


def run(arguments: list[str]) -> int:
    """Run one of these commands.

    Args:
        arguments: the subcommand's name and what follows it.

    Returns:
        The exit status: 0 done, 1 refused, 2 wrong command line.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return int(options.command(options))
    except Refusal as refusal:
        cli_output.write_refusal(refusal, as_json=options.json)
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="write one JSON document")
    parser = argparse.ArgumentParser(prog="inlay", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    agent = commands.add_parser("agent", parents=[common], allow_abbrev=False)
    agent.add_argument("--stop", action="store_true", required=True, help="end the agent that runs")
    agent.add_argument("--now", action="store_true", help="even if something is under way")
    agent.set_defaults(command=_stop)
    start = commands.add_parser("autostart", help="whether the agent starts at log-in").add_subparsers(
        required=True, metavar="on|off|status"
    )
    for name, function in (
        ("on", autostart.turn_on),
        ("off", autostart.turn_off),
        ("status", autostart.status),
    ):
        start.add_parser(name, parents=[common]).set_defaults(command=_autostart, act=function)
    return parser


def _stop(options: argparse.Namespace) -> int:
    try:
        running = agent_socket.connect()
    except agent_socket.AgentUnreachable as error:
        raise Refusal(error.code, error.happened, error.why, error.next_step) from None
    if running is None:
        _tell(options, {"stopped": False, "under_way": []}, ["Inlay's agent isn't running."])
        return EXIT_OK
    running.close()
    answer = request("stop", {"now": options.now})
    if not _ended():
        raise Refusal(*told("agent_not_ended", seconds=int(END_SECONDS)))
    lines = [f"It was at work: {what}. That was broken off." for what in answer["under_way"]]
    _tell(options, answer, ["Inlay's agent has stopped. The next link or command starts it again.", *lines])
    return EXIT_OK


def _ended() -> bool:
    """Wait until the agent has let its lock go, which is the last thing it does."""
    until = time.monotonic() + END_SECONDS
    with open(f"{paths.runtime_directory()}/agent.lock", "rb") as lock:
        while time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_PAUSE)
            else:
                return True
    return False


def _autostart(options: argparse.Namespace) -> int:
    try:
        found: autostart.Status = options.act()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Refusal(
            *told("autostart_unwritable", path=str(autostart.entry_path()), reason=reason)
        ) from None
    if found.problem is not None:
        raise Refusal(*found.problem)
    if found.on:
        text = f"Inlay's agent starts when you log in ({found.entry})."
    else:
        text = "Inlay's agent starts with the first link or command, not at log-in."
    _tell(options, {"on": found.on, "entry": found.entry}, [text])
    return EXIT_OK


def _tell(options: argparse.Namespace, answer: dict[str, object], lines: list[str]) -> None:
    if options.json:
        cli_output.write_json(answer)
        return
    for line in lines:
        cli_output.write_line(line)
