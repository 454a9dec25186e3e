"""Requests and receipts that must not end in a valid certificate, and a CA that doesn't answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portal.model.states import CertificateState, ProcessState, VirtualSmartCardState
from portal.processes import endings
from protocol import jose, proofs
from protocol.messages import (
    Algorithm,
    CertificateRequest,
    Certificates,
    Finished,
    Proceed,
    StorageLevel,
    Undo,
)
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, running_portal
from tests.support.software_agent import make_csr, make_key, public_der
from tests.support.unruly_ca import UnrulyCa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from protocol.messages import Receipt, Requests
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def _replace(requests: Requests, slot: str, **changes: Any) -> Requests:
    changed = [
        msgspec.structs.replace(item, **changes) if item.slot == slot else item for item in requests.requests
    ]
    return msgspec.structs.replace(requests, requests=changed)


def _altered(csr: bytes) -> bytes:
    return csr[:-1] + bytes([csr[-1] ^ 1])


_REQUESTS: dict[str, tuple[Callable[[Requests], Requests], str, str]] = {
    "other key type": (
        lambda given: _replace(given, "9A", csr=make_csr(make_key(Algorithm.RSA_2048))), "request_invalid", "9A",
    ),
    "altered request": (
        lambda given: _replace(given, "9C", csr=_altered(given.requests[1].csr or b"")), "request_invalid", "9C",
    ),
    "bare key that could sign": (
        lambda given: _replace(given, "9A", csr=None, public_key=public_der(make_key(Algorithm.P_256))),
        "request_invalid", "9A",
    ),
    "request of a key that can't sign": (
        lambda given: _replace(given, "9D", public_key=None, csr=make_csr(make_key(Algorithm.P_256))),
        "request_invalid", "9D",
    ),
    "slot left out": (
        lambda given: msgspec.structs.replace(given, requests=given.requests[1:]), "params_invalid", "$.requests",
    ),
    "slot twice": (
        lambda given: msgspec.structs.replace(given, requests=[given.requests[0], *given.requests]),
        "params_invalid", "$.requests",
    ),
    "slot not ordered": (
        lambda given: msgspec.structs.replace(
            given, requests=[*given.requests, CertificateRequest(slot="9E", csr=make_csr(make_key(Algorithm.P_256)))]
        ),
        "params_invalid", "$.requests",
    ),
    "PUK not escrowed": (lambda given: msgspec.structs.replace(given, puk=None), "params_invalid", "$.puk"),
    "PUK to another key": (
        lambda given: msgspec.structs.replace(given, puk=jose.encrypt(b"12345678", jose.SigningKey.generate().public)),
        "message_signature_invalid", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", _REQUESTS)
async def test_wrong_requests(kit: Kit, wrong: str) -> None:
    """Told to the device and the page; nothing at the CA, no card."""
    change, code, where = _REQUESTS[wrong]
    await kit.set_options(**P256, RecoverEncryption=False)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    assert agent.order is not None
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(change(agent.card.requests(agent.order)))
    answer = await agent.hear()
    assert isinstance(answer, Undo)
    assert answer.error.error == code
    assert where in ("", answer.error.fields.get("slot"), answer.error.fields.get("path"))
    view = await kit.services.process(session, view.id)
    assert view.state is ProcessState.FAILED
    assert await kit.valid_at_ca() == []
    assert await kit.services.cards(session) == []


async def test_a_puk_that_is_none(kit: Kit) -> None:
    """What was escrowed is looked at."""
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    agent.card.puk = b"1234567a"
    assert agent.order is not None
    await agent.hear()
    await agent.say(agent.card.requests(agent.order))
    answer = await agent.hear()
    assert isinstance(answer, Undo)
    assert answer.error.fields == {"path": "$.puk"}


async def test_a_card_that_another_order_made(kit: Kit) -> None:
    """Two cards can't be one."""
    await kit.set_options(**P256)
    session = await kit.person()
    known = await kit.known_agent(session)
    (card,) = await kit.services.cards(session)
    _, code = await kit.at_open(session)
    await known.claim(code.code)
    await known.consent()
    known.card.guid = card.guid
    assert known.order is not None
    await known.hear()
    await known.say(known.card.requests(known.order))
    answer = await known.hear()
    assert isinstance(answer, Undo)
    assert answer.error.fields == {"path": "$.guid"}


def _proof(receipt: Receipt, slot: str, **changes: Any) -> Receipt:
    given = [
        msgspec.structs.replace(item, **changes) if item.slot == slot else item for item in receipt.proofs
    ]
    return msgspec.structs.replace(receipt, proofs=given)


def _wrong_receipts(agent: SoftwareAgent, receipt: Receipt) -> dict[str, tuple[Receipt, str]]:
    card, order = agent.card, agent.order
    assert order is not None
    der = card.certificates["9A"]
    other = make_key(Algorithm.P_256)
    signed_elsewhere = card.sign("9A", proofs.signature_input("https://evil.test", order.jti, der))
    other_order = card.sign("9A", proofs.signature_input(order.origin, "0" * 32, der))
    card.keys["82"] = other
    other_key = card.sign("82", proofs.signature_input(order.origin, order.jti, der))
    by_slot = {item.slot: item for item in receipt.proofs}
    return {
        "another key": (_proof(receipt, "9A", signature=other_key), "proof_invalid"),
        "another origin": (_proof(receipt, "9A", signature=signed_elsewhere), "proof_invalid"),
        "another order": (_proof(receipt, "9A", signature=other_order), "proof_invalid"),
        "another slot's": (_proof(receipt, "9A", signature=by_slot["9C"].signature), "proof_invalid"),
        "another certificate": (
            _proof(receipt, "9A", certificate_sha256=by_slot["9C"].certificate_sha256), "proof_invalid",
        ),
        "a MAC for a signature": (_proof(receipt, "9A", signature=None, mac=b"0" * 32), "proof_invalid"),
        "wrong MAC": (_proof(receipt, "9D", mac=b"0" * 32), "proof_invalid"),
        "signature for a MAC": (_proof(receipt, "9D", mac=None, signature=by_slot["9C"].signature), "proof_invalid"),
        "one left out": (msgspec.structs.replace(receipt, proofs=receipt.proofs[1:]), "proof_invalid"),
        "one twice": (
            msgspec.structs.replace(receipt, proofs=[*receipt.proofs[1:], receipt.proofs[1]]), "proof_invalid",
        ),
        "slot not ordered": (
            msgspec.structs.replace(
                receipt, proofs=[*receipt.proofs, msgspec.structs.replace(receipt.proofs[0], slot="9E")]
            ),
            "proof_invalid",
        ),
        "another card": (msgspec.structs.replace(receipt, guid="0" * 32), "params_invalid"),
        "another storage level": (msgspec.structs.replace(receipt, storage=StorageLevel.TPM), "storage_refused"),
    }  # fmt: skip


_RECEIPTS = (
    "another key", "another origin", "another order", "another slot's", "another certificate",
    "a MAC for a signature", "wrong MAC", "signature for a MAC", "one left out", "one twice", "slot not ordered",
    "another card", "another storage level",
)  # fmt: skip


@pytest.mark.parametrize("wrong", _RECEIPTS)
async def test_wrong_receipts(kit: Kit, wrong: str) -> None:
    """Certificates were issued: all are revoked at the CA, the card stays Registered, device and page are told."""
    await kit.set_options(**P256)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    assert len(await kit.valid_at_ca()) == 3
    altered, code = _wrong_receipts(agent, receipt)[wrong]
    await agent.say(altered)
    answer = await agent.hear()
    assert isinstance(answer, Undo)
    assert answer.error.error == code
    assert await kit.valid_at_ca() == []
    (card,) = await kit.services.cards(session)
    assert card.state is VirtualSmartCardState.REGISTERED
    assert {item.state for item in card.certificates} == {CertificateState.REVOKED}
    failed = await kit.services.process(session, view.id)
    assert failed.error is not None
    assert failed.error.error == code


async def test_a_key_that_somebody_elses_card_has_is_refused(kit: Kit) -> None:
    """As a card makes it whose random generator is none."""
    await kit.set_options(**P256)
    first = await kit.person()
    _, agent = await kit.bound_agent(first)
    await agent.say(await agent.make_card())
    assert isinstance(await agent.hear(), Finished)
    before = await kit.valid_at_ca()
    second = await kit.person("grace@example.org")
    view, other = await kit.bound_agent(second)
    assert other.order is not None
    await other.hear()
    again = make_csr(agent.card.keys["9C"])
    await other.say(_replace(other.card.requests(other.order), "9C", csr=again))
    answer = await other.hear()
    assert isinstance(answer, Undo)
    assert (answer.error.error, answer.error.fields) == ("key_of_another", {"slot": "9C"})
    assert (await kit.services.process(second, view.id)).state is ProcessState.FAILED
    assert await kit.valid_at_ca() == before


async def test_a_storage_level_that_the_policy_refuses(kit: Kit) -> None:
    """Before anything is made."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417", storage=StorageLevel.FILE)
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == "storage_refused"


@pytest.mark.parametrize("fault", ["refuse", "lose"])
async def test_a_ca_that_refuses_or_loses_its_answer(tmp_path: Path, database_url: str, fault: str) -> None:
    """The second of three certificates: told, and nothing is left good at the CA, answer or not."""
    ca = UnrulyCa()
    setattr(ca, fault, "signature")
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        assert agent.order is not None
        await agent.hear()
        await agent.say(agent.card.requests(agent.order))
        answer = await agent.hear()
        assert isinstance(answer, Undo)
        assert (answer.error.error, answer.error.fields) == ("ca_refused", {"purpose": "signature"})
        failed = await kit.services.process(session, view.id)
        assert failed.error is not None
        assert failed.error.error == "ca_refused"
        await kit.portal.reconciler.run()
        assert await kit.valid_at_ca() == []
        (card,) = await kit.services.cards(session)
        assert card.state is VirtualSmartCardState.REGISTERED


async def test_a_fault_that_nobody_foresaw(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Undone at once, not at the order's deadline; the device and the page learn no word of the fault."""
    ca = UnrulyCa()
    ca.fail = "signature"
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        assert agent.order is not None
        await agent.hear()
        await agent.say(agent.card.requests(agent.order))
        answer = await asyncio.wait_for(agent.hear(), 20)
        assert isinstance(answer, Undo)
        assert (answer.error.error, answer.error.fields) == ("internal", {})
        failed = await kit.services.process(session, view.id)
        assert failed.error is not None
        assert failed.error.error == "internal"
        assert await kit.valid_at_ca() == []
        await kit.portal.incoming.carry_out_now(agent.order.jti)
        assert await kit.portal.incoming.unfinished() == []
    assert "not foreseen: builtins.RuntimeError at " in caplog.text


async def test_a_fault_after_the_order_has_won(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it ends is decided: the message stays stored, and the next try finishes the order."""
    await kit.set_options(**P256)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    failed = asyncio.Event()

    async def broken(*_: object) -> None:
        failed.set()
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(endings, "finish", broken)
        await agent.say(receipt)
        await asyncio.wait_for(failed.wait(), 20)
        assert agent.order is not None
        with pytest.raises(RuntimeError):
            await kit.portal.incoming.carry_out_now(agent.order.jti)
    assert await kit.portal.incoming.unfinished() == [agent.order.jti]
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    assert isinstance(await agent.hear(), Finished)
    assert (await kit.ended(session, view.id)).state == "finished"


async def test_a_ca_that_answers_after_the_cancel(tmp_path: Path, database_url: str) -> None:
    """The certificate that comes too late is stored and revoked, not forgotten."""
    ca = UnrulyCa()
    ca.wait = "signature"
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        assert agent.order is not None
        await agent.hear()
        await agent.say(agent.card.requests(agent.order))
        await ca.held.wait()
        await kit.services.cancel(session, view.id)
        ca.released.set()
        assert isinstance(await agent.hear(), Undo)
        await kit.portal.incoming.carry_out_now(agent.order.jti)
        assert await kit.valid_at_ca() == []
        (card,) = await kit.services.cards(session)
        assert all(item.state is CertificateState.REVOKED for item in card.certificates)
        assert agent.inbox.empty()


async def test_revocation_waits_out_the_ca(tmp_path: Path, database_url: str) -> None:
    """Shown as pending, never as Revoked before the CA has confirmed it."""
    ca = UnrulyCa()
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        await agent.make_card()
        ca.away = True
        await kit.services.cancel(session, view.id)
        assert len(await kit.valid_at_ca()) == 3
        (card,) = await kit.services.cards(session)
        assert all(item.revocation_pending for item in card.certificates)
        assert {item.state for item in card.certificates} == {CertificateState.ISSUED}
        ca.away = False
        kit.clock.now += 3600
        assert await kit.valid_at_ca() == []
        (card,) = await kit.services.cards(session)
        assert {item.state for item in card.certificates} == {CertificateState.REVOKED}
        assert not any(item.revocation_pending for item in card.certificates)


async def test_the_right_receipt(kit: Kit) -> None:
    """The same way with nothing wrong."""
    await kit.set_options(**P256)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    assert agent.order is not None
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(agent.card.requests(agent.order))
    certificates = await agent.hear()
    assert isinstance(certificates, Certificates)
    (card,) = await kit.services.cards(session)
    assert {item.state for item in card.certificates} == {CertificateState.ISSUED}
    await agent.say(agent.receipt(certificates))
    assert isinstance(await agent.hear(), Finished)
    assert len(await kit.valid_at_ca()) == 3
