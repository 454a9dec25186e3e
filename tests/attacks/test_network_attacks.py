"""Attacks by whoever opens TLS between agent and portal, and by orders that are copied or come again.

Real agents throughout; the real portal and a proxy that both believe wherever the network is the attacker. Each attack
is one function. It fails; and it gets through when exactly the defence that its test names is taken out.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.journal import Journal, OpenClaim, OrderRef
from agent.trust import TrustStore
from protocol import jose, orders
from protocol.messages import Confirmation, Envelope
from protocol.orders import Exchange
from tests.support.agent_parts import CODE, OTHER_CODE, running_agent
from tests.support.attack_stage import (
    Frame,
    Passed,
    Stage,
    asked_or_ended,
    message_type,
    outcome,
    payload,
)
from tests.support.fake_portal import FakePortal
from tests.support.order_messages import sequence_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent.journal import OrderRef
    from agent.trust import TrustEntry
    from protocol.messages import Message, Order
    from protocol.orders import Expected
    from tests.support.certificates import ThrowAwayCA

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
OWN_IDS = 1_000_000
"""Ids of the frames that the proxy makes itself."""


def order_of(frame: Frame) -> str | None:
    """The order's token in the answer to a claim."""
    result = frame.get("result")
    return result.get("order") if isinstance(result, dict) else None


def with_order(frame: Frame, token: str) -> Frame:
    """The answer to a claim with another order in it."""
    return {**frame, "result": {**frame["result"], "order": token}}


def agree_on(monkeypatch: pytest.MonkeyPatch, **named: str) -> None:
    """Take one check of an order out: the field is read as what was expected.

    Args:
        monkeypatch: pytest's.
        named: field of the order to the field of what is expected.
    """
    check = orders._check_order

    def without(order: Order, expected: Expected) -> None:
        values = {field: getattr(expected, name) for field, name in named.items()}
        if "cnf" in values:
            values["cnf"] = Confirmation(jkt=values["cnf"])
        check(msgspec.structs.replace(order, **values), expected)

    monkeypatch.setattr(orders, "_check_order", without)


# --- an order copied to another agent


async def _copy_order(stage: Stage) -> str:
    """Mallory's modified agent claims her own code with the nonce of Vera's claim; Vera's agent gets her order."""
    mallory = await stage.kit.person("mallory@example.org")
    vera = await stage.kit.person("vera@example.org")
    _, hers = await stage.kit.at_open(mallory)
    _, code = await stage.kit.at_open(vera)
    accomplice = await stage.kit.agent()
    copied: list[str] = []

    async def claim_first(frame: Frame) -> Passed:
        if frame.get("method") == "claim":
            accomplice.nonce = payload(frame["params"]["claim"])["nonce"]
            copied.append((await accomplice.claim(hers.code)).order)
        return Passed([frame])

    async def answer_hers(frame: Frame) -> Passed:
        return Passed([with_order(frame, copied[0]) if order_of(frame) else frame])

    stage.proxy.to_portal, stage.proxy.to_agent = claim_first, answer_hers
    return await asked_or_ended(stage.victim, stage.open_link(stage.victim, code.link))


async def test_an_order_copied_to_another_agent_fails(stage: Stage) -> None:
    assert await _copy_order(stage) == "order_wrong_device"


async def test_a_copied_order_gets_through_without_its_confirmation_key(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree_on(monkeypatch, cnf="device")
    assert await _copy_order(stage) == "asked"
    prompt = stage.victim.windows.opened[0].prompt
    assert prompt is not None
    assert "mallory@example.org" in prompt.account


# --- an order held back, and answered to a later claim of the same agent


async def _replay_withheld_order(stage: Stage) -> str:
    """The first order never arrives; it is the answer to the claim of a second code."""
    vera = await stage.kit.person("vera@example.org")
    view, code = await stage.kit.at_open(vera)
    withheld: list[str] = []

    async def withhold(frame: Frame) -> Passed:
        token = order_of(frame)
        if token is None:
            return Passed([frame])
        withheld.append(token)
        if len(withheld) > 1:
            return Passed([with_order(frame, withheld[0])])
        error = {"code": 1108, "message": "-", "data": {"error": "code_used", "fields": {}}}
        return Passed([{"jsonrpc": "2.0", "id": frame["id"], "error": error}])

    stage.proxy.to_agent = withhold
    assert await outcome(stage.open_link(stage.victim, code.link)) == "code_used"
    await stage.kit.services.cancel(vera, view.id)
    _, later = await stage.kit.at_open(vera)
    return await asked_or_ended(stage.victim, stage.open_link(stage.victim, later.link))


async def test_an_order_held_back_and_replayed_fails(stage: Stage) -> None:
    assert await _replay_withheld_order(stage) == "order_wrong_nonce"


async def test_a_held_back_order_gets_through_without_the_nonce(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree_on(monkeypatch, nonce="nonce")
    assert await _replay_withheld_order(stage) == "asked"


# --- an order replayed to the same agent after a restart


async def _replay_after_restart(home: Path, https_ca: ThrowAwayCA) -> str:
    """A portal set back to an old backup makes an order out anew: its id is one that was carried out before."""
    async with FakePortal(https_ca) as portal:
        async with running_agent(home) as agent:
            agent.trust_portal(portal)
            await agent.submit(portal).wait()
        portal.orders.clear()
        async with running_agent(home) as agent:
            return await asked_or_ended(agent, agent.submit(portal))


async def test_an_order_replayed_after_a_restart_fails(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None
) -> None:
    assert await _replay_after_restart(tmp_path / "home", https_ca) == "order_replayed"


async def test_a_replayed_order_gets_through_without_the_memory_of_the_journal(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Journal.begin

    def forgetful(
        self: Journal, ref: OrderRef, token: str, key: bytes, claim: OpenClaim | None = None
    ) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM orders WHERE portal = ? AND jti = ?", ref)
        begin(self, ref, token, key, claim)

    monkeypatch.setattr(Journal, "begin", forgetful)
    assert await _replay_after_restart(tmp_path / "home", https_ca) == "asked"


# --- a proxy that alters, drops, reorders and repeats messages


async def _tamper(stage: Stage, tampering: Tampering) -> str:
    """A whole order through the proxy's hands. How it ended at the agent."""
    vera = await stage.kit.person("vera@example.org")
    view, code = await stage.kit.at_open(vera)
    stage.proxy.to_portal, stage.proxy.to_agent = tampering.take, tampering.hide
    ending = stage.open_link(stage.victim, code.link)
    typing = asyncio.create_task(stage.type_number(vera, view, stage.victim))
    result = await outcome(ending)
    typing.cancel()
    await asyncio.gather(typing, return_exceptions=True)
    return result


class Tampering:
    """What is done to the third and fourth message of the agent: two steps that it tells of.

    Attributes:
        touched: how many messages were tampered with.
    """

    def __init__(self, how: str) -> None:
        self.touched = 0
        self._do = getattr(self, f"_{how}")
        self._held: Frame | None = None

    async def take(self, frame: Frame) -> Passed:
        if not message_type(frame):
            return Passed([frame])
        passed: Passed = self._do(frame, payload(frame["params"]["message"])["seq"])
        return passed

    async def hide(self, frame: Frame) -> Passed:
        """The agent sees no answer to what it has not sent."""
        return Passed([] if frame.get("id", 0) >= OWN_IDS and "method" not in frame else [frame])

    def _alter(self, frame: Frame, _seq: int) -> Passed:
        """The serial number that the card is registered by."""
        if message_type(frame) != "requests":
            return Passed([frame])
        self.touched += 1
        header, _, signature = frame["params"]["message"].split(".")
        said = payload(frame["params"]["message"])
        said["body"]["serial"] = "666"
        return Passed([with_message(frame, f"{header}.{encoded(said)}.{signature}")])

    def _drop(self, frame: Frame, seq: int) -> Passed:
        """One step is lost; the agent is told that it arrived."""
        if seq != 3:
            return Passed([frame])
        self.touched += 1
        return Passed([], [acknowledged(frame)])

    def _reorder(self, frame: Frame, seq: int) -> Passed:
        """One step is held back until the next has passed it."""
        if seq == 3:
            self._held = frame
            return Passed([], [acknowledged(frame)])
        if seq == 4 and self._held is not None:
            self.touched += 1
            return Passed([frame, {**self._held, "id": OWN_IDS}])
        return Passed([frame])

    def _repeat(self, frame: Frame, seq: int) -> Passed:
        """A step is sent again, under another signature: (r, n - s) is as good as (r, s)."""
        if seq != 3:
            return Passed([frame])
        self.touched += 1
        token = other_signature(frame["params"]["message"])
        return Passed([frame, {**with_message(frame, token), "id": OWN_IDS}])

    def _echo(self, frame: Frame, _seq: int) -> Passed:
        """Every message is sent twice, as it is."""
        self.touched += 1
        return Passed([frame, {**frame, "id": OWN_IDS + frame["id"]}])


def acknowledged(frame: Frame) -> Frame:
    """What a portal says to a message that it took: it isn't signed."""
    return {"jsonrpc": "2.0", "id": frame["id"], "result": {}}


def with_message(frame: Frame, token: str) -> Frame:
    return {**frame, "params": {"message": token}}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def other_signature(token: str) -> str:
    """The same message under the other signature that ES256 allows for it."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    second = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(raw[:32] + second).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("alter", "message_signature_invalid"),
        ("drop", "message_wrong_sequence"),
        ("reorder", "message_wrong_sequence"),
        ("repeat", "message_wrong_sequence"),
    ],
)
async def test_a_proxy_that_opens_tls_fails(stage: Stage, how: str, code: str) -> None:
    tampering = Tampering(how)
    assert await _tamper(stage, tampering) == code
    assert tampering.touched == 1
    assert stage.victim.card_files() == []
    assert await stage.kit.valid_at_ca() == []


async def test_altering_gets_through_without_the_signature(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unverified(_self: Exchange, token: str) -> Envelope:
        return jose.unverified_payload(token, jose.MESSAGE, Envelope)

    monkeypatch.setattr(Exchange, "_open", unverified)
    assert await _tamper(stage, Tampering("alter")) == "finished"
    card = (await stage.kit.services.cards(await stage.kit.login("vera@example.org")))[0]
    assert card.serial == "666"


@pytest.mark.parametrize("how", ["drop", "reorder"])
async def test_dropping_and_reordering_get_through_without_the_numbers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    receive = Exchange.receive

    def unnumbered(self: Exchange, token: str) -> Message:
        self.position = self.position._replace(received=sequence_of(token) - 1)
        return receive(self, token)

    monkeypatch.setattr(Exchange, "receive", unnumbered)
    assert await _tamper(stage, Tampering(how)) == "finished"


async def test_what_is_only_sent_twice_is_carried_out_once(stage: Stage) -> None:
    """A message that is exactly one already stored is acknowledged again: an agent may have to send it again."""
    tampering = Tampering("echo")
    assert await _tamper(stage, tampering) == "finished"
    assert tampering.touched > 5
    assert len(await stage.kit.valid_at_ca()) == 3


# --- a key set set back to one whose order key was stolen


async def _roll_back(home: Path, https_ca: ThrowAwayCA) -> str:
    """The order key leaked, and was replaced; the thief answers with the old key set, which the root key signed."""
    async with FakePortal(https_ca) as portal, running_agent(home) as agent:
        agent.trust_portal(portal)
        leaked, portal.key = portal.key, jose.SigningKey.generate()
        portal.key_set_version = 2
        await agent.submit(portal).wait()
        portal.key, portal.key_set_version = leaked, 1
        agent.windows.opened.clear()
        return await asked_or_ended(agent, agent.submit(portal, OTHER_CODE))


async def test_a_rolled_back_key_set_fails(tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None) -> None:
    assert await _roll_back(tmp_path / "home", https_ca) == "keyset_rolled_back"


async def test_a_rolled_back_key_set_gets_through_without_the_memory_of_its_version(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(_self: TrustStore, _entry: TrustEntry) -> None:
        return None

    monkeypatch.setattr(TrustStore, "_key_set_state", forgotten)
    assert await _roll_back(tmp_path / "home", https_ca) == "asked"


# --- a portal that can't prove its order key


async def _impersonate(home: Path, https_ca: ThrowAwayCA) -> int:
    """Somebody who has recorded the (public) key set answers in the portal's place. How many codes he is told."""
    async with FakePortal(https_ca) as portal, running_agent(home) as agent:
        agent.trust_portal(portal)
        portal.faults.proof_signer = jose.SigningKey.generate()
        await asked_or_ended(agent, agent.submit(portal, CODE))
        return len(portal.orders)


async def test_a_replayed_key_set_alone_is_told_no_code(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None
) -> None:
    assert await _impersonate(tmp_path / "home", https_ca) == 0


async def test_a_replayed_key_set_is_told_codes_without_the_channel_proof(
    tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 1."""
    verify = jose.verify

    def proof_believed(token: str, typ: str, keys: object, type_: type[Message]) -> Message:
        if typ == jose.CHANNEL:
            return jose.unverified_payload(token, typ, type_)
        return verify(token, typ, keys, type_)  # type: ignore[arg-type]

    monkeypatch.setattr(jose, "verify", proof_believed)
    assert await _impersonate(tmp_path / "home", https_ca) == 1
