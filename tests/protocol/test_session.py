"""Connections: hello first, every call in its state, every answer to its call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import jose, session
from protocol.errors import InlayError
from protocol.messages import (
    AuthenticateParams,
    AuthenticateResult,
    ChannelHelloResult,
    ClaimParams,
    ClaimResult,
    Empty,
    EndedParams,
    HelloParams,
    LoopbackHelloResult,
    Message,
    MessageParams,
    OpenParams,
    OpenResult,
)
from protocol.session import Failure, Notification, Request, Response, Role, Session, State

HELLO = HelloParams(versions=[1])


def _call(caller: Session, called: Session, method: str, params: Message, result: Message) -> Message:
    _, frame = caller.call(method, params)
    request = called.receive(frame)
    assert isinstance(request, Request)
    response = caller.receive(called.respond(request.id, result))
    assert isinstance(response, Response)
    return response.result


def _greeted() -> tuple[Session, Session]:
    page, agent = Session(Role.LOOPBACK_PAGE), Session(Role.LOOPBACK_AGENT)
    _call(page, agent, "hello", HELLO, LoopbackHelloResult(version=1, versions=[1]))
    return page, agent


def _frame(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"not json", "frame_not_json"),
        (b"[]", "frame_invalid"),
        (b"{}", "frame_invalid"),
        (json.dumps({"jsonrpc": "1.0", "id": 1, "method": "hello"}).encode(), "frame_invalid"),
        (_frame(), "frame_invalid"),
        (_frame(id=1), "frame_invalid"),
        (_frame(id=None, method="hello"), "frame_invalid"),
        (_frame(id="1", method="hello"), "frame_invalid"),
        (_frame(id=1, method="hello", result={}), "frame_invalid"),
        (_frame(id=1, result={}), "frame_invalid"),
        (_frame(id=1, result={}, error={"code": 1, "message": "x"}), "frame_invalid"),
        (_frame(id=1, method="nothing"), "method_unknown"),
        (_frame(method="hello", params={"versions": [1]}), "method_unknown"),
        (_frame(id=1, method="open", params={}), "wrong_state"),
        (_frame(id=1, method="hello", params={}), "params_invalid"),
        (_frame(id=1, method="hello", params={"versions": [1], "extra": 1}), "params_invalid"),
    ],
)
def test_refuses_bad_frames(frame: bytes, code: str) -> None:
    agent = Session(Role.LOOPBACK_AGENT)
    with pytest.raises(InlayError) as caught:
        agent.receive(frame)
    assert caught.value.code == code
    assert agent.state is State.NEW


def test_bad_parameters_name_their_path_below_params() -> None:
    with pytest.raises(InlayError) as caught:
        Session(Role.LOOPBACK_AGENT).receive(_frame(id=1, method="hello", params={"versions": "1"}))
    assert caught.value.fields["path"] == "$.params.versions"


def test_nothing_but_hello_comes_first() -> None:
    agent = Session(Role.CHANNEL_AGENT)
    for method, params in (
        ("authenticate", AuthenticateParams(nonce=jose.new_nonce())),
        ("claim", ClaimParams(claim="a.b.c")),
        ("message", MessageParams(message="a.b.c")),
    ):
        with pytest.raises(InlayError) as caught:
            agent.call(method, params)
        assert caught.value.code == "wrong_state"


def test_the_portal_may_call_nothing_but_message_and_only_when_open() -> None:
    portal = Session(Role.CHANNEL_PORTAL)
    for method in ("hello", "claim", "message"):
        with pytest.raises(InlayError):
            portal.call(method, HELLO)


def test_a_page_can_open_once_only() -> None:
    page, agent = _greeted()
    open_ = OpenParams(portal="portal.test", code="A" * 22)
    _call(page, agent, "open", open_, OpenResult(accepted=True))
    with pytest.raises(InlayError) as caught:
        agent.receive(_frame(id=9, method="open", params={"portal": "portal.test", "code": "A" * 22}))
    assert caught.value.code == "wrong_state"


def test_an_answer_to_no_call_is_refused() -> None:
    page, _ = _greeted()
    with pytest.raises(InlayError):
        page.receive(_frame(id=77, result={}))
    with pytest.raises(InlayError):
        page.receive(_frame(id=77, error={"code": 1, "message": "x"}))


def test_a_refusal_keeps_the_state_and_names_the_cause() -> None:
    page, agent = Session(Role.LOOPBACK_PAGE), Session(Role.LOOPBACK_AGENT)
    _, frame = page.call("hello", HELLO)
    request = agent.receive(frame)
    assert isinstance(request, Request)
    failure = page.receive(agent.refuse(request.id, InlayError("version_unsupported", supported="1")))
    assert isinstance(failure, Failure)
    assert (failure.method, failure.error.code, failure.error.fields) == (
        "hello",
        "version_unsupported",
        {"supported": "1"},
    )
    assert page.state is agent.state is State.NEW


def test_too_many_calls_at_once_are_refused() -> None:
    page = Session(Role.LOOPBACK_PAGE)
    for _ in range(session.MAX_PENDING):
        page.call("hello", HELLO)
    with pytest.raises(InlayError) as caught:
        page.call("hello", HELLO)
    assert caught.value.code == "rate_limited"


def test_a_page_gets_notifications_and_an_agent_gets_none() -> None:
    page, agent = _greeted()
    frame = agent.notify("ended", EndedParams(outcome="finished"))
    assert page.receive(frame) == Notification("ended", EndedParams(outcome="finished"))
    with pytest.raises(InlayError):
        agent.receive(frame)


def test_a_channel_opens_in_its_order_and_then_both_may_send_messages() -> None:
    agent, portal = Session(Role.CHANNEL_AGENT), Session(Role.CHANNEL_PORTAL)
    _call(agent, portal, "hello", HELLO, ChannelHelloResult(version=1, key_set="a.b.c"))
    _call(
        agent,
        portal,
        "authenticate",
        AuthenticateParams(nonce=jose.new_nonce()),
        AuthenticateResult(proof="a.b.c"),
    )
    _call(agent, portal, "claim", ClaimParams(claim="a.b.c"), ClaimResult(order="a.b.c"))
    assert agent.state is portal.state is State.OPEN
    _call(agent, portal, "message", MessageParams(message="a.b.c"), Empty())
    _call(portal, agent, "message", MessageParams(message="a.b.c"), Empty())


@given(st.lists(st.binary(max_size=80), max_size=5), st.sampled_from(list(Role)))
def test_any_bytes_are_events_or_named_errors(frames: list[bytes], role: Role) -> None:
    end = Session(role)
    for frame in frames:
        with pytest.raises(InlayError):
            end.receive(frame)
    assert end.state is State.NEW


@pytest.mark.parametrize(("offered", "chosen"), [([1], 1), ([99, 1], 1)])
def test_chooses_the_highest_common_version(offered: list[int], chosen: int) -> None:
    assert session.choose_version(offered) == chosen


def test_no_common_version_is_said() -> None:
    with pytest.raises(InlayError) as caught:
        session.choose_version([2, 3])
    assert caught.value.code == "version_unsupported"
