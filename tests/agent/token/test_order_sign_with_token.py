"""*Authenticate* and *sign* by the driver *pkcs11*, with SoftHSM 2: refused, disturbed, then what is signed."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from agent.pcsc.pkcs11 import Driver
from protocol import proofs
from protocol.messages import Authenticate, Sign
from protocol.tokens import token_guid
from tests.agent.test_order_authenticate_sign import CHALLENGE, DIGEST, check, signature_of
from tests.support import softhsm, token_readers
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, RSA_KEYS, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order, window_of
from tests.support.token_orders import WRONG, certificates, code_number, encode, token_serial
from tests.support.token_readers import PIN, TokenReaders
from tests.support.virtual_cards import Issuer

CONSENT = (None, None)


async def encoded(agent: AgentParts, portal: FakePortal, *, rsa: bool = False) -> str:
    """A token with keys; the GUID that stands for it."""
    token_readers.initialise()
    serial = await token_serial()
    encode(portal, serial, RSA_KEYS[0] if rsa else AUTHENTICATION, SIGNATURE)
    agent.windows.answers = [CONSENT, (PIN, None)]
    assert await order(agent, portal, code_number(0)) == "finished"
    return token_guid(serial)


def authenticate(guid: str) -> Authenticate:
    return Authenticate(card="card-1", driver="pkcs11", guid=guid, label="Card 7", challenge=CHALLENGE)


async def test_a_key_that_the_card_has_not_is_named(agent: AgentParts, portal: FakePortal) -> None:
    token_readers.initialise()
    portal.operation = authenticate(token_guid(await token_serial()))
    agent.windows.answers = [CONSENT, (PIN, None)]
    assert await order(agent, portal) == "card_key_missing"


async def test_a_pin_that_is_blocked_is_not_tried(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    guid = await encoded(agent, portal)
    readers.plan("C_Login", "crash")
    portal.operation = authenticate(guid)
    readers.flags(0x40000)
    assert await order(agent, portal) == "card_pin_blocked"
    assert readers.is_planned


async def test_a_wrong_pin_is_asked_again_and_a_card_pulled_out_is_waited_for(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    portal.operation = authenticate(await encoded(agent, portal))
    agent.windows.answers = [CONSENT, (WRONG, None), (PIN, None)]
    readers.plan("C_Sign", "lost")
    ending = asyncio.create_task(order(agent, portal, OTHER_CODE))
    await (await portal.claimed(OTHER_CODE)).until(lambda at: at.consented is not None)
    await window_of(agent).until_said("Put the card “Card 7” back")
    readers.put()
    assert await ending == "finished"
    assert "The PIN is wrong" in str(window_of(agent).asked[2].warning)


@pytest.mark.parametrize("rsa", [False, True], ids=["ec", "rsa"])
async def test_the_card_signs_for_this_origin_alone(
    agent: AgentParts, portal: FakePortal, *, rsa: bool
) -> None:
    portal.operation = authenticate(await encoded(agent, portal, rsa=rsa))
    assert await order(agent, portal, OTHER_CODE) == "finished"
    message = proofs.authentication_input(portal.origin, CHALLENGE)
    given = signature_of(portal)
    check(given, hashlib.sha256(message).digest())
    assert given.certificate == (await certificates())["9A"]


async def test_the_signature_key_signs_the_document(agent: AgentParts, portal: FakePortal) -> None:
    guid = await encoded(agent, portal)
    portal.operation = Sign(
        card="card-1", driver="pkcs11", guid=guid, label="Card 7", document="contract.pdf", digest=DIGEST
    )
    assert await order(agent, portal, OTHER_CODE) == "finished"
    given = signature_of(portal)
    check(given, DIGEST)
    assert given.certificate == (await certificates())["9C"]


async def test_a_key_that_wants_the_pin_each_time_is_used_at_the_keys_of_the_reader(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    """What is typed before the signature may be wrong, and the card may have been away: the reader asks again."""
    token_readers.initialise()
    guid = token_guid(await token_serial())
    await signature_key_that_wants_the_pin()
    portal.operation = Sign(
        card="card-1", driver="pkcs11", guid=guid, label="Card 7", document="contract.pdf", digest=DIGEST
    )
    agent.windows.answers = [CONSENT]
    readers.at_pad(PIN, PIN)
    readers.plan("C_Sign", "lost")
    ending = asyncio.create_task(order(agent, portal, OTHER_CODE))
    await (await portal.claimed(OTHER_CODE)).until(lambda at: at.consented is not None)
    await window_of(agent).until_said("Put the card “Card 7” back")
    readers.at_pad(WRONG, PIN, WRONG, PIN, PIN)
    readers.put()
    assert await ending == "finished"
    check(signature_of(portal), DIGEST)
    assert readers.left_at_pad == 0
    assert all(null for _, null, _ in readers.told())
    said = [text for text in window_of(agent).texts if "at the keys of the reader" in text]
    # to log in, and before the signature; again, after a wrong one; and once more, after a wrong one for the signature
    assert ["is wrong" in text for text in said] == [False, False, False, True, False, True, False]
    assert len(window_of(agent).asked) == 1


async def signature_key_that_wants_the_pin() -> None:
    """What another program has put on the token in the place of ours: OpenSC's tool makes such keys."""
    key = bytes.fromhex("9c01020304050607")
    made = ("--keypairgen", "--key-type", "EC:prime256v1", "--id", key.hex(), "--always-auth", "--usage-sign")
    await asyncio.to_thread(token_readers.pkcs11_tool, *made)
    driver = Driver(softhsm.MODULE)
    try:
        (token,) = [token for token in await driver.tokens() if token.initialised]
        await driver.open(token)
        await driver.verify(bytearray(PIN))
        public = await driver.public_key(key)
        await driver.write_certificate(key, "key", Issuer().issue(public, 0x9C))
    finally:
        await driver.close()
