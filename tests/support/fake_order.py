"""What the fake portal is asked to do wrong, and one order as it has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    CardProved,
    ChannelProof,
    Claim,
    Consented,
    ErrorData,
    KeyOrder,
    KeySet,
    KeySource,
    ManagementQuestion,
    Message,
    Order,
    OrderState,
    PublicJwk,
    Purpose,
    Receipt,
    Requests,
)
from protocol.orders import Exchange

EVENT_SECONDS = 20.0

AUTHENTICATION = KeyOrder(
    "9A", Purpose.AUTHENTICATION, Algorithm.P_256, KeySource.GENERATE, "CN=Alex Example"
)
SIGNATURE = KeyOrder("9C", Purpose.SIGNATURE, Algorithm.P_256, KeySource.GENERATE, "CN=Alex Example")
ENCRYPTION = KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex Example")
RSA_KEYS = [
    KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex Example"),
    KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.RSA_2048, KeySource.IMPORT, "CN=Alex Example"),
]


@dataclass
class Faults:
    """What the portal does wrong.

    Attributes:
        key_set: changes the key set before it is signed.
        key_set_signer: signs the key set in place of the root key.
        proof: changes the channel proof before it is signed.
        proof_signer: signs it in place of the order key.
        order: changes the order before it is signed.
        order_token: makes the order's token in place of the order key.
        message: changes the token of a message before it is sent, by the message's type.
        claim: refuses the claim.
        silent: takes messages of these types and never goes on.
        drop_before: cuts the connection when a message of these types (or ``claim``) comes, before it is taken;
            once each.
        drop_after: cuts it after it was taken, before that is confirmed; once each.
        refuse_resume: refuses the resume.
        ca: what the CA does to a certificate before it is sent.
    """

    key_set: Callable[[KeySet], KeySet] | None = None
    key_set_signer: jose.SigningKey | None = None
    proof: Callable[[ChannelProof], ChannelProof] | None = None
    proof_signer: jose.SigningKey | None = None
    order: Callable[[Order], Order] | None = None
    order_token: Callable[[Order], str] | None = None
    message: dict[str, Callable[[str], str]] = field(default_factory=dict)
    claim: InlayError | None = None
    silent: set[str] = field(default_factory=set)
    drop_before: set[str] = field(default_factory=set)
    drop_after: set[str] = field(default_factory=set)
    refuse_resume: InlayError | None = None
    ca: Callable[[bytes], bytes] | None = None


@dataclass
class OrderAtPortal:
    """One order as the portal has it."""

    order: Order
    token: str
    device: PublicJwk
    exchange: Exchange
    claim: Claim
    state: OrderState = OrderState.RUNNING
    outbox: dict[int, str] = field(default_factory=dict)
    taken: list[Message] = field(default_factory=list)
    consented: Consented | None = None
    requests: Requests | None = None
    receipt: Receipt | None = None
    undone: ErrorData | None = None
    unchanged: bool = False
    questions: list[ManagementQuestion] = field(default_factory=list)
    proved: list[CardProved] = field(default_factory=list)
    changing: int = 0
    identities: list[str | None] = field(default_factory=list)
    """GUIDs of cards that a person has picked"""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, condition: Callable[[OrderAtPortal], bool]) -> OrderAtPortal:
        """Wait until something is so."""
        async with asyncio.timeout(EVENT_SECONDS), self.changed:
            await self.changed.wait_for(lambda: condition(self))
        return self

    async def told(self) -> OrderAtPortal:
        """Wait until the agent has told how it ended, which it does after the end; as it is where it never does."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda at: at.state in (OrderState.FINISHED, OrderState.UNDONE))
        return self
