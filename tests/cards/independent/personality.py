"""What differs between kinds of PIV cards, as rows of data.

The rows are drawn from SP 800-73-4 and SP 800-78-4, from Yubico's documentation of its commands, and from what the
sources of PivApplet, OpenFIPS201, CanoKey and Nitrokey's PIV application do. A name with "-like" says that the row
has the traits of that card which a host comes across, not that it is that card in each bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tests.cards.independent import tlv

RID: Final = bytes.fromhex("A000000308")
PIX: Final = bytes.fromhex("000010000100")
AID: Final = RID + PIX

STANDARD_SLOTS: Final = frozenset({0x9A, 0x9C, 0x9D, 0x9E})
RETIRED_SLOTS: Final = frozenset(range(0x82, 0x96))
ATTESTATION: Final = 0xF9
STANDARD_OBJECTS: Final = frozenset(range(0x5FC101, 0x5FC124)) - {0x5FC104, 0x5FC10E} | frozenset(
    {0x5FC10E, 0x7E, 0x7F61}
)
YUBICO_OBJECTS: Final = frozenset(range(0x5FFF00, 0x5FFF16))
WITH_PIN: Final = frozenset({0x5FC103, 0x5FC108, 0x5FC109, 0x5FC121})
"""SP 800-73-4 part 1 table 2: read after VERIFY only."""

VERSION, SERIAL, METADATA, SET_KEY, IMPORT, RESET, ATTEST, MOVE, SET_TRIES = (
    0xFD,
    0xF8,
    0xF7,
    0xFF,
    0xFE,
    0xFB,
    0xF9,
    0xF6,
    0xFA,
)
MAKERS_3DES: Final = bytes.fromhex("0102030405060708" * 3)


@dataclass(frozen=True)
class Personality:
    """One kind of card.

    Attributes:
        name: how tests call it.
        atr: what it answers to a reset.
        template: its application property template.
        partial_names: lengths of a right-truncated AID that select it, beside the whole.
        short_le: whether a command that brings an answer may do without Le.
        extended: whether it takes extended lengths.
        t0: whether it speaks T=0, where a command carries data or Le, never both.
        exact_response: whether GET RESPONSE with more than there is left gets 6Cxx.
        many_left: SW2 of 61xx where 256 bytes or more are left.
        length_size: bytes of the lengths in the templates it makes, 0: the shortest.
        digits_only: whether a PIN is six to eight digits; else any six bytes or more.
        puk_digits: whether the same holds for a PUK.
        checks_verified: whether what VERIFY brings has to be well formed, before it is compared.
        pin_tries: tries of the PIN.
        puk_tries: tries of the PUK.
        global_pin: whether key reference 00 exists.
        puk_changes: whether CHANGE REFERENCE DATA takes 81.
        log_out: whether VERIFY with P1 = FF exists.
        blocked_status: what VERIFY without a PIN says when no try is left.
        last_try: what the wrong PIN that used up the last try gets.
        wrong_change: what a wrong PIN or PUK gets in CHANGE REFERENCE DATA and RESET RETRY COUNTER; 0: 63Cx.
        pin_length: what a PIN of another size than eight bytes gets.
        fresh_pin: whether "always" means that VERIFY comes right before; else that it came since the last use.
        strict_use: whether an EC key in 9D or a retired slot agrees, and does nothing else.
        chain_told: whether a command that breaks a chain gets 6883; else the pieces are dropped, and it is carried out.
        agreement_ends_pin: whether each use of 9D logs out.
        asking_logs_out: whether asking for a challenge or a witness ends management authentication.
        management: algorithm and value of the key 9B.
        other_management: algorithms that it may be set to.
        external: whether 9B authenticates the host by challenge and response alone.
        slots: key slots that exist.
        generates: key slots that GENERATE ASYMMETRIC KEY PAIR fills.
        algorithms: of keys in slots.
        short_digest: whether ECDSA takes a digest shorter than the order.
        retained: names of objects that can be written; others are refused.
        precreated: whether these objects are there from the start, empty, and read as ``empty_object``.
        discovery: whether it has a discovery object.
        empty_object: answer to GET DATA for an object without content, data and status.
        keeps_deleted: whether an object written with no content is then read as one.
        largest_object: bytes of an object's content.
        no_object: what PUT DATA gets for an object that can't be.
        no_key: what a key reference gets that doesn't exist.
        empty_key: what a slot gets that has no key.
        no_metadata: what GET METADATA gets for a slot without a key.
        wrong_management: what a wrong response or witness gets.
        vendor: instructions beyond the standard that it has.
        version: answer to the version command.
        serial: answer to the serial command.
        policies: whether GENERATE and IMPORT take PIN and touch policies.
        touch: whether there is something to touch, and so touch policies beside "never".
        reset_refused: what RESET gets while there are tries.
        reset_by_pin: whether a blocked PIN alone permits RESET.
        named: whether it makes itself a CHUID, a CCC and a key history, and at RESET others and another serial number.
    """

    name: str
    atr: bytes
    template: bytes
    partial_names: frozenset[int] = frozenset({9})
    short_le: bool = True
    extended: bool = False
    t0: bool = False
    exact_response: bool = False
    many_left: int = 0x00
    length_size: int = 0
    digits_only: bool = False
    puk_digits: bool = False
    checks_verified: bool = False
    pin_tries: int = 3
    puk_tries: int = 3
    global_pin: bool = False
    puk_changes: bool = True
    log_out: bool = True
    blocked_status: int = 0x6983
    last_try: int = 0x63C0
    wrong_change: int = 0
    pin_length: int = 0x6A80
    fresh_pin: bool = False
    strict_use: bool = True
    chain_told: bool = False
    agreement_ends_pin: bool = False
    asking_logs_out: bool = False
    management: tuple[int, bytes] = (0x03, MAKERS_3DES)
    other_management: frozenset[int] = frozenset({0x03})
    external: bool = True
    slots: frozenset[int] = STANDARD_SLOTS
    generates: frozenset[int] = STANDARD_SLOTS
    algorithms: frozenset[int] = frozenset({0x07, 0x11, 0x14})
    short_digest: bool = False
    retained: frozenset[int] = STANDARD_OBJECTS
    precreated: bool = False
    discovery: bool = True
    empty_object: tuple[bytes, int] = (b"", 0x6A82)
    keeps_deleted: bool = False
    largest_object: int = 3052
    no_object: int = 0x6A81
    no_key: int = 0x6A88
    empty_key: int = 0x6A86
    no_metadata: int = 0x6A88
    wrong_management: int = 0x6982
    vendor: frozenset[int] = frozenset()
    version: bytes = b""
    serial: bytes = b""
    policies: bool = False
    touch: bool = False
    reset_refused: int = 0x6985
    reset_by_pin: bool = False
    named: bool = False


def _template(*more: bytes, application: bytes = PIX, size: int = 0) -> bytes:
    """Application property template: SP 800-73-4 part 2 table 3."""
    authority = tlv.build(0x79, tlv.build(0x4F, RID))
    return tlv.build(0x61, tlv.build(0x4F, application), authority, *more, size=size)


def _algorithms(*identifiers: int) -> bytes:
    return b"".join(
        tlv.build(0xAC, tlv.build(0x80, bytes([one])), tlv.build(0x06, b"\0")) for one in identifiers
    )


PURE: Final = Personality(
    "pure 73-4",
    bytes.fromhex("3B8B800180F9A000000308000010 00C8"),
    _template(tlv.build(0x50, b"PIV test")),
    short_le=False,
    exact_response=True,
    digits_only=True,
    checks_verified=True,
    fresh_pin=True,
    global_pin=True,
    management=(0x08, bytes(range(0x40, 0x50))),
    slots=STANDARD_SLOTS | RETIRED_SLOTS,
    no_object=0x6A82,
    empty_object=(bytes.fromhex("5300"), 0x9000),
    precreated=True,
    keeps_deleted=True,
)
"""The standard and nothing else, as strict as it reads."""

PURE_T0: Final = replace(
    PURE,
    name="pure 73-4 over T=0",
    atr=bytes.fromhex("3BDB9600801F030031C06477E303008290 00C1"),
    t0=True,
    chain_told=True,
    management=(0x03, bytes(range(0x50, 0x68))),
    pin_tries=5,
    puk_tries=5,
    puk_changes=False,
    precreated=False,
    keeps_deleted=False,
    empty_object=(b"", 0x6A82),
    algorithms=frozenset({0x07, 0x11}),
    slots=STANDARD_SLOTS,
)
"""An older card with contacts, T=0, a 3DES key, whose PUK doesn't change."""

PIVAPPLET: Final = Personality(
    "PivApplet-like",
    bytes.fromhex("3BF91300008131FE454A434F5032343252 33A2"),
    _template(tlv.build(0x50, b"PivApplet"), _algorithms(0x03, 0x0C, 0x07, 0x11), application=AID, size=2),
    partial_names=frozenset({5, 9}),
    extended=True,
    many_left=0xFF,
    length_size=2,
    digits_only=True,
    puk_digits=True,
    pin_tries=5,
    fresh_pin=True,
    other_management=frozenset({0x03, 0x08, 0x0A, 0x0C}),
    slots=STANDARD_SLOTS | frozenset(range(0x82, 0x8D)),
    generates=STANDARD_SLOTS | frozenset(range(0x82, 0x8D)),
    algorithms=frozenset({0x06, 0x07, 0x11}),
    short_digest=True,
    retained=STANDARD_OBJECTS - {0x7E, 0x7F61} | {0x5FFF00, 0x5FFF01},
    discovery=False,
    no_key=0x6A86,
    no_metadata=0x6A86,
    wrong_management=0x6A80,
    vendor=frozenset({VERSION, SERIAL, METADATA, SET_KEY, IMPORT, RESET, SET_TRIES}),
    version=bytes([5, 4, 0]),
    serial=bytes.fromhex("80C0FFEE"),
    policies=True,
    reset_refused=0x6982,
    named=True,
)

OPENFIPS201: Final = Personality(
    "OpenFIPS201-like",
    bytes.fromhex("3BD518FF8191FE1FC38073C821100A"),
    _template(_algorithms(0x03, 0x07, 0x11)),
    partial_names=frozenset({5, 9}),
    extended=True,
    digits_only=True,
    checks_verified=True,
    pin_tries=6,
    puk_tries=10,
    last_try=0x6983,
    management=(0x08, bytes(range(0x60, 0x70))),
    external=False,
    fresh_pin=True,
    algorithms=frozenset({0x07, 0x11}),
    retained=frozenset(
        {
            0x5FC101,
            0x5FC102,
            0x5FC103,
            0x5FC105,
            0x5FC106,
            0x5FC107,
            0x5FC108,
            0x5FC109,
            0x5FC10A,
            0x5FC10B,
            0x5FC10C,
        }
    ),
    precreated=True,
    empty_object=(b"", 0x9000),
    no_object=0x6A82,
    no_key=0x6A86,
    largest_object=2048,
)
"""Objects and keys are made beforehand over a secure channel; the host here finds what is there."""

CANOKEY: Final = Personality(
    "CanoKey-like",
    bytes.fromhex("3BF711000081 31FE6543616E6F6B657999"),
    _template(),
    partial_names=frozenset({5, 9}),
    extended=True,
    many_left=0xFF,
    last_try=0x6983,
    blocked_status=0x63C0,
    pin_length=0x6700,
    agreement_ends_pin=True,
    asking_logs_out=True,
    retained=frozenset({0x5FC101, 0x5FC102, 0x5FC105, 0x5FC107, 0x5FC109, 0x5FC10A, 0x5FC10B}),
    keeps_deleted=True,
    no_object=0x6A82,
    no_key=0x6A86,
    empty_key=0x6A88,
    no_metadata=0x6A88,
    vendor=frozenset({VERSION, SERIAL, METADATA, SET_KEY, IMPORT, RESET}),
    version=bytes([5, 2, 0]),
    serial=bytes.fromhex("00C0FFEE"),
    reset_refused=0x6982,
)

NITROKEY: Final = Personality(
    "Nitrokey-like",
    bytes.fromhex("3B8F01805D4E6974726F6B657900000000006A"),
    _template(tlv.build(0x50, b"Nitrokey PIV"), _algorithms(0x03, 0x0C, 0x11, 0x07)),
    partial_names=frozenset({5, 9}),
    extended=True,
    strict_use=False,
    blocked_status=0x63C0,
    last_try=0x6983,
    wrong_change=0x6300,
    fresh_pin=True,
    other_management=frozenset({0x03, 0x0C}),
    slots=STANDARD_SLOTS | RETIRED_SLOTS,
    generates=STANDARD_SLOTS | RETIRED_SLOTS,
    algorithms=frozenset({0x07, 0x16, 0x11}),
    no_key=0x6A86,
    empty_key=0x6985,
    no_metadata=0x9000,
    wrong_management=0x6A80,
    vendor=frozenset({VERSION, SERIAL, METADATA, SET_KEY, RESET}),
    version=bytes([6, 6, 6]),
    serial=bytes.fromhex("0052F743"),
    policies=True,
    reset_by_pin=True,
)
"""GET METADATA succeeds with nothing in it; a wrong PIN in a change is told without the tries left."""

YUBIKEY_4: Final = Personality(
    "YubiKey 4-like",
    bytes.fromhex("3BF81300008131FE15597562696B657934D4"),
    _template(),
    partial_names=frozenset({5, 9}),
    extended=True,
    strict_use=False,
    short_digest=True,
    slots=STANDARD_SLOTS | RETIRED_SLOTS | {ATTESTATION},
    generates=STANDARD_SLOTS | RETIRED_SLOTS | {ATTESTATION},
    algorithms=frozenset({0x06, 0x07, 0x11, 0x14}),
    retained=STANDARD_OBJECTS - {0x7E, 0x7F61} | YUBICO_OBJECTS,
    vendor=frozenset({VERSION, SET_KEY, IMPORT, RESET, ATTEST, SET_TRIES}),
    version=bytes([4, 3, 5]),
    policies=True,
    touch=True,
)
YUBIKEY_5_3: Final = replace(
    YUBIKEY_4,
    name="YubiKey 5.3-like",
    atr=bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940"),
    vendor=YUBIKEY_4.vendor | {METADATA, SERIAL},
    version=bytes([5, 3, 0]),
    serial=bytes.fromhex("00AE17CB"),
)
YUBIKEY_5_7: Final = replace(
    YUBIKEY_5_3,
    name="YubiKey 5.7-like",
    vendor=YUBIKEY_5_3.vendor | {MOVE},
    version=bytes([5, 7, 1]),
    management=(0x0A, MAKERS_3DES),
    other_management=frozenset({0x03, 0x08, 0x0A, 0x0C}),
    algorithms=frozenset({0x05, 0x06, 0x07, 0x16, 0x11, 0x14, 0xE0, 0xE1}),
)

INLAY: Final = replace(
    YUBIKEY_5_7,
    name="as docs/virtual-card.md has the virtual card",
    atr=bytes.fromhex("3B8B800180F9A0000003080000100000C8"),
    partial_names=frozenset(range(5, 11)),
    pin_length=0x6700,
    strict_use=True,
    algorithms=YUBIKEY_5_7.algorithms - {0x06},
    retained=YUBIKEY_5_7.retained - {0x5FC104},
    largest_object=12_288,
    no_object=0x6A82,
    no_key=0x6A86,
    empty_key=0x6A88,
    touch=False,
)
"""No card of another's: what the product's own says of itself, for the two to be held side by side."""

PERSONALITIES: Final = (
    PURE,
    PURE_T0,
    PIVAPPLET,
    OPENFIPS201,
    CANOKEY,
    NITROKEY,
    YUBIKEY_4,
    YUBIKEY_5_3,
    YUBIKEY_5_7,
)
