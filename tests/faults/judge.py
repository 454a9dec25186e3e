"""How an order ended: both sides' files, and the CA's own list against cards that prove their keys."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.keys_system import Level, open_device_secret
from agent.long_pin import card_pin
from agent.pcsc import chuid, scard
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.state import Lifecycle
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from tests.faults.scene import card_rows, journal, open_claims
from tests.support.portal_process import CRL_PATH
from tests.support.virtual_cards import verify

if TYPE_CHECKING:
    from tests.faults.scene import Desk, Issued, Scene

FINISHED, UNDONE, NOT_BEGUN = "finished", "undone", "not begun"
_SLOTS = (0x9A, 0x9C, 0x9D, 0x9E)
_MESSAGE = b"proof of a key on the disk"


def end_of(scene: Scene, desk: Desk) -> str:
    """How the order ended, by both sides' files; empty while it hasn't, on either side."""
    jti, state = scene.order()
    here = [order for order in journal(desk) if order.jti == jti]
    if state == "waiting" and not here and not open_claims(desk):
        return NOT_BEGUN
    settled = all(order.settled for order in here)
    if any(scene.unrevoked(order) for order in scene.about_card):
        return ""
    if state == FINISHED and here and settled:
        return FINISHED
    if state == UNDONE and settled:
        return UNDONE
    return ""


def where(scene: Scene, desk: Desk) -> str:
    """Where an order stands that hasn't ended."""
    here = [f"{order.stage} {order.outcome} settled={order.settled}" for order in journal(desk)]
    jti, state = scene.order()
    left = sum(scene.unrevoked(order) for order in scene.about_card)
    return f"order {jti}: portal {state}, agent {here or 'knows nothing'}, {left} unconfirmed revocations"


def faults(scene: Scene, desk: Desk, end: str, proved: set[bytes]) -> list[str]:
    """What contradicts an order's end; nothing when it is in order.

    Args:
        scene: the processes.
        desk: the person's.
        end: how the order ended.
        proved: see `proved_on`.
    """
    about = scene.about_card
    valid, found = _valid(scene, [item for order in about for item in scene.issued(order)])
    found += [f"{len(valid)} valid certificates, {len(proved)} proved"] * (valid != proved)
    files, rows = len(desk.agent.card_files()), card_rows(desk)
    ends = [order.outcome for order in journal(desk) if order.jti == scene.order()[0]]
    found += [f"the agent says {ends}"] * ((FINISHED in ends) != (end == FINISHED))
    cards, _ = scene.shown(scene.maker)
    certificates = [state for order in about for state in scene.shown(order)[1]]
    if scene.errand.pin(finished=end == FINISHED) is not None:
        found += ["no certificate"] * (not valid)
        found += [f"{files} card files, {rows} cards in the journal"] * ((files, rows) != (1, 1))
        found += [f"shown: {cards} {certificates}"] * (
            cards != ["Active"]
            or not set(certificates) <= {"Valid", "Revoked"}
            or certificates.count("Valid") != len(valid)
        )
    else:
        found += [f"{len(valid)} certificates are valid"] * bool(valid)
        found += [f"{files} card files, {rows} cards in the journal"] * ((files, rows) != (0, 0))
        found += [f"shown: {cards} {certificates}"] * (
            "Active" in cards or bool(set(certificates) - {"Revoked"})
        )
    return found


def left_over(scene: Scene, proved: set[bytes]) -> list[str]:
    """What contradicts the CA's own list, of all orders together, long after each has ended.

    Args:
        scene: the processes.
        proved: the certificates of all cards that have proved their keys.
    """
    valid, found = _valid(scene, scene.issued())
    found += [f"{len(valid - proved)} valid certificates without a card"] * bool(valid - proved)
    found += [f"{len(proved - valid)} cards' certificates aren't valid"] * bool(proved - valid)
    return found


def _valid(scene: Scene, issued: list[Issued]) -> tuple[set[bytes], list[str]]:
    """What the CA has issued and nobody has revoked, by its own list; and where its CRL says something else."""
    crl = x509.load_der_x509_crl(scene.site.portal.fetch(CRL_PATH))
    found, valid = [], set()
    for item in issued:
        on_crl = crl.get_revoked_certificate_by_serial_number(int(item.serial, 16)) is not None
        if on_crl != item.revoked:
            found.append(f"certificate {item.serial}: list and CRL differ")
        if not item.revoked:
            valid.add(item.der)
    return valid, found


def readers_fit(scene: Scene, end: str) -> bool:
    """Whether other programs see the card that must be there after this end, and none where none must be."""
    try:
        if scene.errand.pin(finished=end == FINISHED) is not None:
            guid = scene.guid(scene.maker)
            return guid is not None and chuid.find(guid) is not None
        return not any(reader.present for reader in scard.list_readers())
    except InlayError:  # no PC/SC service yet
        return False


def proved_on(desk: Desk, pin: bytes) -> set[bytes]:
    """Certificates on cards of the agent's disk whose keys do what they are for, by this PIN.

    The files are copied first: a card writes down each use of its PIN.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        shutil.copytree(desk.agent.state, state)
        secret = open_device_secret(Level.FILE, state / "secret-file", allow_file=True)
        store = CardStore(state / "cards" / "file", secret)
        found: set[bytes] = set()
        for entry in store.list_cards():
            if entry.state is None or entry.state.lifecycle is not Lifecycle.ACTIVE:
                continue
            card = VirtualCard.load(store, entry.card_id)
            held = card_pin(secret, entry.card_id, bytearray(pin))
            found |= {der for slot in _SLOTS if (der := _proved_slot(card, slot, held)) is not None}
        return found


def _proved_slot(card: VirtualCard, slot: int, pin: bytearray) -> bytes | None:
    try:
        der = personalise.read_certificate(card, slot)
    except InlayError:
        return None
    key = x509.load_der_x509_certificate(der).public_key()
    if slot != 0x9D:
        assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        verify(key, personalise.sign(card, slot, _MESSAGE, bytearray(pin)), _MESSAGE)
    elif isinstance(key, rsa.RSAPublicKey):
        secret = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        assert personalise.decrypt_oaep(card, slot, key.encrypt(secret, oaep), bytearray(pin)) == secret
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        ours = ec.generate_private_key(ec.SECP256R1())
        point = ours.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert personalise.agree(card, slot, point, bytearray(pin)) == ours.exchange(ec.ECDH(), key)
    return der
