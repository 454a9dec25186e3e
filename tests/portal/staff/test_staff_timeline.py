"""Every action that the portal writes to its audit log has words for people."""

from __future__ import annotations

import re
from pathlib import Path

import portal
from portal.staff.timeline import WHAT

_SOURCES = sorted(Path(portal.__file__).parent.rglob("*.py"))
_ACTION = re.compile(r"""(?:action=|_note\([^"']*|Change\.\w+: )["']([a-z_]+\.[a-z_]+)["']""")


def test_every_action_has_its_words_and_no_words_are_left_over() -> None:
    written = {action for path in _SOURCES for action in _ACTION.findall(path.read_text("utf-8"))}
    assert len(written) > 30
    missing = {action for action in written if not action.endswith(".state")} - set(WHAT)
    assert missing == set()
    texts = "\n".join(path.read_text("utf-8") for path in _SOURCES if path.name != "timeline.py")
    assert {action for action in WHAT if f'"{action}"' not in texts} == set()
