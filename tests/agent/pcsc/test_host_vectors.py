"""The host against bytes made from the standard: what it sends, and what it makes of each answer, the wrong first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.pcsc import (
    piv_attestation,
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_select,
    piv_use,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import KeyAlgorithm, ManagementAlgorithm
from agent.pcsc.piv_select import FEATURES
from protocol.errors import InlayError

_CASES = json.loads((Path(__file__).parents[2] / "vectors" / "piv_host" / "commands.json").read_text())[
    "cases"
]


class Script:
    """A card that expects these commands and gives these answers."""

    def __init__(self, exchanges: list[tuple[str, str]]) -> None:
        self.left = list(exchanges)

    def transmit(self, apdu: bytes) -> bytes:
        expected, answer = self.left.pop(0)
        assert apdu.hex().upper() == expected
        return bytes.fromhex(answer)

    def begin(self) -> None:
        pass

    def end(self, *, reset: bool) -> bool:
        return True

    def reconnect(self) -> None:
        raise AssertionError

    def atr(self) -> bytes:
        return b""

    def ask_reader(self, function: int) -> bytes:
        raise AssertionError

    def control(self, code: int, data: bytes) -> bytes:
        raise AssertionError

    def close(self, *, reset: bool = False) -> None:
        pass


def _number(text: str) -> int:
    return int(text, 16)


def _external(card: CardConnection, algorithm: str, key: str) -> None:
    question = piv_authenticate.ask(card, ManagementAlgorithm(_number(algorithm)))
    piv_authenticate.prove(card, question, piv_cipher.answer(bytes.fromhex(key), question))


def _mutual(card: CardConnection, algorithm: str, response: str, challenge: str, expected: str) -> None:
    question = piv_authenticate.ask(card, ManagementAlgorithm(_number(algorithm)), mutual=True)
    digest = hashlib.sha256(bytes.fromhex(expected)).digest()
    proof = piv_authenticate.Proof(bytes.fromhex(response), bytes.fromhex(challenge), digest)
    assert piv_authenticate.prove(card, question, proof).hex() == expected.lower()


def _generate(card: CardConnection, slot: str, algorithm: str) -> str:
    public = piv_keys.generate(card, _number(slot), KeyAlgorithm(_number(algorithm)))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return _point(public)


def _generate_rsa(card: CardConnection, slot: str, algorithm: str) -> list[object]:
    public = piv_keys.generate(card, _number(slot), KeyAlgorithm(_number(algorithm)))
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    return [f"{numbers.n:x}", numbers.e]


def _chuid(card: CardConnection) -> str | None:
    found = piv_objects.read_chuid(card)
    return None if found is None else f"{found.guid.hex()} {found.expires}"


def _history(card: CardConnection) -> list[object] | None:
    found = piv_objects.read_key_history(card)
    return None if found is None else [found.on_card, found.off_card, found.url]


def _metadata(card: CardConnection, slot: str) -> list[object] | None:
    found = piv_keys.metadata(card, _number(slot))
    if found is None:
        return None
    assert isinstance(found.public, ec.EllipticCurvePublicKey)
    return [*_policies(found), _point(found.public).upper()]


def _metadata_rsa(card: CardConnection, slot: str) -> list[object]:
    found = piv_keys.metadata(card, _number(slot))
    assert found is not None
    assert isinstance(found.public, rsa.RSAPublicKey)
    return [*_policies(found), f"{found.public.public_numbers().n:x}"]


def _metadata_poor(card: CardConnection, slot: str) -> list[str | None]:
    found = piv_keys.metadata(card, _number(slot))
    assert found is not None
    assert found.public is None
    policies = (found.pin_policy, found.touch_policy)
    return [found.algorithm.name, *(None if each is None else each.name for each in policies)]


def _policies(found: piv_keys.KeyMetadata) -> list[object]:
    assert found.pin_policy is not None
    assert found.touch_policy is not None
    return [found.algorithm.name, found.pin_policy.name, found.touch_policy.name, found.generated]


def _probe(card: CardConnection) -> list[object]:
    found = piv_select.probe(card)
    has = [name for name in sorted(FEATURES) if getattr(found, name)]
    return [found.version, found.serial, has]


def _point(public: ec.EllipticCurvePublicKey) -> str:
    return public.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    ).hex()


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _import_rsa(card: CardConnection, slot: str, pkcs8: str) -> None:
    """Key and expected bytes are OpenSSL's: its DER, and the five numbers as it prints them."""
    private = serialization.load_der_private_key(bytes.fromhex(pkcs8), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    piv_keys.import_key(card, _number(slot), private)


_CALLS: dict[str, Callable[..., Any]] = {
    "select": lambda card: sorted(piv_select.select(card).algorithms),
    "read": lambda card, tag: _hex(piv_objects.read(card, _number(tag))),
    "chuid": _chuid,
    "history": _history,
    "certificate": lambda card, slot: _hex(piv_objects.read_certificate(card, _number(slot))),
    "write": lambda card, tag, content: piv_objects.write(card, _number(tag), bytes.fromhex(content)),
    "delete": lambda card, tag: piv_objects.delete(card, _number(tag)),
    "verify": lambda card, pin: piv_pin.verify(card, pin.encode()),
    "tries": lambda card, reference: piv_pin.tries_left(card, _number(reference)),
    "change": lambda card, reference, old, new: piv_pin.change(
        card, _number(reference), old.encode(), new.encode()
    ),
    "unblock": lambda card, puk, new: piv_pin.unblock(card, puk.encode(), new.encode()),
    "external": _external,
    "mutual": _mutual,
    "sign": lambda card, slot, algorithm, message: piv_use.sign_sha256(
        card, _number(slot), KeyAlgorithm(_number(algorithm)), bytes.fromhex(message)
    ).hex(),
    "agree": lambda card, slot, algorithm, point: piv_use.agree(
        card, _number(slot), KeyAlgorithm(_number(algorithm)), bytes.fromhex(point)
    ).hex(),
    "delete_key": lambda card, slot: piv_keys.delete(card, _number(slot)),
    "metadata": _metadata,
    "set_key": lambda card, algorithm, key: piv_authenticate.set_key(
        card, ManagementAlgorithm(_number(algorithm)), bytes.fromhex(key)
    ),
    "import_key": lambda card, slot, scalar: piv_keys.import_key(
        card, _number(slot), ec.derive_private_key(_number(scalar), ec.SECP256R1())
    ),
    "import_rsa": _import_rsa,
    "attest": lambda card, slot: piv_attestation.statement(card, _number(slot)).hex(),
    "attest_issuer": lambda card: _hex(piv_attestation.issuer(card)),
    "probe": _probe,
    "generate": _generate,
    "generate_rsa": _generate_rsa,
    "metadata_rsa": _metadata_rsa,
    "metadata_poor": _metadata_poor,
}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    script = Script(case["exchanges"])
    card = CardConnection(script, "Reader")
    call = _CALLS[case["call"]]
    if "error" in case:
        with pytest.raises(InlayError) as caught:
            call(card, **case["arguments"])
        assert (caught.value.code, caught.value.fields) == (case["error"], case["fields"])
    else:
        assert call(card, **case["arguments"]) == case["result"]
    assert script.left == []
