"""The simulated cards against the bytes that the host is tested by, so that both are not wrong in the same way.

Each case of the host's vectors is a card's state, the commands, and what a card of that state answers. Where a card of
a profile can be brought into that state it has to answer so, byte for byte; answers that no standard card gives (cut
short, another tag, an unknown status) are the host's to live with and no card's to give.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.cards.profiles import (
    AES_128,
    AES_192,
    AES_256,
    IMPORT,
    METADATA,
    MOVE,
    P_256,
    PROFILES,
    RSA_2048,
    SET_KEY,
    TDES,
    Profile,
)
from tests.cards.simulated import SimulatedCard

_VECTORS = Path(__file__).parents[1] / "vectors" / "piv_host" / "commands.json"
_WHOLE = json.loads(_VECTORS.read_text())
CASES: dict[str, dict[str, Any]] = {each["name"]: each for each in _WHOLE["cases"]}

Prepare = Callable[[SimulatedCard], None]
Fits = Callable[[Profile], bool]


def every(_profile: Profile) -> bool:
    return True


def takes(length: int) -> Fits:
    return lambda profile: length in profile.select


def gives(piece: int) -> Fits:
    """Its answers come in pieces of this size, whatever is asked for."""
    return lambda profile: profile.piece == piece and not profile.warns and not profile.exact


def absent(answer: str) -> Fits:
    return lambda profile: profile.absent == answer


def chains(profile: Profile) -> bool:
    return not profile.extended and not profile.trims


def has(instruction: int) -> Fits:
    return lambda profile: instruction in profile.yubico


def lacks(instruction: int) -> Fits:
    return lambda profile: instruction not in profile.yubico


def nothing(_card: SimulatedCard) -> None:
    """As it comes, and selected."""


def left(tries: int, which: str = "pin") -> Prepare:
    return lambda card: setattr(card, f"{which}_left", tries)


def managed(card: SimulatedCard) -> None:
    card.managed = True


def verified(card: SimulatedCard) -> None:
    card.pin_ok = True


def empty(tag: int) -> Prepare:
    return lambda card: void(card.objects.pop(tag, None))


def void(_value: object) -> None:
    """For what is done for its effect."""


def base_point(card: SimulatedCard) -> None:
    """The private key 1: its point is the curve's own base point."""
    card.keys[0x9A] = (P_256, ec.derive_private_key(1, ec.SECP256R1()))


def _standard_rsa() -> rsa.RSAPrivateKey:
    """The key whose signatures are the vectors'."""
    [key] = _WHOLE["keys"].values()
    n, e, d = (int(key[name], 16) for name in "ned")
    p, q = rsa.rsa_recover_prime_factors(n, e, d)
    public = rsa.RSAPublicNumbers(e, n)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


STANDARD_RSA = _standard_rsa()


def rsa_in_9a(card: SimulatedCard) -> None:
    card.keys[0x9A] = (RSA_2048, STANDARD_RSA)


def makes_rsa(card: SimulatedCard) -> None:
    card.rsa_keys = itertools.repeat(STANDARD_RSA)


def holds(tag: int, name: str) -> Prepare:
    """It has the object whose content a case expects to read."""
    return lambda card: card.objects.update({tag: bytes.fromhex(CASES[name]["result"])})


def certified(name: str) -> Prepare:
    """It has the certificate object of a case, as it is written there."""
    written = bytes.fromhex(CASES[name]["exchanges"][0][1])
    return lambda card: card.objects.update({0x5FC105: written[2:-2].removesuffix(bytes(5))})


def known(value: bytes) -> Prepare:
    """Its challenges and witnesses are this block."""
    return lambda card: setattr(card, "random", lambda size: value[:size])


def both(*steps: Prepare) -> Prepare:
    return lambda card: void([step(card) for step in steps])


def key_is(algorithm: int, value: bytes) -> Prepare:
    return lambda card: setattr(card, "keys_by_algorithm", {algorithm: value})


def other_pin(card: SimulatedCard) -> None:
    card.pin = b"999999".ljust(8, b"\xff")


def other_puk(card: SimulatedCard) -> None:
    card.puk = b"99999999"


def retired_key(card: SimulatedCard) -> None:
    card.keys[0x82] = (P_256, ec.derive_private_key(1, ec.SECP256R1()))


def plain(profile: Profile) -> bool:
    return profile.wrong_old == 0 and newer(profile)


def newer(profile: Profile) -> bool:
    return profile.tries_word == 0x63C0


def older(profile: Profile) -> bool:
    return not newer(profile)


def security(profile: Profile) -> bool:
    return profile.has_place(0x5FC106)


def alone(algorithm: int) -> Fits:
    return lambda profile: profile.management == (algorithm,)


def retired(profile: Profile) -> bool:
    return profile.retired > 0


def no_key_is(status: int) -> Fits:
    return lambda profile: profile.absent_key == status


def all_of(*conditions: Fits) -> Fits:
    return lambda profile: all(condition(profile) for condition in conditions)


def tries(pin: int | None = None, puk: int | None = None) -> Fits:
    return lambda profile: pin in (None, profile.pin_tries) and puk in (None, profile.puk_tries)


CHALLENGE = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
IN_ORDER = bytes(range(32))
TDES_KEY = bytes.fromhex("010203040506070801020304050607080102030405060708")
_CHANGE, _RESET, _AUTHENTICATE = "CHANGE REFERENCE DATA", "RESET RETRY COUNTER", "GENERAL AUTHENTICATE"
_FIPS = "external (FIPS 197, appendix C)"
_MUTUAL = "mutual authentication"
_RSA = f"{_AUTHENTICATE}: RSA-2048"
_FILLED = "GET DATA: certificate in an object that is filled up"

CHECKS: list[tuple[str, Fits, Prepare]] = [
    ("SELECT: eleven bytes", all_of(takes(11), lambda each: each.template == "plain"), nothing),
    ("SELECT: the template of a file (ISO/IEC 7816-4, 5.3.3)", lambda each: each.template == "file", nothing),
    ("GET DATA: no object", absent("6A82"), empty(0x5FC102)),
    ("GET DATA: empty object", absent("53009000"), empty(0x5FC102)),
    ("GET DATA: an object that the card hasn't (6A80)", absent("6A80"), empty(0x5FC102)),
    *(
        (name, gives(size), holds(0x5FC102, name))
        for size, name in (
            (256, "GET DATA: in pieces of 256 bytes (6100 says that there are as many or more)"),
            (255, "GET DATA: in pieces of 255 bytes"),
        )
    ),
    (
        "GET DATA: with a warning",
        lambda each: each.warns,
        lambda card: card.objects.update({0x5FC102: b"\xba\x01\x00"}),
    ),
    (_FILLED, lambda each: each.fills, certified(_FILLED)),
    ("PUT DATA: not authorised", every, nothing),
    ("PUT DATA: written", security, managed),
    ("PUT DATA: in two pieces", all_of(security, lambda each: not each.extended), managed),
    (
        "PUT DATA: deleted",
        security,
        both(managed, lambda card: card.objects.update({0x5FC106: b"\xba\x01\x00"})),
    ),
    ("PUT DATA: nothing to delete", lambda each: each.delete_absent == 0x6A82, managed),
    ("VERIFY: wrong", all_of(tries(pin=3), newer), other_pin),
    ("VERIFY: wrong, the tries as 630x", older, other_pin),
    ("VERIFY: wrong, the last try", newer, both(other_pin, left(1))),
    ("VERIFY: wrong (6300), none is left", older, both(other_pin, left(1))),
    ("VERIFY: blocked", newer, left(0)),
    ("VERIFY: right", every, nothing),
    ("tries: by VERIFY without data", all_of(lacks(METADATA), tries(pin=5)), nothing),
    ("tries: by VERIFY without data, as 630x", older, nothing),
    ("tries: by VERIFY without data, none as 6300", older, left(0)),
    ("tries: the PIN is verified, nothing is told", all_of(lacks(METADATA), newer), verified),
    (f"{_CHANGE}: wrong", plain, both(other_pin, left(2))),
    (f"{_CHANGE}: right", every, nothing),
    (f"{_CHANGE}: PUK blocked", all_of(plain, newer, lambda each: each.changes_puk), left(0, "puk")),
    (f"{_CHANGE}: PUK", lambda each: each.changes_puk, nothing),
    (f"{_RESET}: wrong PUK", plain, both(other_puk, left(3, "puk"))),
    (f"{_RESET}: PUK blocked", all_of(plain, newer), left(0, "puk")),
    (
        f"{_RESET}: wrong PUK (6300) of a card that tells tries as 630x",
        older,
        both(other_puk, left(1, "puk")),
    ),
    (f"{_RESET}: right", every, nothing),
    (f"{_AUTHENTICATE}: 3DES, external", alone(TDES), known(CHALLENGE)),
    (
        f"{_AUTHENTICATE}: 3DES, wrong key",
        all_of(alone(TDES), lambda each: each.wrong_management == 0x6982),
        both(known(CHALLENGE), key_is(TDES, IN_ORDER[:24])),
    ),
    (f"{_AUTHENTICATE}: no such algorithm", lambda each: TDES not in each.management, nothing),
    *(
        (
            f"{_AUTHENTICATE}: AES-{bits}, {_FIPS}",
            alone(number),
            both(known(CHALLENGE), key_is(number, value)),
        )
        for bits, number, value in (
            (128, AES_128, IN_ORDER[:16]),
            (192, AES_192, IN_ORDER[:24]),
            (256, AES_256, IN_ORDER),
        )
    ),
    (
        f"{_MUTUAL}: AES-128 (FIPS 197, appendix C.1)",
        alone(AES_128),
        both(known(CHALLENGE), key_is(AES_128, IN_ORDER[:16])),
    ),
    ("GENERATE: not authorised", every, nothing),
    (f"{_AUTHENTICATE}: the PIN is wanted", every, base_point),
    (f"{_AUTHENTICATE}: no key in the slot", no_key_is(0x6A88), verified),
    *(
        (f"{_AUTHENTICATE}: no key in the slot ({word:04X})", no_key_is(word), verified)
        for word in (0x6A80, 0x6A86, 0x6B00)
    ),
    (
        "GENERATE: RSA-2048 (CAVS 11.4, SigGen15, 2048 bits), in two pieces",
        gives(256),
        both(managed, makes_rsa),
    ),
    (
        f"{_RSA} (CAVS 11.4, SigGen15, 2048 bits, SHA-256)",
        all_of(chains, gives(256)),
        both(verified, rsa_in_9a),
    ),
    (f"{_RSA}, the PIN is wanted at the last piece", chains, rsa_in_9a),
    (f"{_RSA}, no key in the slot", all_of(chains, no_key_is(0x6A88)), verified),
    ("GET METADATA: of an RSA key, in two pieces", all_of(lambda each: each.metadata, gives(256)), rsa_in_9a),
    ("MOVE KEY: nothing to delete", all_of(has(MOVE), retired), managed),
    ("MOVE KEY: not authorised", has(MOVE), base_point),
    ("MOVE KEY: unknown", lacks(MOVE), managed),
    ("MOVE KEY: delete", all_of(has(MOVE), retired), both(managed, retired_key)),
    ("GET METADATA: of a key", lambda each: each.metadata, base_point),
    ("GET METADATA: of an empty slot, cut short", lambda each: each.cut_metadata, nothing),
    ("GET METADATA: no key (6A88)", lambda each: each.metadata and each.unknown_key == 0x6A88, nothing),
    ("GET METADATA: no key (6A86)", lambda each: each.metadata and each.unknown_key == 0x6A86, nothing),
    ("GET METADATA: unknown", lacks(METADATA), nothing),
    ("SET MANAGEMENT KEY: AES-128", all_of(has(SET_KEY), alone(AES_128)), managed),
    ("SET MANAGEMENT KEY: not authorised", has(SET_KEY), nothing),
    (
        "SET MANAGEMENT KEY: an algorithm the card hasn't",
        all_of(has(SET_KEY), lambda each: AES_128 not in each.management),
        managed,
    ),
    ("SET MANAGEMENT KEY: unknown", lacks(SET_KEY), managed),
    ("IMPORT KEY: P-256, the private key 1", has(IMPORT), managed),
    ("IMPORT KEY: not authorised", has(IMPORT), nothing),
    *(
        (f"IMPORT KEY: RSA-2048, {name}", all_of(has(IMPORT), chains), prepare)
        for name, prepare in (
            ("not authorised", nothing),
            ("a number that begins with a zero byte", managed),
        )
    ),
    ("IMPORT KEY: unknown", lacks(IMPORT), managed),
]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_card_answers_as_the_hosts_vectors_have_it(profile: Profile) -> None:
    checked = 0
    for name, fits, prepare in CHECKS:
        if not fits(profile):
            continue
        card = SimulatedCard(profile)
        card.selected = True
        prepare(card)
        for command, answer in CASES[name]["exchanges"]:
            assert card.transmit(bytes.fromhex(command)).hex().upper() == answer, (name, command)
        checked += 1
    assert checked >= 20


def test_each_of_these_vectors_fits_some_card() -> None:
    unused = [name for name, fits, _ in CHECKS if not any(map(fits, PROFILES))]
    assert unused == []
