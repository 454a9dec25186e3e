"""Requests of the command line to the daemon, decoded: a result, or a refusal with its three parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.desktop import agent_socket
from agent.desktop.causes import told


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """What the agent, or the way to it, refused.

    Attributes:
        code: the error's code.
        happened: what happened (and why, where the agent says both in one).
        why: why; may be empty.
        next_step: what to do now; may be empty.
    """

    code: str
    happened: str
    why: str
    next_step: str

    def as_json(self) -> dict[str, str]:
        """The same as an object for ``--json``."""
        found = {"error": self.code, "message": self.happened, "why": self.why, "next_step": self.next_step}
        return {name: value for name, value in found.items() if value}


def request(method: str, parameters: Mapping[str, object], terminal: int | None = None) -> dict[str, Any]:
    """Ask the daemon, starting it when it isn't running.

    Args:
        method: of the private socket, see ``agent.handlers.registry``.
        parameters: strings, booleans, None, and dictionaries of them.
        terminal: descriptor of the caller's terminal where the agent may have to ask there.

    Raises:
        Refusal: the daemon said no, can't be reached, or gave an answer that is none.
    """
    try:
        connection = agent_socket.connect_or_start()
        answer = agent_socket.ask(connection, method, parameters, terminal)
    except agent_socket.AgentUnreachable as error:
        raise Refusal(error.code, error.happened, error.why, error.next_step) from None
    try:
        decoded = json.loads(answer)
    except ValueError:
        decoded = None
    if isinstance(decoded, dict) and isinstance(decoded.get("result"), dict):
        found: dict[str, Any] = decoded["result"]
        return found
    raise refusal(answer)


def refusal(answer: bytes) -> Refusal:
    """Decode ``{"error": {"error": CODE, "message": …, "why": …, "next_step": …}}``."""
    try:
        fields = json.loads(answer)["error"]
        code, message = str(fields["error"]), str(fields["message"])
    except (ValueError, KeyError, TypeError):
        return Refusal(*told("answer_malformed"))
    return Refusal(code, message, str(fields.get("why", "")), str(fields.get("next_step", "")))
