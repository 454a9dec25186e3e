"""Attacks on the portal: guesses in parallel and from many addresses, words put into its mouth, keys used twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portal.addresses import client_address
from portal.errors import LoginRefused
from portal.login_limits import CEILING, LONGEST_PAUSE
from portal.processes.incoming import MAX_MESSAGES
from portal.rate_limits import limit_key
from protocol.errors import InlayError
from protocol.messages import (
    CertificateRequest,
    Consented,
    ErrorData,
    Proceed,
    Progress,
    Requests,
    Step,
    StorageLevel,
    Transport,
    Undone,
)
from tests.support.order_messages import new_card
from tests.support.portal_kit import P256, PASSWORD, running_portal
from tests.support.software_agent import make_csr, make_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    async with running_portal(tmp_path) as running:
        yield running


# --- guesses


async def test_guessing_a_password_in_parallel_gets_no_more_guesses(kit: Kit) -> None:
    """All are sent before the first is answered."""
    await kit.person()
    guesses = [kit.services.login("ada@example.org", f"guess {n:010}", f"192.0.2.{n}") for n in range(40)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(answer, LoginRefused) for answer in answers) == 10
    limited = [answer.code for answer in answers if isinstance(answer, InlayError)]
    assert limited == ["rate_limited"] * 30


async def test_guessing_from_many_networks_is_bounded_and_locks_nobody_out(kit: Kit) -> None:
    """Two hundred a day, then one at a time with growing pauses; the owner gets in at once where she was before."""
    await kit.person()

    async def guesses(networks: range) -> int:
        tries = [
            kit.services.login(
                "ada@example.org", f"guess {n:010}", f"2001:db8:{n // 65536:x}:{n % 65536:x}::1"
            )
            for n in networks
        ]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert {error.code for error in answers if isinstance(error, InlayError)} <= {"rate_limited"}
        return sum(isinstance(answer, LoginRefused) for answer in answers)

    assert await guesses(range(300)) == CEILING
    await kit.services.login("ada@example.org", PASSWORD, "192.0.2.99")
    for _ in range(12):  # asking too early costs nothing
        with pytest.raises(InlayError, match="Too many requests"):
            await kit.services.login("ada@example.org", PASSWORD, "198.51.100.1")
    kit.clock.now += LONGEST_PAUSE
    await kit.services.login("ada@example.org", PASSWORD, "198.51.100.1")
    got = 0
    for second in range(600):
        kit.clock.now += 1
        got += await guesses(range(1000 + 2 * second, 1002 + 2 * second))
    assert got < 10 * 7 + 600 // LONGEST_PAUSE  # ten at each length of the pause, then one in a minute
    await kit.services.login("ada@example.org", PASSWORD, "192.0.2.1")


async def test_guessing_accounts_in_parallel_from_one_address(kit: Kit) -> None:
    guesses = [kit.services.login(f"u{n}@example.org", PASSWORD, "192.0.2.7") for n in range(50)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(answer, LoginRefused) for answer in answers) == 30


async def test_a_right_password_costs_no_guess(kit: Kit) -> None:
    await kit.person()
    for _ in range(60):
        await kit.login()


async def test_guessing_typed_codes_in_parallel_gets_no_more_guesses(kit: Kit) -> None:
    """Twelve connections, one guess each, all at once."""
    await kit.at_open(await kit.person())
    agents = [await kit.agent() for _ in range(12)]
    guesses = [agent.claim(f"00000000{n:02}", Transport.TYPED) for n, agent in enumerate(agents)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    codes = sorted(answer.code for answer in answers if isinstance(answer, InlayError))
    assert codes == ["code_unknown"] * 5 + ["rate_limited"] * 7


async def test_neighbours_in_one_ipv6_network_are_one_guesser(kit: Kit) -> None:
    """A subscriber has 2**64 addresses at the least."""
    for number in range(30):
        with pytest.raises(LoginRefused):
            await kit.services.login(f"u{number}@example.org", PASSWORD, f"2001:db8:0:1::{number:x}")
    with pytest.raises(InlayError) as caught:
        await kit.services.login("u31@example.org", PASSWORD, "2001:db8:0:1:ffff::1")
    assert caught.value.code == "rate_limited"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_what_counts_as_one_address(address: str, key: str) -> None:
    assert limit_key(address) == key


# --- where a request comes from


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["192.0.2.1"], "203.0.113.9"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["10.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["10.0.0.1", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.1, 127.0.0.1"], "192.0.2.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["<script>"], "127.0.0.1"),
    ],
)
def test_only_the_configured_proxy_says_where_a_request_comes_from(
    peer: str, forwarded: list[str], address: str
) -> None:
    """Anybody can write the header: what counts is what the nearest proxy of ours has added."""
    assert client_address(peer, forwarded, frozenset({"127.0.0.1"})) == address


# --- words of a stranger on the victim's page


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("portal_unreachable", {"portal": "evil.test", "cause": "log in again at evil.test"}),
        ("portal_unknown", {"portal": "evil.test"}),
        ("card_write_failed", {"cause": "call +1 555 0100 and read the number out"}),
        ("algorithm_unsupported", {"algorithm": "Call 555-0100, now"}),
        ("request_invalid", {"slot": "9A. Call support"}),
        ("user_not_active", {"state": "locked. Log in at evil.test"}),
        ("params_invalid", {"path": "evil.test/login"}),
    ],
)
async def test_a_thief_can_say_nothing_on_the_page(kit: Kit, code: str, fields: dict[str, str]) -> None:
    """Who has claimed somebody's code may end the order with a cause, and writes no sentence of his own."""
    session = await kit.person()
    view, given = await kit.at_open(session)
    thief = await kit.agent()
    await thief.claim(given.code)
    await thief.say(Undone(error=ErrorData(error=code, fields={**fields})))
    shown = (await kit.ended(session, view.id)).error
    assert shown is not None
    assert shown.error == code
    said = f"{shown.happened} {shown.why} {shown.next_step}"
    for words in ("evil", "555", "support and", "read the number"):
        assert words not in said


async def test_an_honest_cause_is_said_whole(kit: Kit) -> None:
    session = await kit.person()
    view, given = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(given.code)
    fields: dict[str, str | int] = {"algorithm": "RSA-2048, P-256"}
    await agent.say(Undone(error=ErrorData(error="algorithm_unsupported", fields=fields)))
    shown = (await kit.ended(session, view.id)).error
    assert shown is not None
    assert "RSA-2048, P-256" in shown.why


# --- keys


async def test_one_key_in_two_slots_is_refused(kit: Kit) -> None:
    """A key that signs documents must not sign log-in challenges as well."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    ordered = [key for key in new_card(agent.order).keys if key.slot in ("9A", "9C")]
    csr = make_csr(make_key(ordered[0].algorithm))
    honest = agent.card.requests(agent.order)
    requests = Requests(
        guid=honest.guid,
        serial=honest.serial,
        requests=[CertificateRequest(slot=key.slot, csr=csr) for key in ordered],
        puk=honest.puk,
    )
    await agent.say(requests)
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == "request_invalid"
    assert await kit.valid_at_ca() == []


# --- malformed keys and requests of a device: each ends its order with a cause, and is carried out no further


async def _at_requests(kit: Kit) -> tuple[str, Session, SoftwareAgent, Requests]:
    """An order whose device has been let go on, and what an honest device would say now."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    return view.id, session, agent, agent.card.requests(agent.order)


def _with_algorithm(der: bytes, oid: bytes, other: bytes) -> bytes:
    """A structure that names another algorithm by an OID of the same length."""
    assert oid in der
    return der.replace(oid, other)


ECDSA_SHA256, NO_SIGNATURE = bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d04037f")
EC_KEY, NO_KEY = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f")
P256_CURVE, NO_CURVE = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f")
CSR_FAULTS: list[Callable[[bytes], bytes]] = [
    lambda der: _with_algorithm(der, ECDSA_SHA256, NO_SIGNATURE),
    lambda der: _with_algorithm(der, EC_KEY, NO_KEY),
    lambda der: _with_algorithm(der, P256_CURVE, NO_CURVE),
    lambda der: der[:-1],
    lambda der: der + b"\0",
    lambda _der: b"\x30\x80" * 100,
    lambda _der: make_csr(rsa.generate_private_key(65537, 1024)),  # noqa: S505 # weak on purpose
    lambda _der: make_csr(rsa.generate_private_key(3, 2048)),
    lambda _der: make_csr(ec.generate_private_key(ec.SECP384R1())),
]


@pytest.mark.parametrize("fault", CSR_FAULTS)
async def test_a_request_that_cannot_be_read_ends_the_order(
    kit: Kit, fault: Callable[[bytes], bytes]
) -> None:
    await kit.set_options(**P256)
    process, session, agent, honest = await _at_requests(kit)
    first = honest.requests[0]
    assert first.csr is not None
    broken = msgspec.structs.replace(first, csr=fault(first.csr))
    await agent.say(msgspec.structs.replace(honest, requests=[broken, *honest.requests[1:]]))
    event = await kit.ended(session, process)
    assert event.error is not None
    assert event.error.error == "request_invalid"
    assert await kit.valid_at_ca() == []


async def test_an_encryption_key_that_is_no_point_ends_the_order_before_anything_is_issued(kit: Kit) -> None:
    session = await kit.person()
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    wrong = msgspec.structs.replace(agent.ephemeral.public, x="A" * 43)
    await agent.say(Consented(encryption_key=wrong, storage=StorageLevel.KEYSTORE, number="417"))
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == "params_invalid"


async def test_a_device_cannot_fill_the_database(kit: Kit) -> None:
    """A stolen code is enough to send messages; an order takes so many and no more."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    for _ in range(MAX_MESSAGES):
        await agent.say(Progress(step=Step.CONSENT))
    with pytest.raises(InlayError) as caught:
        await agent.say(Progress(step=Step.CONSENT))
    assert caught.value.code == "rate_limited"
    assert (await kit.ended(session, view.id)).state == "undone"
