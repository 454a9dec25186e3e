"""Orders that go well, from the start page to the active card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import (
    CaState,
    CertificateState,
    ProcessState,
    VirtualSmartCardState,
)
from portal.store import audit
from protocol.messages import Binding, Transport
from tests.support.databases import BACKENDS

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.mark.parametrize("recoverable", [True, False])
@pytest.mark.parametrize("algorithm", ["RSA-2048", "P-256"])
async def test_a_card_by_link_and_number(kit: Kit, algorithm: str, recoverable: bool) -> None:
    """Every algorithm, with the encryption key from the archive and made on the card."""
    await kit.set_options(
        AuthenticationAlgorithm=algorithm,
        SignatureAlgorithm=algorithm,
        EncryptionAlgorithm=algorithm,
        RecoverEncryption=recoverable,
    )
    session = await kit.person()
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    assert agent.order is not None
    assert agent.order.binding is Binding.NUMBER
    await agent.consent(number="417")
    async for event in kit.services.events(session, view.id):
        if event.number_wanted:
            assert (await kit.services.enter_number(session, view.id, "417")).accepted
            break
    await agent.complete()

    view = await kit.services.process(session, view.id)
    assert view.step == "details"
    assert view.card is not None
    assert view.card.state is VirtualSmartCardState.ACTIVE
    assert {item.purpose for item in view.card.certificates} == {"authentication", "signature", "encryption"}
    for item in view.card.certificates:
        assert (item.state, item.ca_state) == (CertificateState.VALID, CaState.GOOD)
        assert item.algorithm == algorithm
        assert item.recoverable == (recoverable and item.purpose == "encryption")
    view = await kit.services.next(session, view.id, view.version)
    assert view.state is ProcessState.FINISHED
    assert [card.guid for card in await kit.services.cards(session)] == [agent.card.guid]
    async with kit.database.read() as tx:
        assert await audit.first_fault(tx) is None


async def test_the_first_card_by_loopback_needs_the_number(kit: Kit) -> None:
    """Whoever took a loopback port could hand a completion secret back, but shows no number."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code, Transport.LOOPBACK, agent.origin)
    assert agent.order is not None
    assert agent.order.binding is Binding.NUMBER


async def test_a_known_device_by_loopback_and_completion(kit: Kit) -> None:
    """The page hands the completion secret over, twice; it may come before the consent has been carried out."""
    session = await kit.person()
    agent = await kit.known_agent(session)
    view, code = await kit.at_open(session)
    await agent.claim(code.code, Transport.LOOPBACK, agent.origin)
    assert agent.order is not None
    assert agent.order.binding is Binding.COMPLETION
    assert agent.order.completion is not None
    await kit.services.complete(session, view.id, agent.order.completion)
    await kit.services.complete(session, view.id, agent.order.completion)
    await agent.consent()
    await agent.complete()
    assert (await kit.services.process(session, view.id)).step == "details"


async def test_a_known_device_needs_no_number(kit: Kit) -> None:
    """The second card on the same device by the same account, by a typed code."""
    session = await kit.person()
    agent = await kit.known_agent(session)
    _, code = await kit.at_open(session)
    await agent.claim(code.typed_code.replace("-", ""), Transport.TYPED)
    assert agent.order is not None
    assert agent.order.binding is Binding.NONE
    await agent.consent()
    await agent.complete()
    assert len(await kit.services.cards(session)) == 2
