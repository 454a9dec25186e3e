"""From a code to an order: everything the portal, the network or a forger can do wrong before consent."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from agent.channel import ChannelClosedError, open_channel
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    Confirmation,
    Empty,
    MessageParams,
    Order,
    ResumeParams,
    ResumeResult,
    Transport,
)
from tests.support.agent_parts import CODE, AgentParts, FakePage
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal

OTHER_KEY = jose.SigningKey.generate()


def changed(**fields: object) -> Callable[[Any], Any]:
    return lambda value: msgspec.structs.replace(value, **fields)


async def refusal(agent: AgentParts, portal: FakePortal, **how: Any) -> str:
    """Submit a code that must be refused: no window, no card, one notification."""
    with pytest.raises(InlayError) as caught:
        await agent.submit(portal, **how).wait()
    assert agent.windows.opened == []
    assert agent.card_files() == []
    assert [error.code for error in agent.notifier.errors] == [caught.value.code]
    assert agent.journal.get().unsettled() == []
    return caught.value.code


# --- the order


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed(iss="other.test"), "order_wrong_issuer"),
        (changed(cnf=Confirmation(jkt=OTHER_KEY.thumbprint)), "order_wrong_device"),
        (changed(nonce=jose.new_nonce()), "order_wrong_nonce"),
        (changed(origin="https://evil.test"), "order_wrong_origin"),
        # the portal may have proved its time, which counts, a second before it made the order
        (lambda order: changed(exp=order.iat - 2)(order), "order_expired"),
        (lambda order: changed(iat=order.iat + 600, exp=order.exp + 600)(order), "order_expired"),
        (lambda order: changed(iat=order.iat - 900, exp=order.exp - 900)(order), "order_expired"),
    ],
)
async def test_an_order_that_is_not_for_this_claim(
    agent: AgentParts, portal: FakePortal, change: Callable[[Order], Order], code: str
) -> None:
    portal.faults.order = change
    assert await refusal(agent, portal) == code
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None  # nobody waits for it until its time is over
    assert at.undone.error == code
    assert agent.journal.get().open_claims() == []


def _unsigned(order: Order) -> str:
    header = jose.base64url(json.dumps({"alg": "none", "typ": jose.ORDER}).encode())
    return f"{header}.{jose.base64url(msgspec.json.encode(order))}.{jose.base64url(b'none')}"


def _hmac_under_public_key(portal: FakePortal) -> Callable[[Order], str]:
    """The public key as an HMAC secret: what a verifier that believes the header would accept."""

    def token(order: Order) -> str:
        public = msgspec.json.encode(portal.key.public)
        header = {"alg": "HS256", "typ": jose.ORDER, "kid": portal.key.thumbprint}
        return jws.serialize_compact(header, msgspec.json.encode(order), OctKey.import_key(public))

    return token


def _embedded_key(order: Order) -> str:
    own = ECKey.generate_key("P-256", private=True)
    header = {"alg": "ES256", "typ": jose.ORDER, "jwk": own.as_dict(private=False)}
    return jws.serialize_compact(header, msgspec.json.encode(order), own)


def _wrong_audience(portal: FakePortal) -> Callable[[Order], str]:
    def token(order: Order) -> str:
        payload = {**msgspec.to_builtins(order), "aud": "another program"}
        header = {"alg": "ES256", "typ": jose.ORDER}
        return jws.serialize_compact(header, json.dumps(payload), ECKey.import_key(portal.key.to_pem()))

    return token


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda _portal: _unsigned, "order_algorithm_refused"),
        (_hmac_under_public_key, "order_algorithm_refused"),
        (lambda _portal: _embedded_key, "order_signature_invalid"),
        (lambda _portal: lambda order: OTHER_KEY.sign(jose.ORDER, order), "order_signature_invalid"),
        (lambda portal: lambda order: portal.root.sign(jose.ORDER, order), "order_signature_invalid"),
        (lambda portal: lambda order: portal.key.sign(jose.MESSAGE, order), "order_algorithm_refused"),
        (_wrong_audience, "order_malformed"),
    ],
)
async def test_an_order_that_the_portals_key_did_not_sign(
    agent: AgentParts,
    portal: FakePortal,
    make: Callable[[FakePortal], Callable[[Order], str]],
    code: str,
) -> None:
    portal.faults.order_token = make(portal)
    assert await refusal(agent, portal) == code


async def test_a_page_of_another_origin_than_the_orders(agent: AgentParts, portal: FakePortal) -> None:
    page = FakePage("https://evil.test")
    with pytest.raises(InlayError) as caught:
        await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    assert caught.value.code == "order_wrong_origin"
    assert page.end is not None
    assert page.end[0] == "refused"


@pytest.mark.parametrize("code", ["code_unknown", "code_expired", "code_used", "user_not_active"])
async def test_what_the_portal_refuses_is_said_with_its_cause(
    agent: AgentParts, portal: FakePortal, code: str
) -> None:
    portal.faults.claim = InlayError(code)
    assert await refusal(agent, portal) == code


async def test_a_typed_code_that_is_refused_gets_a_window(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.claim = InlayError("code_unknown")
    with pytest.raises(InlayError):
        await agent.submit(portal, "0123456789", Transport.TYPED).wait()
    assert agent.windows.opened[0].shown == ["code_unknown"]
    assert agent.notifier.errors == []


# --- the portal


async def test_a_portal_that_is_not_trusted_is_not_called(agent: AgentParts, portal: FakePortal) -> None:
    agent.trust.remove(portal.portal)
    with pytest.raises(InlayError) as caught:
        agent.submit(portal)
    assert caught.value.code == "portal_unknown"
    assert portal.connections == 0


async def test_a_key_set_of_another_root(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.key_set_signer = OTHER_KEY
    assert await refusal(agent, portal) == "keyset_invalid"
    assert portal.orders == {}


async def test_a_key_set_for_another_portal(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.key_set = changed(iss="other.test")
    assert await refusal(agent, portal) == "keyset_invalid"


async def test_an_older_key_set_is_not_taken_again(agent: AgentParts, portal: FakePortal) -> None:
    portal.key_set_version = 5
    await agent.submit(portal).wait()
    agent.windows.opened.clear()
    for card in agent.card_files():
        card.unlink()
    portal.key_set_version = 4
    assert await refusal(agent, portal, code="B" * 22) == "keyset_rolled_back"


async def test_the_same_version_with_other_keys_is_not_taken(agent: AgentParts, portal: FakePortal) -> None:
    agent.trust.accept_key_set(agent.trust.find(portal.portal), portal.key_set())
    portal.key = jose.SigningKey.generate()
    assert await refusal(agent, portal) == "keyset_rolled_back"


async def test_an_expired_key_set(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.key_set = lambda value: changed(iat=value.iat - 999, exp=value.iat - 1)(value)
    assert await refusal(agent, portal) == "keyset_expired"


async def test_a_portal_that_does_not_hold_its_key(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.proof_signer = OTHER_KEY
    assert await refusal(agent, portal) == "portal_proof_invalid"
    assert portal.orders == {}


@pytest.mark.parametrize("field", ["iss", "nonce"])
async def test_a_proof_for_somebody_else(agent: AgentParts, portal: FakePortal, field: str) -> None:
    value = "other.test" if field == "iss" else jose.new_nonce()
    portal.faults.proof = changed(**{field: value})
    assert await refusal(agent, portal) == "portal_proof_invalid"


async def test_tls_of_another_authority(agent: AgentParts, portal: FakePortal, tmp_path: Path) -> None:
    folder = tmp_path / "other-ca"
    folder.mkdir()
    other = ThrowAwayCA(folder)
    agent.trust.add(portal.portal, "Test portal", portal.root.public, other.ca_file.read_text())
    assert await refusal(agent, portal) == "portal_tls_untrusted"
    assert portal.connections == 0


async def test_tls_of_the_systems_authorities_does_not_vouch_for_a_throw_away_ca(
    agent: AgentParts, portal: FakePortal
) -> None:
    agent.trust.add(portal.portal, "Test portal", portal.root.public, None)
    assert await refusal(agent, portal) == "portal_tls_untrusted"


async def test_a_portal_that_is_away(agent: AgentParts, portal: FakePortal) -> None:
    await portal.stop()
    assert await refusal(agent, portal) == "portal_unreachable"


# --- the clock


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_clock_that_is_off_by_days(agent: AgentParts, portal: FakePortal, days: int) -> None:
    portal.clock_offset = days * 86_400
    assert await refusal(agent, portal) in ("clock_wrong", "keyset_expired")


@pytest.mark.parametrize(("minutes", "noted"), [(0, False), (-10, True), (10, True)])
async def test_a_drift_is_noted_and_the_portals_time_counts(
    agent: AgentParts, portal: FakePortal, minutes: int, noted: bool
) -> None:
    portal.clock_offset = minutes * 60
    await agent.submit(portal).wait()
    prompt = agent.windows.opened[0].prompt
    assert prompt is not None
    assert any("clock" in line for line in prompt.consequences) is noted


# --- what the claim says


async def test_the_claim_says_how_the_code_came_and_from_which_page(
    agent: AgentParts, portal: FakePortal
) -> None:
    await agent.submit(portal, transport=Transport.LOOPBACK, page=FakePage(portal.origin)).wait()
    claim = portal.orders[CODE].claim
    assert (claim.transport, claim.origin) == (Transport.LOOPBACK, portal.origin)
    assert claim.device_key == agent.device.key().public
    assert [level.value for level in claim.storage] == ["file"]


async def test_the_device_key_stays_the_same(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    await agent.submit(portal, code="B" * 22).wait()
    first, second = portal.orders[CODE], portal.orders["B" * 22]
    assert first.device == second.device
    assert first.claim.nonce != second.claim.nonce
    assert first.consented is not None
    assert second.consented is not None
    assert first.consented.encryption_key != second.consented.encryption_key


async def test_nothing_is_refused_by_a_connection_that_is_gone(agent: AgentParts, portal: FakePortal) -> None:
    """What was to be said may be said on another: that isn't an error of what it was."""
    channel = await open_channel(agent.trust.find(portal.portal), agent.trust)
    await portal.cut()
    await channel.wait_closed()
    for saying in (
        channel.call("message", MessageParams(message="a.b.c"), Empty),
        channel.confirm(1),
        channel.refuse(1, InlayError("internal")),
    ):
        with pytest.raises(ChannelClosedError):
            await saying
    await channel.close()


async def test_a_call_whose_connection_ends_while_it_is_sent_is_said_once(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who calls is told, and nothing is left behind that nobody has asked for."""
    entry = agent.trust.find(portal.portal)
    channel = await open_channel(entry, agent.trust)
    send = channel._connection.send
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: unheard.append(context["message"])
    )

    async def cut_meanwhile(frame: bytes, *, text: bool) -> None:
        await portal.cut()
        await channel.wait_closed()
        await send(frame, text=text)

    monkeypatch.setattr(channel._connection, "send", cut_meanwhile)
    with pytest.raises(ChannelClosedError):
        await channel.call("resume", ResumeParams(resume="a.b.c"), ResumeResult)
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []
