"""PIV cards that an administrator has described: real portal, agent and pcscd, with and without keys at the reader.

What the description has put on the card is read and used by OpenSC and yubikit, which know nothing of it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from smartcard.CardConnection import CardConnection
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_SHARE_SHARED
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.piv import OBJECT_ID, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession

from agent.pcsc import scard
from portal.encoding.piv_rules import Part
from portal.model.states import Role
from portal.processes.context import FactorySecrets
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Card, Certificate
from tests.cards.independent.in_reader import InReader as InHand
from tests.cards.independent.in_reader import profile_of
from tests.cards.independent.personality import YUBIKEY_5_7
from tests.cards.simulated import factory_key
from tests.interop.card.clients import MODULE
from tests.interop.test_puk_and_block_whole import done
from tests.interop.test_puk_verify_block_over_vpcd import CONSENT
from tests.interop.test_temporary_card_whole import (
    NEW,
    assigned,
    extended,
    good,
    hashes_of,
    run,
    seen_by_yubikit,
)
from tests.support.pin_pad_reader import READER, PinPad, pin_pad
from tests.support.piv_descriptions import configure, example
from tests.support.processes import wait_until
from tests.support.virtual_cards import InReader, factory_card
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from agent.vsc.card import VirtualCard
    from tests.support.attack_stage import Stage
    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop
OTHER: Final = b"975310"
PRINTED: Final = "0105416C657820FE00"
CHANGE: Final = {"Action": ["change"], "PUK": ["portal"]}
STRICT: Final = {
    part.value: example(part).replace("AUTHENTICATION_PATH_AUTO", "AUTHENTICATION_PATH")
    for part in (Part.EXTEND, Part.VERIFY_PIN)
}
PARTS: Final = (Part.ENCODE, Part.EXTEND, Part.CHANGE_PIN, Part.VERIFY_PIN)


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
def inserted(card: VirtualCard, pcscd: PrivatePcscd, stage: Stage) -> Iterator[InReader]:
    """The card in a reader without keys."""
    with InReader(card, pcscd.vpcd_ports[0]) as running:
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        yield running


@pytest.fixture
def pad(pcscd: PrivatePcscd, stage: Stage, card: VirtualCard) -> Iterator[PinPad]:
    """The card in a reader with keys; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder, pin_pad(Path(folder), pcscd, card) as running:
        wait_until(lambda: any(each.name == READER and each.present for each in scard.list_readers()), "it")
        yield running


def used_by_opensc(pcscd: PrivatePcscd, home: Path, certificates: dict[str, Certificate]) -> None:
    """It reads the four certificates, and signs with both keys for authentication."""
    for number, slot in (("01", "9A"), ("02", "9C"), ("03", "9D"), ("04", "9E")):
        pem = x509.load_der_x509_certificate(certificates[slot].der).public_bytes(Encoding.PEM).decode()
        assert pem.strip() in run(pcscd, home, "pkcs15-tool", "--read-certificate", number)
    data, signature = home / "data", home / "signature"
    data.write_bytes(hashes_of(b"a message"))
    for number, slot in (("01", "9A"), ("04", "9E")):
        run(
            pcscd, home, "pkcs11-tool", "--module", MODULE, "--login", "--pin", NEW.decode(), "--sign", "--id", number,
            "--mechanism", "ECDSA", "--signature-format", "openssl",
            "--input-file", str(data), "--output-file", str(signature),
        )  # fmt: skip
        key = x509.load_der_x509_certificate(certificates[slot].der).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature.read_bytes(), b"a message", ec.ECDSA(hashes.SHA256()))


async def test_at_the_keys_alone_is_refused_without_them_and_what_chooses_falls_back(
    stage: Stage, card: VirtualCard, inserted: InReader, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    kit = stage.kit
    configure(kit, tmp_path, only=PARTS, **STRICT)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, card.details().serial)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    first = await good(stage)
    assert {slot: item.profile for slot, item in first.items()} == {
        "9A": "authentication",
        "9C": "signature",
        "9D": "encryption",
        "9E": "authentication",
    }
    async with kit.database.read() as tx:
        row = await tx.get_one(Card, found)
    home = tmp_path / "others"
    home.mkdir()
    await asyncio.to_thread(used_by_opensc, pcscd, home, first)
    await asyncio.to_thread(seen_by_yubikit, pcscd.readers[0], row.guid, first, NEW.decode())

    kit.clock.now += 1
    assert await extended(stage, olga, found, [CONSENT, (NEW, None)], number=False) == "pad_missing"
    assert len(stage.victim.windows.opened[-1].asked) == 1  # for consent, and for no PIN
    kit.clock.now += 1
    assert await done(stage, ada, VerifyCardPin.name, found, {}, [CONSENT, (NEW, None)]) == "pad_missing"
    kit.clock.now += 1
    assert (
        await done(stage, ada, UnblockChangePin.name, found, CHANGE, [CONSENT, (NEW, OTHER)]) == "pad_missing"
    )
    assert card.details().pin_tries == 3
    assert {item.id for item in (await good(stage)).values()} == {item.id for item in first.values()}

    configure(kit, tmp_path, only=PARTS)  # the examples: at the keys where there are some
    kit.clock.now += 1
    assert await extended(stage, olga, found, [CONSENT, (NEW, None)], number=False) == "finished"
    kit.clock.now += 1
    assert await done(stage, ada, VerifyCardPin.name, found, {}, [CONSENT, (NEW, None)]) == "finished"
    second = await good(stage)
    assert {slot: item.key_hash for slot, item in second.items()} == {
        slot: item.key_hash for slot, item in first.items()
    }
    assert {item.id for item in second.values()}.isdisjoint(item.id for item in first.values())


def policies_by_yubikit(
    reader_name: str, printed: bytes | None = None
) -> dict[str, tuple[PIN_POLICY, TOUCH_POLICY]]:
    reader = next(found for found in readers() if found.name == reader_name)
    connection = reader.createConnection()
    connection.connect(CardConnection.T1_protocol, mode=SCARD_SHARE_SHARED, disposition=SCARD_LEAVE_CARD)
    with ScardSmartCardConnection(connection) as wrapped:  # type: ignore[no-untyped-call]
        session = PivSession(wrapped)
        found = {slot: session.get_slot_metadata(SLOT(int(slot, 16))) for slot in ("9A", "9D", "9E")}
        if printed is not None:
            session.verify_pin(NEW.decode())
            assert session.get_object(OBJECT_ID.PRINTED) == printed
    connection.release()  # else its context ends with the garbage, behind pcscd
    return {slot: (each.pin_policy, each.touch_policy) for slot, each in found.items()}


async def test_keys_have_the_policies_and_the_card_the_object_of_the_description_as_yubikit_reads_them(
    stage: Stage, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    """A card of another make, like a YubiKey 5.7: nothing of it is ours."""
    kit, held = stage.kit, InHand(profile_of(YUBIKEY_5_7))
    wanted = {"9A": "KeyPINPolicy=#always\nKeyTouchPolicy=#cached\n", "9D": "KeyTouchPolicy=#always\n"}
    text = example(Part.ENCODE)
    for slot, lines in wanted.items():
        text = text.replace(f"KeyReference=#{slot}\n", f"KeyReference=#{slot}\n{lines}")
    text += f"[Application_9]\nObjectReference=#5FC109\nObjectContent=#{PRINTED}\n"
    configure(kit, tmp_path, only=(Part.ENCODE,), encode=text)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, str(int.from_bytes(held.serial, "big")))
    object.__setattr__(kit.portal.context, "factory", FactorySecrets(factory_key(held.management), held.puk))
    port, inner = pcscd.vpcd_ports[0], held.inner
    with WiredCard(port, inner.transmit, inner.personality.atr, reset=inner.reset):
        await asyncio.to_thread(wait_until, lambda: scard.list_readers()[0].present, "the card")
        assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
        told = await asyncio.to_thread(policies_by_yubikit, pcscd.readers[0], bytes.fromhex(PRINTED))
    assert told == {
        "9A": (PIN_POLICY.ALWAYS, TOUCH_POLICY.CACHED),
        "9D": (PIN_POLICY.ONCE, TOUCH_POLICY.ALWAYS),
        "9E": (PIN_POLICY.NEVER, TOUCH_POLICY.NEVER),
    }


@pytest.mark.parametrize(
    ("line", "ended"),
    [("KeyTouchPolicy=#always", "card_policy_missing"), ("KeyPINPolicy=#always", "finished")],
)
async def test_our_own_card_has_pin_policies_and_nothing_to_touch(
    stage: Stage,
    card: VirtualCard,
    inserted: InReader,
    pcscd: PrivatePcscd,
    tmp_path: Path,
    line: str,
    ended: str,
) -> None:
    """It attests either way; what it can't have leaves it as it was."""
    kit = stage.kit
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, card.details().serial)
    text = example(Part.ENCODE).replace("KeyReference=#9A\n", f"KeyReference=#9A\n{line}\n")
    configure(kit, tmp_path, only=(Part.ENCODE,), encode=text)
    before = card.details()
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == ended
    if ended == "finished":
        told = await asyncio.to_thread(policies_by_yubikit, pcscd.readers[0])
        assert told["9A"] == (PIN_POLICY.ALWAYS, TOUCH_POLICY.NEVER)
        return
    async with kit.database.read() as tx:
        assert (await tx.get_one(Card, found)).state == "Assigned"
    assert (card.details().slots, card.details().guid) == (before.slots, before.guid)
    assert await good(stage) == {}


async def test_at_the_keys_everything_is_typed_that_the_description_puts_there(
    stage: Stage, pad: PinPad, card: VirtualCard, tmp_path: Path
) -> None:
    """The option says: in the window."""
    kit = stage.kit
    configure(kit, tmp_path, only=PARTS, **STRICT)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    found = await assigned(stage, olga, ada, card.details().serial)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    assert pad.asked == []  # the portal's PUK sets it
    kit.clock.now += 1
    pad.typed += [NEW] * 8
    assert await extended(stage, olga, found, [CONSENT], number=False) == "finished"
    assert len(pad.asked) > 0
    for process, form, typed in (
        (UnblockChangePin.name, CHANGE, b" ".join((NEW, OTHER, OTHER))),
        (VerifyCardPin.name, {}, OTHER),
    ):
        kit.clock.now += 1
        pad.asked.clear()
        pad.typed[:] = [typed]
        assert await done(stage, ada, process, found, form, [CONSENT]) == "finished"
        assert len(pad.asked) == 1
    assert [len(window.asked) for window in stage.victim.windows.opened[-3:]] == [1, 1, 1]
    assert card.details().pin_tries == 3
