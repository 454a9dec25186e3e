"""Everything that `inlay doctor` looks at, in the order in which it is told."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from agent import card_map
from agent.doctor import agent_side, pcsc_clients, readers
from agent.doctor.agent_side import Answered
from agent.doctor.findings import Finding
from agent.folders import APPLICATION, Folders


def folders() -> Folders:
    """The agent's folders, without making them: looking changes nothing."""
    return Folders(
        Path(platformdirs.user_config_dir(APPLICATION)), Path(platformdirs.user_state_dir(APPLICATION))
    )


def examine(where: Folders, answered: Answered) -> list[Finding]:
    """Look at everything.

    Args:
        where: the agent's folders.
        answered: what a running agent said.
    """
    seen, ports, kinds = readers.see(), readers.see_ports(), card_map.load(where.machine)
    cards = readers.look_at_cards(seen, kinds)
    virtual = sum(any(slot.is_reader(reader.name) for slot in ports.slots) for reader in seen.readers or ())
    running = answered.facts is not None or answered.problem is not None
    return [
        *agent_side.judge_agent(answered),
        *readers.judge_service(seen),
        *readers.judge_readers(seen, virtual),
        *readers.judge_cards(cards, kinds, where.machine),
        *readers.judge_clients(cards, pcsc_clients.clients_of(readers.SOCKET)),
        *readers.judge_ports(ports),
        *agent_side.judge_links(),
        *agent_side.judge_pages(running=running),
        *agent_side.judge_portals(where),
        *agent_side.judge_keys(where),
    ]
