"""The seams between handlers and the rest of the agent: orders, cards, readers, trust.

Handlers know the protocol and these; what stands behind them is put together in ``agent.__main__``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from agent.ports import DialogWindow, OrderPrompt, UserEnvironment, WindowSession
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    CertificateRequest,
    Challenge,
    ComputerFinding,
    KeyCount,
    Message,
    Order,
    PublicJwk,
    Reader,
    ReadersParams,
    Step,
    Transport,
)

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.shutdown import Shutdown
    from agent.virtual_card_ports import Cards

T = TypeVar("T")
M = TypeVar("M", bound=Message)


# --- cards -------------------------------------------------------------------------------------


class KeyedCard(Protocol):
    """A card that an order gives keys and certificates: a new one, a copy, or a physical one.

    A PIN belongs to the caller, who wipes it. Methods raise ``InlayError``; one at a time is carried out.
    """

    async def generate(self, slot: str, algorithm: Algorithm) -> None:
        """Make a key in a slot."""

    async def request(self, slot: str, subject: str, pin: bytearray, *, signs: bool) -> CertificateRequest:
        """Ask for a certificate: PKCS#10 where the key ``signs``, else its public key alone."""

    async def import_key(self, slot: str, pkcs8: bytearray) -> None:
        """Put a key that was made elsewhere into a slot."""

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a slot's certificate, read it back, and check that the slot's key is the certificate's."""

    async def sign(self, slot: str, message: bytes, pin: bytearray) -> bytes:
        """Sign SHA-256 of a message: PKCS#1 v1.5, or ECDSA (DER)."""

    async def answer(self, slot: str, challenge: Challenge, pin: bytearray) -> bytes:
        """The secret behind a challenge: decrypted (RSA), or agreed on (EC)."""


# --- orders ------------------------------------------------------------------------------------


class OrderContext(Protocol):
    """What a handler has of the order it carries out."""

    @property
    def order(self) -> Order:
        """The verified order."""

    @property
    def window(self) -> WindowSession:
        """The window, open at its consent page."""

    @property
    def prompt(self) -> OrderPrompt:
        """What the window was opened with."""

    @property
    def encryption_key(self) -> PublicJwk:
        """Public half of the order's ephemeral key."""

    def decrypt(self, token: str) -> bytearray:
        """Open a JWE to the ephemeral key; the caller wipes what it gets.

        Raises:
            InlayError: ``message_signature_invalid``.
        """

    async def guard(self, work: Awaitable[T]) -> T:
        """Do something that ends as soon as the person closes the window or the portal says undo.

        Raises:
            InlayError: why it ended.
        """

    async def send(self, body: Message) -> None:
        """Send a message; on disk when this returns, on its way when there is a connection."""

    async def delivered(self) -> None:
        """Wait until the portal has everything that was sent."""

    async def receive(self, type_: type[M]) -> M:
        """Wait for the portal's next message.

        Raises:
            InlayError: the portal said undo, or the order ended otherwise.
        """

    async def progress(self, step: Step, key: KeyCount | None = None) -> None:
        """Tell portal and page that a step begins, and with the keys which of them is made now."""

    async def bind(self) -> None:
        """Bind the browser session to this machine as the order says, once `Consented` has been delivered."""

    @property
    def number(self) -> str | None:
        """The number to show, with binding ``number``."""

    async def record(self, step: str, work: Coroutine[Any, Any, T]) -> T:
        """Do a step, journalled before and after; when it can't be journalled it isn't begun."""


class OrderHandler(Protocol):
    """One operation."""

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """What consent is asked for.

        Raises:
            InlayError: the order can't be carried out by anybody (``pin_policy_unsatisfiable`` …).
        """

    async def perform(self, context: OrderContext) -> None:
        """Carry it out, from consent to the receipt."""

    async def finish(self, context: OrderContext) -> None:
        """What comes after the portal's ``finished``; may run again after a restart."""

    async def undo(self, order: Order) -> None:
        """Remove everything that was made; may run again after a restart."""


@runtime_checkable
class GoesForward(Protocol):
    """An operation with a point of no return before its receipt: after that it is finished, not undone."""

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """After a restart: the receipt of an order whose point of no return was passed; None before it.

        Args:
            order: the order.
            steps: its steps as `OrderContext.record` wrote them: name, and ``before`` or ``after``.

        Raises:
            InlayError: it can't be known; the order is undone with this.
        """


class Page(Protocol):
    """The page at the other end of the loopback connection that brought a code."""

    @property
    def origin(self) -> str:
        """The page's origin."""

    def progress(self, step: Step, key: KeyCount | None = None) -> None:
        """Tell the page of a step, and which of the keys is made now."""

    def completion(self, secret: str) -> None:
        """Hand the page the completion secret."""

    def ended(self, outcome: str, error: InlayError | None) -> None:
        """Tell the page the end: ``finished``, ``undone`` or ``refused``."""

    def readers(self, shown: ReadersParams) -> None:
        """Tell the page how the readers stand now."""

    def follow(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what tells this page something, as long as the page is there; ends what it followed before."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A code that was handed over.

    Attributes:
        portal: the portal's id.
        code: the one-time code.
        transport: how it came.
        environment: where the person sits.
        page: the page that brought it, with transport ``loopback``.
    """

    portal: str
    code: str
    transport: Transport
    environment: UserEnvironment
    page: Page | None = None

    def __repr__(self) -> str:
        return f"<Submission {self.portal} by {self.transport.value}>"


@runtime_checkable
class Cancellable(Protocol):
    """A window that ends with the command in whose terminal it is."""

    def cancel(self) -> None:
        """The command has gone: the same as a closed window."""


class Ending(Protocol):
    """A submission that was accepted."""

    def abandon(self) -> None:
        """The command in whose terminal the person was asked has gone (Ctrl-C)."""

    async def wait(self) -> None:
        """Wait for the end of what became of it.

        Raises:
            InlayError: why it failed.
        """


class Orders(Protocol):
    """Where codes go."""

    def submit(self, submission: Submission) -> Ending:
        """Take a code. What becomes of it is told in a window, or by a notification.

        Raises:
            InlayError: ``portal_unknown``, ``order_busy``: nothing is done.
        """


# --- readers and trust -------------------------------------------------------------------------


class ReaderFeed(Protocol):
    """Readers as they come and go."""

    async def next(self) -> ReadersParams:
        """How they stand; the first time soon, then at each change. No change is lost, only looks between."""

    async def close(self) -> None:
        """Watch no more; harmless when closed."""


class Readers(Protocol):
    """The machine's readers."""

    async def watch(self) -> ReaderFeed:
        """Begin to watch; close the feed in the end."""

    async def list_readers(self) -> list[Reader]:
        """All readers.

        Raises:
            InlayError: ``pcsc_no_service``.
        """

    async def check(self) -> list[ComputerFinding]:
        """What the doctor finds about service, readers and cards, as a page may know it."""


class TrustDesk(Protocol):
    """Adding, listing and removing portals."""

    def overview(self) -> list[dict[str, str]]:
        """All entries, as ``inlay trust list --json`` has them."""

    async def look(self, url: str, ca: str | None) -> dict[str, str]:
        """Ask a portal who it is; nothing is added."""

    async def add(self, url: str, ca: str | None, fingerprint: str) -> dict[str, str]:
        """Add a portal whose fingerprint was confirmed."""

    async def remove(self, portal: str) -> None:
        """Remove a portal of the user's."""

    def check_ticket(self, token: str, origin: str) -> float:
        """Check a page's session ticket for reading.

        Returns:
            How many seconds it is good for.

        Raises:
            InlayError: ``not_authenticated``.
        """


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with."""

    orders: Orders
    cards: Cards
    readers: Readers
    trust: TrustDesk
    care: CardKeeping
    windows: DialogWindow
    shutdown: Shutdown


@dataclass(frozen=True, slots=True)
class PrivateRequest:
    """A request on the private socket, from a program of the same user.

    Attributes:
        params: decoded JSON object.
        environment: what was handed over, already cut to the allow-list; the terminal's descriptor is the
            server's, and closed by it: who needs it longer duplicates it.
    """

    params: Mapping[str, Any]
    environment: UserEnvironment


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request of a page on the loopback socket.

    Attributes:
        params: the method's parameters.
        page: the page that asks.
        environment: where this user's windows open: a page hands over no environment.
    """

    params: Message
    page: Page
    environment: UserEnvironment
