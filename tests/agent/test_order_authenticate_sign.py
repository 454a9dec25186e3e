"""The orders *authenticate* and *sign*: refused, a wrong PIN, cut off, then what the card signs."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from agent.ports import UserCancelled
from protocol import proofs
from protocol.errors import InlayError
from protocol.messages import Authenticate, Binding, CardSignature, KeyOrder, OrderState, Sign
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, ENCRYPTION, RSA_KEYS, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN, FakeWindow

WRONG = b"000000"
CHALLENGE = "Y2hhbGxlbmdlIG9mIHRoaXMgb3JkZXIsIDMyIGJ5dGU"
DOCUMENT = b"I owe you nothing."
DIGEST = hashlib.sha256(DOCUMENT).digest()


async def card_with(agent: AgentParts, portal: FakePortal, keys: list[KeyOrder]) -> str:
    """A card that this portal has ordered; its GUID. Further orders need no number."""
    portal.keys = keys
    await agent.submit(portal).wait()
    portal.binding = Binding.NONE
    (known,) = await agent.care.known()
    assert known.guid is not None
    return known.guid


def authenticate(guid: str, driver: str = "virtual") -> Authenticate:
    return Authenticate(card="card-1", driver=driver, guid=guid, label="Card", challenge=CHALLENGE)  # type: ignore[arg-type]


def sign(guid: str) -> Sign:
    return Sign(
        card="card-1", driver="virtual", guid=guid, label="Card", document="contract.pdf", digest=DIGEST
    )


async def order(agent: AgentParts, portal: FakePortal) -> str:
    """Carry an order out; the code of its end."""
    try:
        async with asyncio.timeout(20):
            await agent.submit(portal, OTHER_CODE).wait()
    except InlayError as error:
        return error.code
    return "finished"


def last_window(agent: AgentParts) -> FakeWindow:
    return agent.windows.opened[-1]


def signature_of(portal: FakePortal) -> CardSignature:
    receipt = portal.orders[OTHER_CODE].receipt
    assert receipt is not None
    assert receipt.signature is not None
    return receipt.signature


def check(given: CardSignature, digest: bytes) -> x509.Certificate:
    """Verify as RFC 7518 says; the certificate."""
    certificate = x509.load_der_x509_certificate(given.certificate)
    key, over = certificate.public_key(), Prehashed(hashes.SHA256())
    if isinstance(key, rsa.RSAPublicKey):
        assert given.algorithm == "RS256"
        key.verify(given.signature, digest, padding.PKCS1v15(), over)
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert (given.algorithm, len(given.signature)) == ("ES256", 64)
        r, s = int.from_bytes(given.signature[:32], "big"), int.from_bytes(given.signature[32:], "big")
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(over))
    return certificate


# --- refused


async def test_a_card_that_this_portal_didnt_order_signs_nothing(
    agent: AgentParts, portal: FakePortal
) -> None:
    await card_with(agent, portal, [AUTHENTICATION])
    portal.operation = authenticate("ab" * 16)
    assert await order(agent, portal) == "card_elsewhere"
    assert last_window(agent).asked == []


async def test_another_portals_card_signs_nothing(agent: AgentParts, portal: FakePortal) -> None:
    guid = await card_with(agent, portal, [AUTHENTICATION])
    ((name, row),) = agent.journal.get().cards().items()
    agent.journal.get().add_card(row._replace(portal="other.test"))
    portal.operation = authenticate(guid)
    assert await order(agent, portal) == "card_of_other_portal"
    assert (name, last_window(agent).asked) == (row.card, [])


async def test_a_card_without_the_key_says_which_one_is_missing(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.operation = sign(await card_with(agent, portal, [AUTHENTICATION, ENCRYPTION]))
    agent.windows.answers = [(PIN, None)]
    assert await order(agent, portal) == "card_key_missing"
    at = await portal.orders[OTHER_CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.fields == {"slot": "9C"}


async def test_a_wrong_pin_is_asked_again_and_costs_the_try_that_it_is(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.operation = authenticate(await card_with(agent, portal, [AUTHENTICATION]))
    agent.windows.answers = [(WRONG, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    warnings = [prompt.warning or "" for prompt in last_window(agent).asked]
    assert [word in text for word, text in zip(("", "2 tries", "last try"), warnings, strict=True)] == [
        True
    ] * 3
    secrets = [given.known for given in last_window(agent).given]
    assert not any(any(secret) for secret in secrets if secret is not None)


async def test_a_blocked_pin_ends_the_order_by_its_name(agent: AgentParts, portal: FakePortal) -> None:
    portal.operation = authenticate(await card_with(agent, portal, [AUTHENTICATION]))
    agent.windows.answers = [(WRONG, None)] * 3
    assert await order(agent, portal) == "pin_blocked"
    assert portal.orders[OTHER_CODE].receipt is None


async def test_cancelled_nothing_is_signed(agent: AgentParts, portal: FakePortal) -> None:
    portal.operation = sign(await card_with(agent, portal, [AUTHENTICATION, SIGNATURE]))
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    at = await portal.orders[OTHER_CODE].until(lambda item: item.undone is not None)
    assert (at.receipt, at.state) == (None, OrderState.UNDONE)


async def test_before_the_page_is_bound_nothing_is_signed(agent: AgentParts, portal: FakePortal) -> None:
    portal.operation = sign(await card_with(agent, portal, [AUTHENTICATION, SIGNATURE]))
    portal.binding, portal.number_given = Binding.NUMBER, False
    agent.windows.answers = [(PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.consented is not None)
    assert at.receipt is None
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert at.receipt is None


# --- to the end


@pytest.mark.parametrize("keys", [[AUTHENTICATION], RSA_KEYS], ids=["P-256", "RSA-2048"])
async def test_the_card_signs_for_the_origin_that_the_agent_knows_and_for_this_challenge(
    agent: AgentParts, portal: FakePortal, keys: list[KeyOrder]
) -> None:
    guid = await card_with(agent, portal, keys)
    portal.operation = authenticate(guid)
    agent.windows.answers = [(PIN, None)]
    assert await order(agent, portal) == "finished"
    message = hashlib.sha256(portal.origin.encode()).digest() + hashlib.sha256(CHALLENGE.encode()).digest()
    assert message == proofs.authentication_input(portal.origin, CHALLENGE)
    check(signature_of(portal), hashlib.sha256(message).digest())
    (prompt,) = last_window(agent).asked
    assert any(portal.origin in line for line in prompt.consequences)
    assert last_window(agent).done is not None
    assert PIN not in agent.everything_written()


async def test_the_card_signs_the_documents_digest_that_the_window_shows(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.operation = sign(await card_with(agent, portal, [AUTHENTICATION, SIGNATURE]))
    agent.windows.answers = [(PIN, None)]
    assert await order(agent, portal) == "finished"
    check(signature_of(portal), DIGEST)
    shown = " ".join(last_window(agent).asked[0].consequences)
    assert "contract.pdf" in shown
    assert DIGEST.hex() in shown.replace(" ", "")
