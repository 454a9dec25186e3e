"""Attestations not to be believed, each for its own cause; then a true one."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from portal import config as configuration
from portal.ca.attestation import Expected, Roots, roots, verify
from portal.ca.x509 import spki
from portal.config import ConfigError
from protocol.errors import InlayError
from protocol.messages import KeyPinPolicy, KeyTouchPolicy
from tests.support.attesting_maker import YEARS, Maker, certificate, der, key, pem

NOW = int(time.time())
MAKER, KEY, OTHER = Maker(), key().public_key(), key().public_key()
TRUSTED = roots([MAKER.root])
PAST = datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC)
COMING = datetime.datetime.fromtimestamp(NOW + 3600, datetime.UTC)


def judged(
    statement: bytes,
    issuer: bytes | None = None,
    *,
    slot: str = "9A",
    trusted: Roots = TRUSTED,
    public: Any = KEY,
    pin: KeyPinPolicy | None = None,
    touch: KeyTouchPolicy | None = None,
) -> str:
    expected = Expected(slot, spki(public), 42, pin, touch)
    return verify(statement, der(MAKER.issuer) if issuer is None else issuer, expected, trusted, NOW)


def refused(statement: bytes, issuer: bytes | None = None, **changes: Any) -> str:
    with pytest.raises(InlayError) as caught:
        judged(statement, issuer, **changes)
    assert caught.value.fields == {"slot": changes.get("slot", "9A")}
    return caught.value.code


# --- who says it


def test_a_chain_that_looks_the_same_and_is_forged() -> None:
    forger = Maker()
    assert refused(forger.statement("9A", KEY), der(forger.issuer)) == "attestation_untrusted"
    assert refused(forger.statement("9A", KEY)) == "attestation_untrusted"


def test_without_a_root_nobody_is_believed() -> None:
    assert refused(MAKER.statement("9A", KEY), trusted=Roots()) == "attestation_untrusted"


@pytest.mark.parametrize(
    "card", [{"ca": False, "path_length": None}, {"ca": None}, {"usage": False}, {"hashed": hashes.SHA224()}]
)
def test_a_card_that_may_sign_nothing(card: dict[str, Any]) -> None:
    other = Maker(**card)
    found = refused(other.statement("9A", KEY), der(other.issuer), trusted=roots([other.root]))
    assert found == "attestation_untrusted"


def test_a_key_of_the_card_that_signs_for_it() -> None:
    """A statement isn't an authority: what a slot's key has signed is nothing, though its own chain is right."""
    slot = key()
    real = certificate(
        "YubiKey PIV Attestation 9a",
        slot.public_key(),
        "Card",
        MAKER.card_key,
        ca=True,
        said={"3": b"\5\7\1", "7": b"\2\1\x2a", "8": b"\2\1"},
    )
    made = certificate(
        "YubiKey PIV Attestation 9a",
        KEY,
        "YubiKey PIV Attestation 9a",
        slot,
        ca=None,
        said={"3": b"\5\7\1", "7": b"\2\1\x2a", "8": b"\2\1"},
    )
    assert (
        refused(der(made), der(real)) == "attestation_untrusted"
    )  # the card may sign for no authority below it
    assert refused(der(real), public=slot.public_key()) == "attestation_untrusted"  # and a statement is none


def test_an_extension_that_has_to_be_understood_and_isnt() -> None:
    assert refused(MAKER.statement("9A", KEY, critical=True)) == "attestation_untrusted"


@pytest.mark.parametrize("which", ["card", "statement"])
@pytest.mark.parametrize("when", [{"end": PAST}, {"begin": COMING}])
def test_what_is_not_valid_now(which: str, when: dict[str, Any]) -> None:
    if which == "statement":
        assert refused(MAKER.statement("9A", KEY, **when)) == "attestation_expired"
        return
    other = Maker(**when)
    found = refused(other.statement("9A", KEY), der(other.issuer), trusted=roots([other.root]))
    assert found == "attestation_expired"


# --- what it says


def test_another_key_and_another_slot() -> None:
    assert (
        refused(MAKER.statement("9A", OTHER)) == "attestation_other_key"
    )  # replayed for a key made elsewhere
    assert refused(MAKER.statement("9C", KEY)) == "attestation_other_slot"
    assert refused(MAKER.statement("9A", KEY), slot="9C") == "attestation_other_slot"


def test_another_card_of_the_same_maker() -> None:
    assert refused(MAKER.statement("9A", KEY, serial=43)) == "attestation_other_card"


@pytest.mark.parametrize("raw", [b"\2\1\xaa", b"\2\2\x2a", b"\4\1\x2a", b"\2\0", b"", b"\2\1\x2a\0"])
def test_a_serial_number_that_is_none(raw: bytes) -> None:
    said = {"3": b"\5\7\1", "7": raw, "8": b"\2\1"}
    assert refused(MAKER.statement("9A", KEY, said=said)) == "attestation_other_card"


@pytest.mark.parametrize(
    ("slot", "policy"),
    [
        ("9A", b"\1\1"),
        ("9A", b"\0\0"),
        ("9A", b"\2"),
        ("9A", b"\2\1\1"),
        ("9A", b"\2\x09"),
        ("9C", b"\2\1"),
        ("9D", b"\1\1"),
    ],
)
def test_a_key_that_works_without_the_pin(slot: str, policy: bytes) -> None:
    assert refused(MAKER.statement(slot, KEY, policy=policy), slot=slot) == "attestation_policy"


@pytest.mark.parametrize(
    ("slot", "pin", "touch", "policy"),
    [
        ("9A", KeyPinPolicy.ALWAYS, None, b"\2\1"),
        ("9A", KeyPinPolicy.ONCE, None, b"\3\1"),
        ("9E", KeyPinPolicy.ONCE, None, b"\1\1"),
        ("9E", KeyPinPolicy.NEVER, None, b"\2\1"),
        ("9A", None, KeyTouchPolicy.ALWAYS, b"\2\1"),
        ("9A", None, KeyTouchPolicy.ALWAYS, b"\2\3"),
        ("9A", None, KeyTouchPolicy.CACHED, b"\2\2"),
        ("9A", None, KeyTouchPolicy.NEVER, b"\2\2"),
        ("9A", None, KeyTouchPolicy.ALWAYS, b"\1\2"),
    ],
)
def test_a_key_with_other_policies_than_were_ordered(
    slot: str, pin: KeyPinPolicy | None, touch: KeyTouchPolicy | None, policy: bytes
) -> None:
    statement = MAKER.statement(slot, KEY, policy=policy)
    assert refused(statement, slot=slot, pin=pin, touch=touch) == "attestation_policy"


@pytest.mark.parametrize(
    ("slot", "pin", "touch", "policy"),
    [
        ("9A", KeyPinPolicy.ALWAYS, KeyTouchPolicy.CACHED, b"\3\3"),
        ("9A", KeyPinPolicy.ALWAYS, KeyTouchPolicy.NEVER, b"\5\1"),
        ("9A", KeyPinPolicy.ONCE, None, b"\4\2"),
        ("9E", KeyPinPolicy.NEVER, KeyTouchPolicy.ALWAYS, b"\1\2"),
    ],
)
def test_a_key_with_the_policies_that_were_ordered(
    slot: str, pin: KeyPinPolicy, touch: KeyTouchPolicy | None, policy: bytes
) -> None:
    assert judged(MAKER.statement(slot, KEY, policy=policy), slot=slot, pin=pin, touch=touch) == "5.7.1"


@pytest.mark.parametrize("firmware", [b"\4\1\0", b"\4\2\6", b"\4\3\4"])
def test_rsa_keys_of_firmware_that_makes_weak_ones(firmware: bytes) -> None:
    weak = rsa.generate_private_key(65537, 2048).public_key()
    assert refused(MAKER.statement("9A", weak, firmware=firmware), public=weak) == "attestation_firmware"
    assert judged(MAKER.statement("9A", weak, firmware=b"\4\3\5"), public=weak) == "4.3.5"
    assert judged(MAKER.statement("9A", KEY, firmware=firmware)) == ".".join(map(str, firmware))


def test_what_says_no_firmware_or_is_no_certificate() -> None:
    said = {"7": b"\2\1\x2a", "8": b"\2\1"}
    assert refused(MAKER.statement("9A", KEY, said=said)) == "attestation_unreadable"
    assert refused(MAKER.statement("9A", KEY)[:-1]) == "attestation_unreadable"


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes(data: bytes, leaf: bool) -> None:
    good = MAKER.statement("9A", KEY)
    found = refused(data) if leaf else refused(good, data)
    assert found == "attestation_unreadable"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_is_believed_to_be_another_statement(at: int, change: int) -> None:
    good = bytearray(MAKER.statement("9A", KEY))
    good[at % len(good)] ^= change
    with pytest.raises(InlayError):
        judged(bytes(good))


# --- the makers' certificates


def between(path_length: int | None) -> tuple[Maker, x509.Certificate]:
    """A maker whose cards are signed by an authority below its root."""
    maker, middle = Maker(), key()
    maker.issuer = certificate("Card", maker.card_key.public_key(), "Middle", middle, ca=True, path_length=0)
    made = certificate(
        "Middle", middle.public_key(), "Maker", maker.root_key, ca=True, path_length=path_length
    )
    return maker, made


def test_an_authority_that_may_have_no_other_below_it_and_one_that_nobody_configured() -> None:
    maker, middle = between(path_length=0)
    statement, issuer = maker.statement("9A", KEY), der(maker.issuer)
    assert refused(statement, issuer, trusted=roots([maker.root, middle])) == "attestation_untrusted"
    assert refused(statement, issuer, trusted=roots([maker.root])) == "attestation_untrusted"


def test_an_authority_between_root_and_card() -> None:
    maker, middle = between(path_length=1)
    assert (
        judged(maker.statement("9A", KEY), der(maker.issuer), trusted=roots([middle, maker.root])) == "5.7.1"
    )


def written(folder: Path, name: str = "makers") -> configuration.Config:
    return configuration.Config(
        origin="https://portal.test",
        name="P",
        database="x",
        key_file="k",
        attestation_roots=str(folder / name),
    )


def _no_root() -> bytes:
    return pem(MAKER.issuer)


def _no_authority() -> bytes:
    return pem(MAKER.root, certificate("A", KEY, "Maker", MAKER.root_key, ca=False))


@pytest.mark.parametrize("content", [lambda: b"", lambda: b"no certificate", _no_root, _no_authority])
def test_a_file_of_makers_that_holds_something_else_stops_the_portal(
    tmp_path: Path, content: Callable[[], bytes]
) -> None:
    (tmp_path / "makers").write_bytes(content())
    with pytest.raises(ConfigError) as caught:
        written(tmp_path).trusted_makers()
    assert caught.value.where == str(tmp_path / "makers")


def test_a_folder_that_is_empty_and_a_file_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "makers").mkdir()
    for name in ("makers", "nothing"):
        with pytest.raises(ConfigError):
            written(tmp_path, name).trusted_makers()


def test_a_folder_of_makers_and_none(tmp_path: Path) -> None:
    other = Maker()
    (tmp_path / "makers").mkdir()
    (tmp_path / "makers" / "a.pem").write_bytes(pem(MAKER.root))
    (tmp_path / "makers" / "b.pem").write_bytes(pem(other.root, other.issuer))
    found = written(tmp_path).trusted_makers()
    assert (found.anchors, found.between) == ((MAKER.root, other.root), (other.issuer,))
    assert judged(MAKER.statement("9A", KEY), trusted=found) == "5.7.1"
    plain = configuration.Config(origin="https://portal.test", name="P", database="x", key_file="k")
    assert not plain.trusted_makers()


def test_dates_that_are_the_roots_own_count_too() -> None:
    old = Maker()
    end = datetime.datetime.now(datetime.UTC) - YEARS / 2
    root = certificate("Maker", old.root_key.public_key(), "Maker", old.root_key, ca=True, end=end)
    assert refused(old.statement("9A", KEY), der(old.issuer), trusted=roots([root])) == "attestation_expired"


def test_a_true_statement_is_believed() -> None:
    assert judged(MAKER.statement("9A", KEY)) == "5.7.1"
    assert judged(MAKER.statement("9C", KEY), slot="9C") == "5.7.1"
    assert judged(MAKER.statement("9E", KEY, policy=b"\1\1"), slot="9E") == "5.7.1"
