"""`inlay doctor`: what is wrong on this machine, and what to do; also when the agent isn't running.

Looks by itself, and asks a running agent for what only it knows. It starts nothing and changes nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap

from agent.desktop import agent_socket, cli_output
from agent.desktop.client import refusal
from agent.desktop.link_handler import EXIT_OK, EXIT_REFUSED
from agent.doctor.agent_side import Answered
from agent.doctor.examine import examine, folders
from agent.doctor.findings import AREAS, Finding

_INDENT = " " * 10
_NARROW, _WIDE = 40, 100
_MARKS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


def run(options: argparse.Namespace) -> int:
    """Look at everything and tell it; the exit status is 1 when something is wrong."""
    found = sorted(examine(folders(), ask_agent()), key=lambda each: AREAS.index(each.area))
    wrong = any(each.level == "problem" for each in found)
    if options.json:
        cli_output.write_json({"healthy": not wrong, "findings": [each.as_json() for each in found]})
    else:
        _tell(found)
    return EXIT_REFUSED if wrong else EXIT_OK


def ask_agent() -> Answered:
    """What a running agent says; none is started for it."""
    try:
        connection = agent_socket.connect()
        if connection is None:
            return Answered(None)
        answer = agent_socket.ask(connection, "diagnose", {})
    except agent_socket.AgentUnreachable as error:
        return Answered(None, (error.why, error.next_step))
    try:
        decoded = json.loads(answer)
    except ValueError:
        decoded = None
    if isinstance(decoded, dict) and isinstance(decoded.get("result"), dict):
        return Answered(decoded["result"])
    said = refusal(answer)
    return Answered(None, (said.why or said.happened, said.next_step))


def _tell(found: list[Finding]) -> None:
    """One block for each area; where something is wrong, why and what to do."""
    area = ""
    for each in found:
        if each.area != area:
            area = each.area
            cli_output.write_line(area.capitalize())
        _write(f"  {_MARKS[each.level]:8}", f"{each.happened} {each.why}")
        if each.level == "ok":
            continue
        words, *entry = each.next_step.splitlines()
        _write(_INDENT, words)
        for line in entry:  # what is to be written into a file stays as it is
            cli_output.write_line(_INDENT + line)
        if each.level == "problem":
            cli_output.write_line(f"{_INDENT}({each.code})")


def _write(begin: str, text: str) -> None:
    """Write a paragraph as wide as the terminal, and no wider than is easily read."""
    width = max(_NARROW, min(_WIDE, shutil.get_terminal_size().columns))
    wrapper = textwrap.TextWrapper(
        width, initial_indent=begin, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )
    for line in wrapper.wrap(cli_output.printable(text)):
        cli_output.write_line(line)
