"""The edges to the machine, piece by piece: /proc, reader configuration, CHUIDs, origins, logs, rates, device."""

from __future__ import annotations

import logging
import os
import socket
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clock, environment, keys_system
from agent.config import Policy, machine_policy
from agent.device import Device
from agent.errors import as_inlay_error, set_up_logging
from agent.handlers.registry import ORDERS, PAGE, PRIVATE
from agent.journal import JournalUnusableError
from agent.origins import HeaderRefused, MalformedHeader, check_origin, parse_origin
from agent.pcsc.slots import read_slots
from agent.peer import clients_of, holder_of, user_of
from agent.rates import RateLimit
from agent.sealing import SealBrokenError, Sealer
from protocol.errors import InlayError
from protocol.messages import LOOPBACK_METHODS, Order, StorageLevel
from protocol.traces import describe

# --- handlers


def test_every_method_of_the_loopback_socket_has_its_handler() -> None:
    assert PAGE.keys() == LOOPBACK_METHODS.keys()


def test_every_operation_of_an_order_has_its_handler() -> None:
    parameters = typing.get_type_hints(Order)["parameters"]
    assert ORDERS.keys() == set(typing.get_args(parameters) or [parameters])


def test_every_command_has_its_handler() -> None:
    commands = {
        "open",
        "code",
        "cards",
        "cards.change_pin",
        "cards.delete",
        "cards.show",
        "cards.unblock",
        "cards.window",
        "diagnose",
        "readers",
        "stop",
        "start_over",
        "start_over.confirm",
        "trust.add",
        "trust.confirm",
        "trust.list",
        "trust.remove",
    }
    assert PRIVATE.keys() == commands


# --- who is at the other end


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_knows_whose_connection_it_is(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listening, socket.socket(family) as client:
        listening.bind((address, 0))
        listening.listen()
        client.connect(listening.getsockname()[:2])
        server, peer = listening.accept()
        with server:
            own = server.getsockname()[:2]
            assert user_of(peer[:2], own) == os.geteuid()
            assert user_of((address, 1), own) is None
            assert user_of(own, own) is None
        assert f"process {os.getpid()}" in holder_of(listening.getsockname()[1])


def test_a_port_that_nobody_holds_is_nobodys() -> None:
    assert holder_of(1) == "an unknown program"


# --- readers


def test_only_vpcd_entries_that_listen_are_slots(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:0x8C7B\nLIBPATH /usr/lib/libifdvpcd.so\n'
        'FRIENDLYNAME "Dials out"\nDEVICENAME localhost:0x1000\nLIBPATH /usr/lib/libifdvpcd.so\n'
        'FRIENDLYNAME "Serial"\nDEVICENAME /dev/null:0x2000\nLIBPATH /usr/lib/libccidtwin.so\n'
        '# FRIENDLYNAME "Commented"\n#DEVICENAME /dev/null:0x3000\n'
        "LIBPATH /usr/lib/libifdvpcd.so\n"
    )
    (tmp_path / "b").write_text(
        'FRIENDLYNAME "Inlay Reader"\nDEVICENAME /dev/null:28304\nLIBPATH /x/libifdvpcd-inlay-a.so\n'
    )
    found = read_slots(tmp_path)
    assert [(slot.name, slot.number, slot.port) for slot in found] == [
        ("Inlay Reader", 0, 28304),
        ("Inlay Reader", 1, 28305),
        ("Virtual PCD", 0, 35963),
        ("Virtual PCD", 1, 35964),
    ]
    assert read_slots(tmp_path / "missing") == []


def test_readers_names_tell_the_slots_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('FRIENDLYNAME "R"\nDEVICENAME /dev/null:1\nLIBPATH vpcd\n')
    first, second = read_slots(tmp_path)
    assert first.is_reader("R 00 00")
    assert second.is_reader("R 03 01")
    assert not first.is_reader("R 00 01")
    assert not first.is_reader("Rx 00 00")


# --- origins


@given(st.text(max_size=60))
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    try:
        origin = parse_origin(text)
    except (MalformedHeader, HeaderRefused):
        return
    assert origin.scheme == "https"
    assert text.startswith("https://")


def test_the_default_port_may_be_left_out_on_either_side() -> None:
    assert check_origin(["https://portal.test"], ["https://portal.test:443"]) == "https://portal.test:443"
    assert check_origin(["https://portal.test:443"], ["https://portal.test"]) == "https://portal.test"
    with pytest.raises(HeaderRefused):
        check_origin(["https://portal.test:444"], ["https://portal.test"])
    with pytest.raises(HeaderRefused):
        check_origin(["https://sub.portal.test"], ["https://portal.test"])


# --- device


def keystore(monkeypatch: pytest.MonkeyPatch, error: InlayError) -> None:
    def failing() -> object:
        raise error

    monkeypatch.setattr(keys_system, "_trusted_backend", failing)


def test_a_locked_key_store_is_said_and_nothing_lower_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore(monkeypatch, keys_system.KeystoreLocked())
    device = Device(tmp_path, allow_file=True)
    for ask in (device.key, device.levels, lambda: device.sealer("x")):
        with pytest.raises(InlayError) as caught:
            ask()
        assert caught.value.code == "keystore_locked"
    assert not (tmp_path / "secret-file").exists()


def test_without_key_store_and_file_there_is_no_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore(monkeypatch, keys_system.KeystoreMissing())
    device = Device(tmp_path, allow_file=False)
    assert device.levels() == []
    with pytest.raises(InlayError) as caught:
        device.key()
    assert caught.value.code == "storage_refused"


def test_the_device_key_is_made_once_and_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore(monkeypatch, keys_system.KeystoreMissing())
    first = Device(tmp_path, allow_file=True)
    key = first.key()
    assert first.levels() == [StorageLevel.FILE]
    assert Device(tmp_path, allow_file=True).key().thumbprint == key.thumbprint
    [path] = tmp_path.rglob("device-key.sealed")
    assert b"PRIVATE KEY" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    sealed = path.read_bytes()
    path.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(InlayError) as caught:
        Device(tmp_path, allow_file=True).key()
    assert caught.value.code == "device_secret_lost"


def test_what_is_sealed_opens_in_its_place_alone() -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(b"plain", "here")
    assert sealer.open(sealed, "here") == b"plain"
    other = Sealer(bytes(31) + b"\x01")
    for opener, data, place in (
        (sealer, sealed, "there"),
        (other, sealed, "here"),
        (sealer, sealed[:-1], "here"),
        (sealer, b"", "here"),
    ):
        with pytest.raises(SealBrokenError):
            opener.open(data, place)


# --- time, environment, rates, policy


def test_a_clock_a_day_off_is_refused_and_a_minute_off_is_noted() -> None:
    import time

    now = time.time()
    assert not clock.learn(now).warning
    assert clock.learn(now - 61).warning
    assert clock.learn(now + 61).warning
    for days in (-1.01, 1.01):
        with pytest.raises(InlayError) as caught:
            clock.learn(now + days * 86_400)
        assert caught.value.code == "clock_wrong"


def test_only_the_allowed_environment_is_taken() -> None:
    given_ = {"DISPLAY": ":0", "LD_PRELOAD": "/x.so", "PYTHONPATH": "/x", "LANG": "a\nb", "LC_ALL": 5}
    assert environment.allowed(given_) == {"DISPLAY": ":0"}


def test_the_last_screen_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    last = environment.LastEnvironment()
    assert not last.current().has_display
    last.learn({"DISPLAY": ":3"})
    last.learn({"LANG": "C"})
    assert last.current().variables["DISPLAY"] == ":3"


def test_a_rate_slides() -> None:
    now = [0.0]
    limit = RateLimit(2, 10.0, clock=lambda: now[0])
    assert [limit.allow("a") for _ in range(3)] == [True, True, False]
    assert limit.allow("b")
    now[0] = 10.0
    assert limit.allow("a")


def test_no_policy_is_the_default(tmp_path: Path) -> None:
    assert machine_policy(tmp_path) == Policy()
    (tmp_path / "policy.json").symlink_to("/dev/zero")
    assert machine_policy(tmp_path, os.geteuid()) == Policy(
        user_trust=False, file_storage=False, pin_lapse_minutes=1
    )


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [("1", 60.0), ("1440", 86400.0), ("0", None), ("-1", 60.0), ("1441", 60.0), ('"x"', 60.0)],
)
def test_how_long_an_unused_pin_lasts(tmp_path: Path, minutes: str, seconds: float | None) -> None:
    """What can't be meant is taken as the strictest."""
    (tmp_path / "policy.json").write_text(f'{{"pin_lapse_minutes": {minutes}}}')
    assert machine_policy(tmp_path, os.geteuid()).pin_lapse_seconds == seconds


def test_an_unused_pin_lasts_a_quarter_of_an_hour() -> None:
    assert Policy().pin_lapse_seconds == 900.0


def test_who_is_connected_to_a_port_is_known() -> None:
    with socket.socket() as listening, socket.socket() as client:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert clients_of([port]) == {}
        client.connect(("127.0.0.1", port))
        assert clients_of([port, 1]) == {port: os.geteuid()}


# --- errors and logs


def test_foreign_errors_become_rows_without_their_text(caplog: pytest.LogCaptureFixture) -> None:
    secret = "PIN 123456"
    assert as_inlay_error(ValueError(secret)).code == "internal"
    assert as_inlay_error(OSError(28, secret)).code == "card_write_failed"
    assert as_inlay_error(SealBrokenError("x")).code == "device_secret_lost"
    assert as_inlay_error(JournalUnusableError("damaged")).fields == {"cause": "damaged"}
    same = InlayError("order_expired")
    assert as_inlay_error(same) is same
    assert secret not in caplog.text
    assert secret not in describe(ValueError(secret))


def test_the_log_never_holds_an_exceptions_text(tmp_path: Path) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    path = tmp_path / "log" / "agent.log"
    try:
        set_up_logging(path, to_terminal=False)
        try:
            int("PIN 123456")
        except ValueError:
            logging.getLogger("x").exception("failed")
        written = path.read_text()
    finally:
        for handler in [item for item in root.handlers if item not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
    assert "failed" in written
    assert "ValueError" in written
    assert "123456" not in written
    assert path.stat().st_mode & 0o077 == 0
