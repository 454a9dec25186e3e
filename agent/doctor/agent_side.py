"""Links, pages, portals, keys, and the agent itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent import keys_system
from agent.config import machine_policy
from agent.desktop import url_handler
from agent.doctor.findings import Finding, finding
from agent.folders import Folders
from agent.peer import holder_of
from agent.trust import TrustStore
from protocol.errors import InlayError
from protocol.loopback_ports import PORTS, WELL_KNOWN

_SECONDS: Final = 1.0
_MAX_BODY: Final = 1024


@dataclass(frozen=True, slots=True)
class Answered:
    """What the agent answered.

    Attributes:
        facts: its answer to ``diagnose``; None when none runs.
        problem: happened, why and next step, when one runs and doesn't answer as it should.
    """

    facts: Mapping[str, Any] | None
    problem: tuple[str, str] | None = None


def judge_agent(answered: Answered) -> list[Finding]:
    """How the agent is, which virtual cards it could not put into a reader, and what concerns them all."""
    if answered.problem is not None:
        why, next_step = answered.problem
        return [finding("agent_unwell", why=why, next_step=next_step)]
    if answered.facts is None:
        return [finding("agent_rests")]
    found = [finding("agent_runs", version=str(answered.facts.get("version", "?")))]
    if answered.facts.get("traffic"):
        found.append(finding("agent_traffic"))
    for card in answered.facts.get("cards", []):
        problem = card.get("problem")
        if problem:
            found.append(
                finding(
                    "virtual_card_hidden",
                    label=str(card.get("label", "")),
                    why=str(problem),
                    next_step=str(card.get("next") or "Run inlay cards; it says more, and tries again."),
                )
            )
    for note in answered.facts.get("notes", []):
        words = {name: str(note.get(name, "")) for name in ("happened", "why", "next")}
        found.append(finding("virtual_cards_note", **words))
    return found


def judge_links() -> list[Finding]:
    """Whether a click on a link reaches Inlay."""
    status = url_handler.status()
    if status.problem is None:
        return [finding("link_works", entry=status.entry or "")]
    found = status.problem
    return [Finding(found.code, "links", "problem", found.happened, found.why, found.next_step)]


def judge_pages(*, running: bool) -> list[Finding]:
    """Whether pages reach the agent: asked as a page would, at each of its ports."""
    for port in PORTS:
        if _is_inlay(port):
            return [finding("page_reaches", port=port)]
    if not running:
        return [finding("page_rests")]
    return [finding("page_blocked", holder=holder_of(PORTS[0]))]


def judge_portals(folders: Folders) -> list[Finding]:
    """Which portals are trusted, and whether their keys can still be verified."""
    store = TrustStore(folders)
    found = []
    for entry in store.entries():
        names = {"name": entry.name, "portal": entry.portal}
        try:
            store.known_key_set(entry)
        except InlayError as error:
            found.append(finding("portal_stale", why=error.why, next_step=error.next_step, **names))
        else:
            found.append(finding("portal_trusted", fingerprint=entry.fingerprint, **names))
    return found or [finding("portal_none")]


def judge_keys(folders: Folders) -> list[Finding]:
    """How well keys can be kept; no window of the key store is opened for it."""
    problem = keys_system.problem_unasked()
    if problem is None:
        return [finding("keys_store")]
    if problem.code == "keystore_locked":
        return [finding("keys_locked")]
    return [finding("keys_file" if machine_policy(folders.machine).file_storage else "keys_none")]


def _is_inlay(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", WELL_KNOWN)
        answer = connection.getresponse()
        body = json.loads(answer.read(_MAX_BODY))
        return answer.status == http.HTTPStatus.OK and isinstance(body, dict) and "inlay" in body
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
