"""Claims that must not be granted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portal.model.states import UserState
from portal.processes.codes import LINK_SECONDS, TYPED_SECONDS
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import ClaimParams, ClaimResult, Transport
from tests.support.portal_kit import PROCESS

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

_GUESS = "A" * 22


async def _refusal(agent: SoftwareAgent, code: str, transport: Transport = Transport.LINK) -> InlayError:
    with pytest.raises(InlayError) as caught:
        await agent.claim(code, transport)
    return caught.value


async def test_guessed(kit: Kit) -> None:
    """A code that was never given out."""
    assert (await _refusal(await kit.agent(), _GUESS)).code == "code_unknown"


@pytest.mark.parametrize(("seconds", "typed"), [(LINK_SECONDS, False), (TYPED_SECONDS, True)])
async def test_expired(kit: Kit, seconds: int, typed: bool) -> None:
    """At the end of its life, to the second; a fresh one works."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    kit.clock.now += seconds
    agent = await kit.agent()
    text = code.typed_code.replace("-", "") if typed else code.code
    transport = Transport.TYPED if typed else Transport.LINK
    refusal = await _refusal(agent, text, transport)
    assert (refusal.code, refusal.fields) == ("code_expired", {"seconds": seconds})
    fresh = await kit.services.new_code(session, view.id)
    await agent.claim(fresh.code)


async def test_a_fresh_code_ends_the_one_before(kit: Kit) -> None:
    """Only what the page shows now works."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    await kit.services.new_code(session, view.id)
    assert (await _refusal(await kit.agent(), code.code)).code == "code_unknown"


async def test_another_device(kit: Kit) -> None:
    """A code that was used; typed or linked makes no difference: both are used up."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    await (await kit.agent()).claim(code.code)
    thief = await kit.agent()
    assert (await _refusal(thief, code.code)).code == "code_used"
    assert (await _refusal(thief, code.typed_code.replace("-", ""), Transport.TYPED)).code == "code_used"


async def test_two_at_once(kit: Kit) -> None:
    """Of many devices that claim a code at the same time one wins."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agents = [await kit.agent() for _ in range(6)]
    results = await asyncio.gather(*(agent.claim(code.code) for agent in agents), return_exceptions=True)
    assert sum(isinstance(result, ClaimResult) for result in results) == 1
    refused = [result for result in results if isinstance(result, InlayError)]
    assert [error.code for error in refused] == ["code_used"] * 5


async def test_the_same_device_again(kit: Kit) -> None:
    """The same order, made out to the new nonce; once it has begun it goes on with resume."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agent = await kit.agent()
    first = await agent.claim(code.code)
    jti = agent.order.jti if agent.order else ""
    again = await kit.agent()
    again.device = agent.device
    second = await again.claim(code.code)
    assert again.order is not None
    assert again.order.jti == jti
    assert (first.resumed, second.resumed) == (False, False)
    await again.consent(number="123")
    third = await kit.agent()
    third.device = agent.device
    assert (await third.claim(code.code)).resumed


async def test_wrong_links_of_a_neighbour_keep_nobody_out(kit: Kit) -> None:
    """Behind one address stands a whole office; 128 bits need no limit against guessing."""
    _, code = await kit.at_open(await kit.person())
    for _ in range(10):
        neighbour = await kit.agent()
        for _ in range(5):
            assert (await _refusal(neighbour, _GUESS)).code == "code_unknown"
    await (await kit.agent()).claim(code.code)


async def test_typed_codes_are_guessed_five_times_at_most(kit: Kit) -> None:
    """For each address, however many connections; the right code doesn't help any more."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agent = await kit.agent()
    for number in range(5):
        assert (await _refusal(agent, f"000000000{number}", Transport.TYPED)).code == "code_unknown"
    agent = await kit.agent()
    assert (await _refusal(agent, code.typed_code.replace("-", ""), Transport.TYPED)).code == "rate_limited"
    kit.clock.now += 300
    fresh = (
        await kit.services.new_code(session, (await kit.services.dashboard(session))[0].open_process or "")
    ).code
    await (await kit.agent()).claim(fresh)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "other.test"}, "order_wrong_audience"),
        ({"portal_nonce": jose.new_nonce()}, "order_wrong_nonce"),
        ({"transport": Transport.LOOPBACK}, "order_wrong_origin"),
        ({"transport": Transport.LOOPBACK, "origin": "https://evil.test"}, "order_wrong_origin"),
        ({"origin": "https://portal.test"}, "order_wrong_origin"),
        ({"transport": Transport.TYPED}, "code_unknown"),
    ],
    ids=[
        "audience",
        "nonce",
        "loopback without origin",
        "other origin",
        "link with origin",
        "link code typed",
    ],
)
async def test_wrong_claims(kit: Kit, changes: dict[str, Any], code: str) -> None:
    """Each with its cause, and the code stays good."""
    session = await kit.person()
    _, fresh = await kit.at_open(session)
    agent = await kit.agent()
    claim = msgspec.structs.replace(agent.claim_message(fresh.code), **changes)
    with pytest.raises(InlayError) as caught:
        await agent.send_claim(agent.device.sign(jose.CLAIM, claim))
    assert caught.value.code == code
    await agent.claim(fresh.code)


@pytest.mark.parametrize(
    "wrong", ["signed by another key", "other kind of token", "key not on the curve", "cut off"]
)
async def test_forged_claims(kit: Kit, wrong: str) -> None:
    """A claim proves the key it names."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agent = await kit.agent()
    claim = agent.claim_message(code.code)
    broken = msgspec.structs.replace(claim.device_key, x="A" * 43)
    token = {
        "signed by another key": lambda: jose.SigningKey.generate().sign(jose.CLAIM, claim),
        "other kind of token": lambda: agent.device.sign(jose.RESUME, claim),
        "key not on the curve": lambda: agent.device.sign(
            jose.CLAIM, msgspec.structs.replace(claim, device_key=broken)
        ),
        "cut off": lambda: agent.device.sign(jose.CLAIM, claim)[:-4],
    }[wrong]()
    with pytest.raises(InlayError) as caught:
        await agent.call("claim", ClaimParams(claim=token))
    assert caught.value.code == "message_signature_invalid"


async def test_user_not_active(kit: Kit) -> None:
    """Made inactive between the page and the claim; and the start is refused, naming the state that is needed."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    await kit.portal.accounts.set_state("ada@example.org", UserState.INACTIVE)
    refusal = await _refusal(await kit.agent(), code.code)
    assert (refusal.code, refusal.fields) == ("user_not_active", {"state": "inactive"})
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(session, PROCESS)
    assert caught.value.code == "user_not_active"
    assert "must be active" in caught.value.why


async def test_cancelled_before_the_claim(kit: Kit) -> None:
    """The code ends with the process."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    await kit.services.cancel(session, view.id)
    assert (await _refusal(await kit.agent(), code.code)).code in (
        "code_used",
        "code_unknown",
        "order_undone",
    )
