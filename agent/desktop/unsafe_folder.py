"""What a person is told of a folder that the agent doesn't use because it isn't theirs alone."""

from __future__ import annotations

import os
import shlex

from agent.desktop import paths
from agent.desktop.agent_socket import AgentUnreachable


def explained(error: paths.UnsafePath) -> AgentUnreachable:
    """The cause for a folder, with its path and what mends it."""
    path = error.path
    if os.path.dirname(paths.socket_path()) == path:
        return AgentUnreachable("socket_unsafe", path=path, reason=error.reason)
    if error.reason == "type":
        return AgentUnreachable("folder_is_none", path=path)
    if error.reason == "owner":
        return AgentUnreachable("folder_foreign", path=path)
    return AgentUnreachable("folder_open_to_others", path=path, quoted=shlex.quote(path))


def explain_start() -> AgentUnreachable | None:
    """Look at the agent's folders as it does, for its starter; None where they are as they should be.

    What is said comes from this process's own look: the agent tells its starter a status and no text.
    """
    from agent.folders import user_folders  # late: nothing else of the commands needs it

    try:
        user_folders()
    except paths.UnsafePath as error:
        return explained(error)
    except OSError:
        return None
    return None
