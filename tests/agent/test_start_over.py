"""A lost secret: refused where nothing is lost, put aside and never deleted, and moved back it is what it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent import start_over
from agent.device import Device
from agent.folders import Folders
from agent.journal_access import JournalAccess
from agent.start_over import StartOver
from agent.virtual_card_ports import CardOwner
from protocol.errors import InlayError
from protocol.messages import StorageLevel
from tests.support.agent_parts import cheap_cards, folders_in, running_agent
from tests.support.daemon_process import DaemonProcess
from tests.support.processes import wait_until

OWNER = CardOwner("portal.test", "order-1", "alex@example.org", 1_900_000_000)


@pytest.fixture
async def folders(tmp_path: Path, no_keystore: None, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """An agent's folders with an active card and a device key, at level file."""
    cheap_cards(monkeypatch)
    async with running_agent(tmp_path / "home") as agent:
        await agent.cards.make(OWNER, StorageLevel.FILE, "Card", bytearray(b"Zq7-91"), bytearray(b"12345678"))
        await agent.cards.activate(OWNER)
        agent.device.key()
        return agent.folders


def over(folders: Folders) -> tuple[StartOver, Device]:
    device = Device(folders.state, allow_file=True)
    return StartOver(folders.state, device, JournalAccess(folders.journal, device)), device


def lose(folders: Folders) -> bytes:
    [secret] = folders.state.rglob("device-secret.key")
    kept = secret.read_bytes()
    secret.unlink()
    return kept


def tree(folder: Path) -> dict[str, bytes]:
    """All files but SQLite's own, which come with reading."""
    files = (
        path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_nothing_is_put_aside_that_is_not_lost(folders: Folders) -> None:
    before = tree(folders.state)
    for act in (over(folders)[0].look, over(folders)[0].carry_out):
        with pytest.raises(InlayError) as caught:
            act()
        assert caught.value.code == "nothing_lost"
    assert tree(folders.state).keys() == before.keys()


def test_nothing_is_put_aside_on_an_empty_machine(tmp_path: Path, no_keystore: None) -> None:
    with pytest.raises(InlayError) as caught:
        over(folders_in(tmp_path / "other"))[0].look()
    assert caught.value.code == "nothing_lost"


def test_looking_changes_nothing_and_names_who_is_concerned(folders: Folders) -> None:
    lose(folders)
    before = tree(folders.state)
    found = over(folders)[0].look()
    assert found["cause"] == "device_secret_lost"
    [card] = found["cards"]
    assert (card["portal"], card["account"]) == ("portal.test", "alex@example.org")
    assert tree(folders.state) == before


async def test_what_is_put_aside_is_all_there_and_a_new_card_can_be_made(folders: Folders) -> None:
    secret = lose(folders)
    cards = {path.name: path.read_bytes() for path in folders.state.rglob("*.card")}
    starting, device = over(folders)
    with pytest.raises(InlayError):
        device.key()
    done = starting.carry_out()
    aside = Path(done["folder"])
    _check_all_there(aside, cards)
    assert device.key() is not None
    async with running_agent(folders.state.parent) as agent:
        assert await agent.cards.overview() == []
        await agent.cards.make(OWNER, StorageLevel.FILE, "New", bytearray(b"Zq7-91"), bytearray(b"12345678"))
    _move_back(folders, aside, secret)
    async with running_agent(folders.state.parent) as agent:
        [row] = await agent.cards.overview()
        assert (row["state"], row["account"]) == ("active", "alex@example.org")


def _check_all_there(aside: Path, cards: dict[str, bytes]) -> None:
    assert aside.stat().st_mode & 0o077 == 0
    assert {path.name: path.read_bytes() for path in aside.rglob("*.card")} == cards
    assert (aside / "journal.sqlite").exists()


def _move_back(folders: Folders, aside: Path, secret: bytes) -> None:
    """As the documentation for support says, once the old secret was found again."""
    for name in ("cards/file", "secret-file"):
        shutil.rmtree(folders.state / name)
    for path in folders.state.glob("journal.sqlite*"):
        path.unlink()
    (aside / "cards-file").rename(folders.state / "cards/file")
    (aside / "secret-file").rename(folders.state / "secret-file")
    for path in list(aside.glob("journal.sqlite*")):
        path.rename(folders.state / path.name)
    key = folders.state / "secret-file/device-secret.key"
    key.write_bytes(secret)
    key.chmod(0o600)


def test_an_altered_device_key_alone_is_put_aside(folders: Folders) -> None:
    [sealed] = folders.state.rglob("device-key.sealed")
    sealed.write_bytes(b"\x00" * 80)
    starting, device = over(folders)
    assert starting.look() == {"cause": "device_secret_lost", "cards": []}
    aside = Path(starting.carry_out()["folder"])
    assert [path.name for path in aside.iterdir()] == ["device-key.sealed"]
    assert device.key() is not None
    assert len(list((folders.state / "cards/file").glob("*.card"))) == 1


@pytest.mark.parametrize("cut", range(6))
def test_cut_anywhere_it_is_lost_as_before_or_begun_anew(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """The secret's marker goes last; a second attempt puts aside the rest, and nothing is gone."""
    lose(folders)
    cards = {path.name for path in folders.state.rglob("*.card")}
    moves = [0]
    real = start_over._move

    def move(source: Path, target: Path) -> None:
        moves[0] += 1
        if moves[0] > cut:
            raise OSError(5, "cut")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(start_over, "_move", move)
        if cut < 5:
            with pytest.raises(InlayError) as caught:
                over(folders)[0].carry_out()
            assert caught.value.code == "card_write_failed"
            assert over(folders)[0].look()["cause"] == "device_secret_lost"
        else:
            over(folders)[0].carry_out()
    if cut < 5:
        over(folders)[0].carry_out()
    assert {path.name for path in folders.state.rglob("*.card")} == cards
    assert over(folders)[1].key() is not None
    assert os.path.lexists(folders.state / "secret-file")


def test_the_running_agent_begins_anew(tmp_path: Path) -> None:
    """As `inlay start-over` asks it; a second time there is nothing to put aside."""
    agent = DaemonProcess(tmp_path).start()
    try:
        secret = agent.state / "secret-file/device-secret.key"
        wait_until(lambda: "device key" in agent.log(), "the device key", seconds=20)
        agent.stop()
        secret.unlink()
        agent.start()
        assert agent.ask_now("start_over", {})["result"] == {"cause": "device_secret_lost", "cards": []}
        folder = Path(agent.ask_now("start_over.confirm", {})["result"]["folder"])
        assert (folder / "secret-file/device-key.sealed").exists()
        assert agent.ask_now("start_over", {})["error"]["error"] == "nothing_lost"
        assert agent.ask_now("cards", {})["result"]["cards"] == []
        assert agent.stop() == 0
    finally:
        agent.stop()
    assert secret.exists()
