"""A new card's encoding by Inlay's driver alone: an order's commands, without portal, window and journal."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.pcsc import (
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_select,
    piv_use,
    scard,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import look
from agent.pcsc.piv_names import CCC, PUK, KeyAlgorithm, ManagementAlgorithm
from agent.pcsc.take_up import take_up
from bench import encode_steps as steps
from bench.encode_clients import SLOTS, Client, Given, Step
from tests.support.virtual_cards import Issuer

if TYPE_CHECKING:
    from bench.one_card import OneCard

_PIV: Final = frozenset({bytes.fromhex("A000000308")})
_EXPIRES: Final = datetime.date(2030, 12, 31)
_SIGNING: Final = (0x9A, 0x9C)


class Driver(Client):
    """The driver's functions in the order in which an order calls them."""

    name = "Inlay's driver"

    def __init__(self, given: Given) -> None:
        """Give the card these."""
        self._given, self._issuer = given, Issuer()
        self._keys, self._issued = dict[int, piv_keys.PublicKey](), dict[int, bytes]()
        self._pin = given.new_pin.encode()

    def steps(self, place: OneCard) -> Iterator[Step]:
        """See `Client`."""
        given = self._given
        with contextlib.ExitStack() as stack:
            opened = list[CardConnection]()
            yield steps.FIND, lambda: opened.append(stack.enter_context(_taken_up(place.reader)))
            (card,) = opened
            yield steps.KEY, lambda: _prove_key(card, given.key)
            new_puk = given.new_puk.encode()
            yield steps.PUK, lambda: _change_puk(card, given.puk.encode(), new_puk)
            yield steps.PIN, lambda: piv_pin.unblock(card, new_puk, self._pin)
            yield steps.IDENTITY, lambda: _give_identity(card)
            yield steps.KEYS, lambda: self._make_keys(card)
            yield steps.REQUESTS, lambda: self._sign(card)
            self._issued = {slot: self._issuer.issue(key, slot) for slot, key in self._keys.items()}
            yield steps.WRITE, lambda: self._write(card)
            yield (
                steps.NEW_KEY,
                lambda: piv_authenticate.set_key(card, ManagementAlgorithm.TDES, given.new_key),
            )
            yield steps.BACK, lambda: self._read_back(card)
            yield steps.PROOFS, lambda: self._prove(card)

    def _make_keys(self, card: CardConnection) -> None:
        for slot in SLOTS.values():
            self._keys[slot] = piv_keys.generate(card, slot, KeyAlgorithm.P_256)

    def _sign(self, card: CardConnection) -> None:
        for slot in _SIGNING:
            piv_pin.verify(card, self._pin)
            piv_use.sign_sha256(card, slot, KeyAlgorithm.P_256, b"request")

    def _write(self, card: CardConnection) -> None:
        for slot, der in self._issued.items():
            piv_objects.write_certificate(card, slot, der)

    def _read_back(self, card: CardConnection) -> None:
        for slot, der in self._issued.items():
            if piv_objects.read_certificate(card, slot) != der:
                raise RuntimeError(f"another certificate in {slot:02X}")

    def _prove(self, card: CardConnection) -> None:
        self._sign(card)
        piv_pin.verify(card, self._pin)
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        piv_use.agree(card, 0x9D, KeyAlgorithm.P_256, other.public_bytes(*form))


def _taken_up(reader: str) -> CardConnection:
    """The card, looked at, and then connected to anew, as an order has it."""
    with CardConnection(scard.connect(reader), reader) as card:
        has = look(card, _PIV, frozenset({"importing"})).guid
    card = CardConnection(scard.connect(reader), reader)
    take_up(card, {has}, hold=True, keys=False)
    return card


def _prove_key(card: CardConnection, key: bytes) -> None:
    (algorithm,) = piv_select.management_algorithms(card)
    question = piv_authenticate.ask(card, algorithm, mutual=True)
    piv_authenticate.prove(card, question, piv_cipher.answer(key, question))


def _change_puk(card: CardConnection, old: bytes, new: bytes) -> None:
    piv_pin.tries_left(card, PUK)
    piv_pin.change(card, PUK, old, new)


def _give_identity(card: CardConnection) -> None:
    piv_objects.write_chuid(card, piv_objects.fresh_chuid(_EXPIRES))
    if piv_objects.read(card, CCC) is None:
        piv_objects.write_ccc(card)
