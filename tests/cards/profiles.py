"""How real cards differ, as data: each profile is one way to be a PIV card. `simulated` carries them out."""

from __future__ import annotations

from dataclasses import dataclass

SET_KEY, ATTEST, MOVE, IMPORT, METADATA, SERIAL, VERSION = 0xFF, 0xF9, 0xF6, 0xFE, 0xF7, 0xF8, 0xFD
RESET = 0xFB
TDES, AES_128, AES_192, AES_256 = 0x03, 0x08, 0x0A, 0x0C
ALL_YUBICO = frozenset({SET_KEY, ATTEST, MOVE, IMPORT, METADATA, SERIAL, VERSION, RESET})
P_256, P_384, RSA_2048 = 0x11, 0x14, 0x07


@dataclass(frozen=True)
class Profile:
    """One kind of card.

    Attributes:
        name: what it is like.
        pin_tries: all tries of the PIN; the PUK's are `puk_tries`.
        yubico: instructions beyond the standard that it has.
        unknown_key: status of GET METADATA for a key that isn't there.
        unpadded: status of VERIFY with less than 8 bytes.
        log_out: VERIFY with P1=FF.
        management: algorithms under which it takes its management key, all with the same bytes where they can.
        mutual: it knows the witness.
        retired: how many of the slots 82 to 95 it has.
        chuid: it comes with CHUID and CCC.
        discovery: it has a discovery object.
        grows: an object may be written over by a longer one; else 6A84.
        capacity: bytes for all objects.
        frees: an object that is deleted, or written over by a longer one, gives its bytes back.
        select: lengths of the AID that it takes.
        template: what SELECT answers: ``ac`` (with algorithms), ``acs`` (each in a template of its own), ``plain``,
            ``file`` (as of a file), ``nothing``.
        piece: bytes of an answer before 61xx; 0: everything at once.
        exact: it answers 6Cxx to a Le that isn't the answer's length.
        wrong_management: status of a wrong answer to its challenge.
        delete_absent: status of deleting an object that isn't there.
        algorithms: of slot keys.
        bad_algorithm: status of GENERATE for another one.
        extended: it takes extended lengths alone, no chaining, which it says by `no_chaining`.
        strict: data objects that a mutual authentication's second template must have, else 6A80; 0: any.
        tells_keys: GET METADATA says something; else it answers with nothing.
        wrong_old: status of CHANGE REFERENCE DATA and RESET RETRY COUNTER with a wrong value; 0: 63Cx.
        absent_key: status of using a key that isn't there.
        chuid_by_reset: a card that was reset has a CHUID with another GUID; else none.
        changes_puk: CHANGE REFERENCE DATA knows the PUK; else 6A88.
        forgets: the use of 9D forgets that the PIN was verified.
        unselected: status of every command but SELECT while the PIV application isn't selected.
        bare: it has a card manager and no PIV application, as a JavaCard before anybody has loaded one.
        repeats: its random generator is none: the same challenge, witness and key whenever it makes one.
        selected_by_power: the PIV application is selected whenever the card gets power.
        tries_word: what tells the tries that are left, to which they are added; 6300 instead of 63C0 on older ones.
        tells_verified: VERIFY without data says 9000 when the PIN is verified; else the tries all the same.
        absent: its whole answer to GET DATA of an object that isn't there.
        places: objects that it can have; None: all.
        no_place: status of PUT DATA for others.
        bad_slot: status for slots that it hasn't.
        weak_pin: status of a new PIN of one and the same digit; 0: it takes that.
        trims: RSA results without their leading zero bytes.
        warns: GET DATA ends with a warning that less came than there could have been.
        cut_metadata: GET METADATA of an empty slot ends in the middle of a data object.
        fills: certificate objects end in bytes that are nothing.
        any_algorithm: GENERAL AUTHENTICATE doesn't look at the algorithm of the management key.
        reset_by_pin: RESET looks at the tries of the PIN alone.
        takes_keys: IMPORT KEY takes some; else it is refused by 6A81 once the management key is proved.
        through_air: it is held to its reader, and takes no PIN or PUK there.
        forgets_key: VERIFY, a new PIN and each SELECT forget that the management key was proved.
    """

    name: str
    pin_tries: int = 3
    puk_tries: int = 3
    yubico: frozenset[int] = frozenset()
    unknown_key: int = 0x6A88
    unpadded: int = 0x6A80
    log_out: bool = True
    management: tuple[int, ...] = (TDES,)
    mutual: bool = True
    retired: int = 20
    chuid: bool = True
    discovery: bool = True
    grows: bool = True
    capacity: int = 60_000
    frees: bool = True
    select: tuple[int, ...] = (5, 9, 11)
    template: str = "plain"
    piece: int = 256
    exact: bool = False
    wrong_management: int = 0x6982
    delete_absent: int = 0x9000
    algorithms: tuple[int, ...] = (P_256, RSA_2048)
    bad_algorithm: int = 0x6A80
    extended: bool = False
    no_chaining: int = 0x6884
    strict: int = 0
    tells_keys: bool = True
    wrong_old: int = 0
    absent_key: int = 0x6A88
    changes_puk: bool = True
    forgets: bool = False
    chuid_by_reset: bool = False
    unselected: int = 0x6D00
    selected_by_power: bool = False
    tries_word: int = 0x63C0
    tells_verified: bool = True
    absent: str = "6A82"
    places: frozenset[int] | None = None
    no_place: int = 0x6A82
    bad_slot: int = 0x6A86
    weak_pin: int = 0
    trims: bool = False
    warns: bool = False
    cut_metadata: bool = False
    fills: bool = False
    any_algorithm: bool = False
    reset_by_pin: bool = False
    takes_keys: bool = True
    through_air: bool = False
    forgets_key: bool = False
    bare: bool = False
    repeats: bool = False

    @property
    def metadata(self) -> bool:
        """GET METADATA says something."""
        return METADATA in self.yubico and self.tells_keys

    def has_place(self, tag: int) -> bool:
        """Whether it can have an object."""
        retired = 0x5FC10D <= tag <= 0x5FC120
        return (self.places is None or tag in self.places) and not (
            retired and tag - 0x5FC10D >= self.retired
        )


REPEATING = Profile("a random generator that is none", repeats=True)
PROFILES = (
    Profile("standard card, nothing beyond SP 800-73", template="ac", log_out=False),
    Profile(
        "everything of Yubico's, AES-192",
        yubico=ALL_YUBICO,
        management=(AES_192,),
        unpadded=0x6A80,
        algorithms=(P_256, P_384, RSA_2048),
    ),
    Profile(
        "metadata that says 6A86 of an unknown key",
        yubico=ALL_YUBICO - {MOVE},
        unknown_key=0x6A86,
        management=(AES_256,),
        wrong_management=0x6300,
        chuid_by_reset=True,
    ),
    Profile("five tries, unpadded PINs are 6700", pin_tries=5, puk_tries=5, unpadded=0x6700),
    Profile(
        "six tries, no CHUID, no CCC, no discovery object",
        pin_tries=6,
        puk_tries=10,
        chuid=False,
        discovery=False,
        delete_absent=0x6A82,
    ),
    Profile("nothing longer over anything shorter", grows=False, piece=128, unselected=0x6A82),
    Profile("the same key under four algorithms", management=(TDES, AES_128, AES_192, AES_256)),
    Profile("no retired slots, small", retired=0, capacity=3_000, template="nothing", log_out=False),
    Profile("four retired slots, no witness, the RID alone", retired=4, mutual=False, select=(5,)),
    Profile("nine bytes of the AID, answers of exactly the length asked", select=(9,), exact=True, piece=0),
    Profile(
        "AES-128, sets its key, extended lengths alone",
        management=(AES_128,),
        yubico=frozenset({SET_KEY, VERSION}),
        extended=True,
        piece=0,
        bad_algorithm=0x6A81,
        unselected=0x6E00,
    ),
    Profile(
        "metadata that says nothing, strict templates, a wrong old PIN is 6300",
        yubico=frozenset({SET_KEY, METADATA, SERIAL, VERSION, RESET}),
        management=(TDES,),
        tells_keys=False,
        strict=2,
        wrong_management=0x6A80,
        wrong_old=0x6300,
        absent_key=0x6985,
    ),
    Profile(
        "an empty slot has the algorithm FF, key management forgets the PIN, class 10 is unknown",
        yubico=frozenset({SET_KEY, METADATA, SERIAL, VERSION, IMPORT}),
        unknown_key=0x9000,
        extended=True,
        no_chaining=0x6E00,
        forgets=True,
    ),
    Profile(
        "unselected, it says 6985 of everything",
        yubico=ALL_YUBICO,
        management=(AES_192,),
        unselected=0x6985,
    ),
    Profile("selected by itself whenever it gets power", selected_by_power=True),
    Profile(
        "each algorithm in a template of its own, eleven retired slots, 6A81 for objects it doesn't know",
        pin_tries=5,
        yubico=frozenset({SET_KEY, METADATA, SERIAL, VERSION, IMPORT, RESET}),
        template="acs",
        retired=11,
        no_place=0x6A81,
        piece=255,
        strict=2,
        wrong_management=0x6A80,
        absent_key=0x6A86,
        unknown_key=0x9000,
        chuid_by_reset=True,
    ),
    Profile(
        "no more objects than CHUID and four certificates, metadata that is cut short, 6A80 for slots it hasn't",
        yubico=frozenset({SET_KEY, METADATA, SERIAL, VERSION, IMPORT, RESET}),
        template="plain",
        retired=0,
        places=frozenset({0x5FC102, 0x5FC105, 0x5FC10A, 0x5FC10B, 0x5FC101}),
        chuid=False,
        unpadded=0x6700,
        bad_slot=0x6A80,
        unknown_key=0x9000,
        cut_metadata=True,
        forgets=True,
        weak_pin=0x6985,
    ),
    Profile(
        "older: tries as 630x, empty objects are there, certificates are filled up, a file's template",
        pin_tries=3,
        template="file",
        tries_word=0x6300,
        tells_verified=False,
        absent="53009000",
        absent_key=0x6A80,
        trims=True,
        fills=True,
        any_algorithm=True,
    ),
    Profile(
        "6B00 for what it doesn't know, warnings with what is read, 6A80 for objects it hasn't",
        management=(AES_256,),
        bad_slot=0x6B00,
        absent_key=0x6B00,
        no_place=0x6B00,
        retired=4,
        absent="6A80",
        warns=True,
        chuid=False,
    ),
    REPEATING,
)
BARE = Profile("a JavaCard with nothing but its card manager", bare=True)
"""No profile of a card that does its work, so not among the others."""
