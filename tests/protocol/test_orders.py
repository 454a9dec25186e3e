"""Orders: each thing that can be wrong has its own code; the exchange ends at the first message out of turn."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from protocol import jose, keyset, orders
from protocol.errors import InlayError
from protocol.messages import (
    AGENT_MESSAGES,
    PORTAL_MESSAGES,
    Account,
    Algorithm,
    Binding,
    Certificates,
    Confirmation,
    Consented,
    CreateVirtualCard,
    ErrorData,
    Finished,
    IssuedCertificate,
    KeyOrder,
    KeySet,
    KeySource,
    Order,
    PinPolicy,
    Proceed,
    Progress,
    Purpose,
    Receipt,
    Requests,
    SlotProof,
    Step,
    StorageLevel,
    UnblockPin,
    Undo,
    Undone,
)
from protocol.orders import Side, Stage
from tests.support.order_messages import sequence_of

PORTAL_KEY = jose.SigningKey.generate()
DEVICE_KEY = jose.SigningKey.generate()
NONCE = jose.new_nonce()
NOW = 1_700_000_000
KEY_SET = KeySet(
    iss="portal.test",
    version=1,
    iat=NOW,
    exp=NOW + 86_400,
    order_keys=keyset.order_keys([PORTAL_KEY]),
    name="Portal",
    channel_path="/inlay/channel",
)
ORDER = Order(
    iss="portal.test",
    aud="inlay",
    jti="order-1",
    iat=NOW,
    exp=NOW + 120,
    cnf=Confirmation(jkt=DEVICE_KEY.thumbprint),
    nonce=NONCE,
    origin="https://portal.test",
    account=Account(id="7", name="Alex Example", user_id="alex@example.org"),
    binding=Binding.NUMBER,
    resume_within=3600,
    parameters=CreateVirtualCard(
        card="card-1",
        label="Virtual smart card alex@example.org",
        server_name="portal.test",
        valid_until=NOW + 63_072_000,
        pin_policy=PinPolicy(),
        keys=[
            KeyOrder(
                slot="9A",
                purpose=Purpose.AUTHENTICATION,
                algorithm=Algorithm.P_256,
                source=KeySource.GENERATE,
                subject="CN=Alex Example",
            )
        ],
        storage=[StorageLevel.KEYSTORE],
        puk="show",
    ),
)
EXPECTED = orders.Expected(
    portal="portal.test",
    origin="https://portal.test",
    page_origin=None,
    device=DEVICE_KEY.thumbprint,
    nonce=NONCE,
    portal_time=NOW + 1,
)
CONSENTED = Consented(encryption_key=DEVICE_KEY.public, storage=StorageLevel.KEYSTORE, number="417")
REQUESTS = Requests(guid="0" * 32, serial="1", requests=[])
CERTIFICATES = Certificates(certificates=[IssuedCertificate(slot="9A", certificate=b"0" * 8)])
RECEIPT = Receipt(
    guid="0" * 32,
    generation=41,
    storage=StorageLevel.KEYSTORE,
    proofs=[SlotProof(slot="9A", certificate_sha256=b"0" * 32, mac=b"0" * 32)],
)
WHY = ErrorData(error="user_cancelled")


def _signed(**changes: object) -> str:
    return PORTAL_KEY.sign(jose.ORDER, msgspec.structs.replace(ORDER, **changes))


def _audience(audience: str) -> str:
    """An order that the struct could not hold, signed all the same."""
    payload = {**msgspec.to_builtins(ORDER), "aud": audience}
    header = {"alg": "ES256", "typ": jose.ORDER}
    return jws.serialize_compact(header, json.dumps(payload), ECKey.import_key(PORTAL_KEY.to_pem()))


@pytest.mark.parametrize(
    ("token", "expected", "code"),
    [
        (jose.SigningKey.generate().sign(jose.ORDER, ORDER), EXPECTED, "order_signature_invalid"),
        (DEVICE_KEY.sign(jose.ORDER, ORDER), EXPECTED, "order_signature_invalid"),
        (PORTAL_KEY.sign(jose.MESSAGE, ORDER), EXPECTED, "order_algorithm_refused"),
        ("a.b.c", EXPECTED, "order_algorithm_refused"),
        (PORTAL_KEY.sign(jose.ORDER, Proceed()), EXPECTED, "order_malformed"),
        (_audience("other"), EXPECTED, "order_malformed"),
        (_signed(iss="other.test"), EXPECTED, "order_wrong_issuer"),
        (_signed(cnf=Confirmation(jkt=PORTAL_KEY.thumbprint)), EXPECTED, "order_wrong_device"),
        (_signed(nonce=jose.new_nonce()), EXPECTED, "order_wrong_nonce"),
        (_signed(origin="https://evil.test"), EXPECTED, "order_wrong_origin"),
        (_signed(), EXPECTED._replace(page_origin="https://evil.test"), "order_wrong_origin"),
        (_signed(), EXPECTED._replace(portal_time=NOW + 120), "order_expired"),
        (_signed(), EXPECTED._replace(portal_time=NOW - 61), "order_expired"),
        (_signed(completion=jose.new_nonce()), EXPECTED, "order_malformed"),
        (_signed(binding=Binding.COMPLETION), EXPECTED, "order_malformed"),
    ],
)
def test_refuses_each_wrong_order_with_its_own_code(token: str, expected: orders.Expected, code: str) -> None:
    with pytest.raises(InlayError) as caught:
        orders.verify_order(token, KEY_SET, expected)
    assert caught.value.code == code


UNBLOCK = {
    "operation": "unblock_pin",
    "card": "card-1",
    "driver": "piv",
    "guid": "0f" * 16,
    "label": "Card 7",
    "pin_policy": {},
    "puk": "typed",
}


def _parameters(**changes: object) -> str:
    payload = {**msgspec.to_builtins(ORDER), "parameters": {**UNBLOCK, **changes}}
    header = {"alg": "ES256", "typ": jose.ORDER}
    return jws.serialize_compact(header, json.dumps(payload), ECKey.import_key(PORTAL_KEY.to_pem()))


@pytest.mark.parametrize(
    "changes",
    [
        {"puk": "challenge_response"},
        {"puk": None},
        {"operation": "unblock_by_challenge"},
        {"challenge": "00112233445566778899AABBCCDDEEFF"},
        {"driver": "gids"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_card_is_unblocked_by_its_puk_and_by_no_challenge(changes: dict[str, object]) -> None:
    """No driver can: see docs/adr/0017. What asks for it is refused before anybody is asked anything."""
    with pytest.raises(InlayError) as caught:
        orders.verify_order(_parameters(**changes), KEY_SET, EXPECTED)
    assert caught.value.code == "order_malformed"
    ordered = orders.verify_order(_parameters(), KEY_SET, EXPECTED).parameters
    assert isinstance(ordered, UnblockPin)
    assert ordered.puk == "typed"


def test_takes_the_order_that_answers_its_claim() -> None:
    assert orders.verify_order(_signed(), KEY_SET, EXPECTED) == ORDER
    page = EXPECTED._replace(page_origin="https://portal.test")
    assert orders.verify_order(_signed(), KEY_SET, page) == ORDER


def _pair(*, certifies: bool = True) -> tuple[orders.Exchange, orders.Exchange]:
    return (
        orders.Exchange("order-1", Side.AGENT, DEVICE_KEY, [PORTAL_KEY.public], certifies=certifies),
        orders.Exchange("order-1", Side.PORTAL, PORTAL_KEY, [DEVICE_KEY.public], certifies=certifies),
    )


def _refused(exchange: orders.Exchange, token: str) -> str:
    before = exchange.position
    with pytest.raises(InlayError) as caught:
        exchange.receive(token)
    assert exchange.position == before
    return caught.value.code


def test_a_message_of_another_order_or_key_is_refused() -> None:
    _, portal = _pair()
    foreign = orders.Exchange("order-2", Side.AGENT, DEVICE_KEY, [PORTAL_KEY.public])
    stranger = orders.Exchange("order-1", Side.AGENT, jose.SigningKey.generate(), [PORTAL_KEY.public])
    assert _refused(portal, foreign.send(CONSENTED)) == "message_signature_invalid"
    assert _refused(portal, stranger.send(CONSENTED)) == "message_signature_invalid"


def test_a_message_sent_back_to_its_sender_is_refused() -> None:
    agent, _ = _pair()
    assert _refused(agent, agent.send(CONSENTED)) == "message_signature_invalid"


def test_a_message_twice_or_left_out_ends_the_order() -> None:
    agent, portal = _pair()
    first, second = agent.send(Progress(step=Step.CONSENT)), agent.send(CONSENTED)
    assert _refused(portal, second) == "message_wrong_sequence"
    portal.receive(first)
    assert _refused(portal, first) == "message_wrong_sequence"
    assert portal.receive(second) == CONSENTED


def test_nothing_can_be_skipped() -> None:
    agent, _ = _pair()
    for body in (REQUESTS, RECEIPT):
        with pytest.raises(InlayError) as caught:
            agent.send(body)
        assert caught.value.code == "message_unexpected"


def test_the_whole_exchange_and_its_end() -> None:
    agent, portal = _pair()
    for sender, receiver, body in (
        (agent, portal, CONSENTED),
        (portal, agent, Proceed()),
        (agent, portal, Progress(step=Step.KEYS)),
        (agent, portal, REQUESTS),
        (portal, agent, CERTIFICATES),
        (agent, portal, RECEIPT),
        (portal, agent, Finished()),
    ):
        assert receiver.receive(sender.send(body)) == body
    assert agent.position.stage is portal.position.stage is Stage.FINISHED
    with pytest.raises(InlayError):
        agent.send(Undone(error=WHY))
    with pytest.raises(InlayError):
        portal.send(Undo(error=WHY))


def test_after_the_receipt_only_the_portal_can_undo() -> None:
    agent, portal = _pair()
    for sender, receiver, body in (
        (agent, portal, CONSENTED),
        (portal, agent, Proceed()),
        (agent, portal, REQUESTS),
        (portal, agent, CERTIFICATES),
        (agent, portal, RECEIPT),
    ):
        receiver.receive(sender.send(body))
    with pytest.raises(InlayError):
        agent.send(Undone(error=WHY))
    agent.receive(portal.send(Undo(error=WHY)))
    portal.receive(agent.send(Undone(error=WHY)))
    assert agent.position.stage is portal.position.stage is Stage.UNDONE


def test_messages_that_cross_an_undo_have_no_effect() -> None:
    agent, portal = _pair()
    crossing = agent.send(CONSENTED)
    undo = portal.send(Undo(error=WHY))
    portal.receive(crossing)
    agent.receive(undo)
    portal.receive(agent.send(Undone(error=WHY)))
    assert agent.position.stage is portal.position.stage is Stage.UNDONE


def test_an_exchange_goes_on_from_its_stored_position() -> None:
    agent, portal = _pair()
    portal.receive(agent.send(CONSENTED))
    again = orders.Exchange("order-1", Side.AGENT, DEVICE_KEY, [PORTAL_KEY.public], agent.position)
    assert again.receive(portal.send(Proceed())) == Proceed()
    assert sequence_of(again.send(REQUESTS)) == 2


SHORT_RECEIPT = Receipt(guid="0123456789abcdef0123456789abcdef")


def test_a_new_card_has_no_receipt_without_certificates() -> None:
    agent, portal = _pair()
    portal.receive(agent.send(CONSENTED))
    agent.receive(portal.send(Proceed()))
    with pytest.raises(InlayError) as refused:
        agent.send(SHORT_RECEIPT)
    assert refused.value.code == "message_unexpected"


def test_an_order_that_certifies_nothing_has_no_requests() -> None:
    agent, portal = _pair(certifies=False)
    portal.receive(agent.send(CONSENTED))
    agent.receive(portal.send(Proceed()))
    with pytest.raises(InlayError) as refused:
        agent.send(REQUESTS)
    assert refused.value.code == "message_unexpected"


def test_an_order_that_certifies_nothing_goes_from_proceed_to_the_receipt() -> None:
    agent, portal = _pair(certifies=False)
    portal.receive(agent.send(CONSENTED))
    agent.receive(portal.send(Proceed()))
    portal.receive(agent.send(SHORT_RECEIPT))
    agent.receive(portal.send(Finished()))
    assert agent.position.stage is portal.position.stage is Stage.FINISHED


NAMES = st.sampled_from([*AGENT_MESSAGES, *PORTAL_MESSAGES])


@given(st.lists(st.tuples(st.sampled_from(list(Side)), NAMES), max_size=40))
def test_no_row_of_messages_leaves_a_final_stage_for_another(row: list[tuple[Side, str]]) -> None:
    stage = Stage.BEGUN
    for side, name in row:
        try:
            following = orders.next_stage(stage, side, name)
        except InlayError:
            continue
        assert stage not in orders.FINAL_STAGES or following is stage
        assert following is not Stage.FINISHED or stage is Stage.RECEIPTED
        stage = following


def test_every_stage_can_still_reach_an_end() -> None:
    ends = set(orders.FINAL_STAGES)
    while True:
        more = {
            stage
            for (stage, _, _), following in {**orders._NEXT, **orders._SHORT}.items()
            if following in ends
        } - ends
        if not more:
            break
        ends |= more
    assert ends == set(Stage)
