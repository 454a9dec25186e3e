"""The doctor's findings about service, readers and cards, cut down to what a page may know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, cast, get_args

from agent import card_map
from agent.card_map import CardMap
from agent.doctor import readers
from agent.doctor.readers import Card
from protocol.messages import ComputerFinding
from protocol.page_findings import FindingCode

_TOLD: Final = frozenset(get_args(FindingCode))
_QUIET: Final = "reader_ready"
"""The page follows the readers themselves live."""
_MAX_NAME: Final = 200
_MAX_FINDINGS: Final = 128


def examine(machine: Path) -> list[ComputerFinding]:
    """Look at service, readers and cards: nothing is changed, and no try is spent. It may take seconds for each card.

    Args:
        machine: the administrator's folder.
    """
    seen, ports, kinds = readers.see(), readers.see_ports(), card_map.load(machine)
    virtual = sum(any(slot.is_reader(reader.name) for slot in ports.slots) for reader in seen.readers or ())
    found = [_service(finding.code) for finding in readers.judge_service(seen)]
    found += [
        ComputerFinding(code=cast(FindingCode, finding.code))
        for finding in readers.judge_readers(seen, virtual)
        if finding.code != _QUIET
    ]
    for card in readers.look_at_cards(seen, kinds):
        found += of_card(card, kinds, machine)
    return found[:_MAX_FINDINGS]


def _service(code: str) -> ComputerFinding:
    if code == "pcsc_refused":
        return ComputerFinding(code="service_refused")
    return ComputerFinding(code=cast(FindingCode, code) if code in _TOLD else "service_failing")


def of_card(card: Card, kinds: CardMap, machine: Path) -> list[ComputerFinding]:
    """What a page is told of one card."""
    chosen = None if card.shown is None else kinds.choose(card.shown)
    return [
        ComputerFinding(
            code=cast(FindingCode, finding.code),
            reader=card.reader[:_MAX_NAME],
            kind=None if chosen is None else chosen[0].name[:_MAX_NAME],
            driver=None if chosen is None else chosen[0].driver,
        )
        for finding in readers.judge_cards([card], replace(kinds, troubles=()), machine)
    ]
