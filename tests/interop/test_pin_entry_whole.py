"""The option *PIN: where it is typed*, from the page to the keys of a reader: real portal, agent, pcscd."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.pcsc import scard
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes.check_card import CheckCard
from portal.processes.verify_pin import VerifyCardPin
from tests.interop.test_puk_and_block_whole import done
from tests.interop.test_puk_verify_block_over_vpcd import CONSENT
from tests.interop.test_temporary_card_whole import NEW, assigned, extended
from tests.support.pin_pad_reader import READER, PinPad, pin_pad
from tests.support.processes import wait_until
from tests.support.virtual_cards import factory_card

if TYPE_CHECKING:
    from agent.vsc.card import VirtualCard
    from tests.support.attack_stage import Stage
    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
def pad(pcscd: PrivatePcscd, stage: Stage, card: VirtualCard) -> Iterator[PinPad]:
    """A reader with keys, and the card in it; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder, pin_pad(Path(folder), pcscd, card) as running:
        wait_until(lambda: any(each.name == READER and each.present for each in scard.list_readers()), "it")
        yield running


async def test_what_the_option_says_is_asked_for_at_the_reader_and_nowhere_else(
    stage: Stage, pad: PinPad, card: VirtualCard
) -> None:
    kit = stage.kit
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, card.details().serial)
    root = await kit.person("rita@example.org", [Role.ADMINISTRATOR])
    await kit.save_options(root, TEMPORARY_CARDS, TempCardsPINEntry=["pad"])
    # a new PIN by a PUK that the portal keeps: the window's, whatever the option says
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    assert pad.asked == []
    kit.clock.now += 1

    pad.typed += [b"000000", *[NEW] * 8]
    assert await extended(stage, olga, found, [CONSENT], number=False) == "finished"
    for process in (VerifyCardPin.name, CheckCard.name):
        kit.clock.now += 1
        pad.asked.clear()
        assert await done(stage, ada, process, found, {}, [CONSENT]) == "finished"
        assert len(pad.asked) == 1
    assert [len(window.asked) for window in stage.victim.windows.opened[-3:]] == [1, 1, 1]
    assert card.details().pin_tries == 3
