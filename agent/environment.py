"""Where this user's windows open: what the last command handed over, for orders that bring no environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.desktop.paths import ENVIRONMENT_ALLOWED, handed_over
from agent.ports import UserEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_VALUE: Final = 4096


def allowed(variables: Mapping[str, object]) -> dict[str, str]:
    """The allowed part of an environment that came from outside; everything else is dropped."""
    return {
        name: value
        for name, value in variables.items()
        if name in ENVIRONMENT_ALLOWED
        and isinstance(value, str)
        and 0 < len(value) <= _MAX_VALUE
        and value.isprintable()
    }


class LastEnvironment:
    """The environment of the desktop session that was last heard of."""

    def __init__(self) -> None:
        """Begin with the agent's own: started by the session, it knows its screen."""
        self._variables = handed_over(dict(os.environ))

    def learn(self, variables: dict[str, str]) -> None:
        """Remember an environment with a screen."""
        if variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY"):
            self._variables = variables

    def current(self) -> UserEnvironment:
        """What windows for pages are opened with."""
        return UserEnvironment(dict(self._variables))
