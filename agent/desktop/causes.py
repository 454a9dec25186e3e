"""Why a command, a link or the window ends on this side of the agent: one table, one code for each cause.

What the agent answers has its texts in ``protocol.errors``. These causes are of the way to it, where no agent can
answer; they never travel, and no code of theirs is one of the protocol's. `docs/support.md` lists them.

Builtin types alone: this is on the path from a click.
"""

from __future__ import annotations

_AGENT = "Inlay's agent can't be reached."
_NOT_STARTED = "Inlay's agent doesn't start."
_LINKS = "inlay: links don't open Inlay."
_RESTART = "Restart the agent: inlay agent --stop, then run: inlay agent"
_LOOK = "Run “inlay agent” in a terminal to see what it says."
_REGISTER = "Run: inlay link register"

TABLE = {
    "agent_unreachable": (_AGENT, "Connecting to {path} failed: {reason}.", _RESTART),
    "agent_not_started": (_AGENT, "It was started and ended at once (exit status {status}).", _LOOK),
    "folder_is_none": (
        _NOT_STARTED,
        "{path} is not a folder.",
        "Rename or remove that file, then try again.",
    ),
    "folder_foreign": (
        _NOT_STARTED,
        "{path}, where your cards and keys are kept, belongs to another user.",
        "Have an administrator look at it: who owns that folder can put other files in the place of yours.",
    ),
    "folder_open_to_others": (
        _NOT_STARTED,
        "Others than you may write to {path}, where your cards and keys are kept.",
        "Run chmod go-w {quoted} and try again; if you don't know why others may, ask an administrator first.",
    ),
    "agent_not_listening": (_AGENT, "It was started and did not listen within {seconds} seconds.", _LOOK),
    "agent_silent": (
        _AGENT,
        "It took the request and gave no answer within {seconds} seconds.",
        _RESTART,
    ),
    "agent_not_ended": (
        "Inlay's agent has not ended yet.",
        "It was told to, and still runs after {seconds} seconds.",
        "Wait a little; inlay agent --stop then says whether it still runs.",
    ),
    "autostart_foreign": (
        "Starting at log-in was not changed.",
        "{path} is not Inlay's own file.",
        "Remove or rename that file, then try again.",
    ),
    "autostart_broken": (
        "Inlay's agent does not start at log-in.",
        "{entry} starts a program that is not there.",
        "Run inlay autostart on, which writes it anew.",
    ),
    "autostart_unwritable": (
        "Starting at log-in was not changed.",
        "{path} can't be written: {reason}.",
        "Make room on the disk or check the rights of that folder, then try again.",
    ),
    "agent_stopped": (
        "Inlay's agent has stopped.",
        "The program behind this window ended before the request was finished.",
        "Go back to the web page: it says how the request stands. Then start again from there.",
    ),
    "answer_malformed": (
        "The agent's answer could not be read.",
        "The command and the running agent are of different versions.",
        "Restart the agent: inlay agent --stop, then run the command again.",
    ),
    "socket_unsafe": (
        _AGENT,
        "{path} is not private to you ({reason}).",
        "Nothing was sent. Remove that folder (or have an administrator look at it), then try again.",
    ),
    "socket_foreign": (
        _AGENT,
        "Another user's program listens at {path}.",
        "Nothing was sent. Have an administrator look at it.",
    ),
    "arguments_refused": (
        "This link can't be opened.",
        "Something other than a single link came with it, and flags are not accepted here.",
        "Go back to the page and click Open Inlay again. In a terminal: inlay open -- LINK",
    ),
    "portal_ambiguous": (
        "It is not clear which portal the code is from.",
        "{count} portals are trusted.",
        "Name it: inlay code --portal PORTAL CODE",
    ),
    "link_entry_missing": (_LINKS, "There is no desktop entry for Inlay.", _REGISTER),
    "link_entry_outdated": (_LINKS, "{path} is not of this version.", _REGISTER),
    "link_launcher_missing": (_LINKS, "{entry} starts a program that is not there.", _REGISTER),
    "link_interpreter_missing": (
        _LINKS,
        "{program} needs {interpreter}, which is not there.",
        _REGISTER,
    ),
    "link_tools_missing": (
        _LINKS,
        "xdg-mime is not installed.",
        "Install the package xdg-utils, then run: inlay link register",
    ),
    "link_no_default": (_LINKS, "No program is set to open these links.", _REGISTER),
    "link_other_default": (
        _LINKS,
        "Another program, {program}, is set to open these links.",
        "If that is not what you want, run: inlay link register",
    ),
}
"""Code → what happened, why, and what to do next; ``{field}`` is filled in by `told`."""


def told(code: str, **fields: str | int | None) -> tuple[str, str, str, str]:
    """A cause as a person is told it.

    Args:
        code: key of ``TABLE``.
        fields: every placeholder of its text.

    Returns:
        The code, what happened, why, and what to do next.

    Raises:
        KeyError: no such code, or a placeholder without its field.
    """
    happened, why, next_step = TABLE[code]
    return code, happened, why.format_map(fields), next_step.format_map(fields)
