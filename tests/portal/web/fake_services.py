"""The portal's seam in memory: one user, one process, moved by the test's hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from portal.errors import Forbidden, LoginRefused, NotFound, StalePage, WrongState
from portal.model.options import Script, Values
from portal.model.states import (
    CaState,
    CertificateState,
    ProcessState,
    Role,
    UserState,
    VirtualSmartCardState,
)
from portal.model.virtual_card_options import NAME, SCRIPT
from portal.services import NO_FORM
from portal.views import (
    CardView,
    CertificateView,
    CodeView,
    LetterView,
    Login,
    NumberResult,
    ObjectRef,
    OptionsView,
    PortalInfo,
    ProcessView,
    Session,
    Startable,
    StepView,
    UserView,
    Waiting,
)
from protocol.errors import InlayError
from protocol.messages import PageEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

GET_CARD = "VirtualSmartCardSelfServiceProcGet"
PASSWORD = "correct horse"
NOW = 1_800_000_000
STEPS = (
    StepView("information", "Information"),
    StepView("open", "Open Inlay"),
    StepView("details", "Details"),
    StepView("done", "Done"),
)
FACTS = {
    "Card": "Virtual smart card demo@portal.test",
    "Account": "demo@portal.test",
    "Certificates": "authentication, signature, encryption",
    "Valid until": "15 January 2029",
    "PIN": "6 to 8 characters",
    "Encryption key": "kept in the portal's archive, so that a new card can read old mail",
}


def certificate(purpose: str, slot: str, **changes: object) -> CertificateView:
    view = CertificateView(
        id=f"certificate-{slot}",
        purpose=purpose,
        slot=slot,
        algorithm="RSA-2048",
        serial="3fa1c27b9d4e5f60718293a4b5c6d7e8",
        subject="CN=Demo User",
        issuer="CN=Portal CA",
        not_before=NOW,
        not_after=NOW + 730 * 86_400,
        state=CertificateState.VALID,
        ca_state=CaState.GOOD,
        revocation_pending=False,
        recoverable=purpose == "encryption",
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # a test names what it changes


def card(**changes: object) -> CardView:
    view = CardView(
        id="card-1",
        label="Virtual smart card demo@portal.test",
        serial="48151623",
        guid="0123456789abcdef0123456789abcdef",
        state=VirtualSmartCardState.ACTIVE,
        storage="keystore",
        attested=False,
        device="workstation",
        valid_until=NOW + 730 * 86_400,
        created_at=NOW,
        certificates=(
            certificate("authentication", "9A"),
            certificate("signature", "9C"),
            certificate("encryption", "9D"),
        ),
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # a test names what it changes


class FakeServices:
    """``portal.services.Services`` with its state in plain sight."""

    def __init__(self, origin: str = "https://portal.test:8443") -> None:
        host = origin.partition("://")[2]
        self.info = PortalInfo(host, "Portal", origin, "7QNM 2K4P 9XVT 3HRD W6JY 8CFE B5GA 1ZS0")
        self.user = UserView(
            "user-1", "demo@portal.test", "Demo User", UserState.ACTIVE, frozenset({Role.SELF_SERVICE})
        )
        self.sessions: dict[str, Session] = {}
        self.process_view: ProcessView | None = None
        self.card_views: list[CardView] = []
        self.codes = 0
        self.now = NOW
        self.number = "042"
        self.completions: list[str] = []
        self.done: list[str] = []
        self.event_queue: asyncio.Queue[PageEvent | None] = asyncio.Queue()
        self.letter_queue: asyncio.Queue[Sequence[LetterView]] = asyncio.Queue()
        self.script: Script = SCRIPT
        self.values: Values = SCRIPT.defaults()
        self.options_version = 0
        self.overruled: dict[str, tuple[str, ...]] = {}
        self.fixed: frozenset[str] = frozenset()

    # --- sessions ---

    def open_session(self, csrf_token: str = "c" * 43) -> str:
        token = f"session-token-{len(self.sessions):08}-padding"
        self.sessions[token] = Session(f"session-{len(self.sessions)}", self.user, csrf_token, NOW + 3600)
        return token

    async def login(self, email: str, password: str, address: str) -> Login:
        if email == "limited@portal.test":
            raise InlayError("rate_limited")
        if (email, password) != (self.user.email, PASSWORD):
            raise LoginRefused
        token = self.open_session(csrf_token=f"{len(self.sessions):043}")
        return Login(token, self.sessions[token])

    async def session(self, token: str) -> Session | None:
        session = self.sessions.get(token)
        return replace(session, user=self.user) if session else None

    async def logout(self, session: Session) -> None:
        self.sessions = {token: known for token, known in self.sessions.items() if known.id != session.id}

    # --- processes ---

    async def dashboard(self, session: Session) -> Sequence[Startable]:
        refused = None
        if self.user.state is not UserState.ACTIVE:
            refused = f"Your account is {self.user.state}; it must be active."
        return [
            Startable(GET_CARD, "Get virtual smart card", "Makes a smart card on this computer.", refused)
        ]

    async def possible(self, session: Session, ref: ObjectRef) -> Sequence[Startable]:
        return []

    async def waiting(self, session: Session) -> Sequence[Waiting]:
        return []

    async def start_process(self, session: Session, name: str, ref: ObjectRef | None = None) -> ProcessView:
        if name != GET_CARD:
            raise NotFound("process")
        self._check_active()
        if self.process_view is None:
            self.process_view = ProcessView(
                "process-1",
                name,
                "Get virtual smart card",
                ProcessState.RUNNING,
                "information",
                STEPS,
                1,
                FACTS,
                can_next=True,
                can_cancel=True,
                cancel_effect="Nothing was made yet. The process is closed.",
            )
        self.done.append("start")
        return self.process_view

    async def process(self, session: Session, process_id: str) -> ProcessView:
        if self.process_view is None or process_id != self.process_view.id:
            raise NotFound("process")
        return self.process_view

    async def next(
        self,
        session: Session,
        process_id: str,
        expected_version: int,
        form: Mapping[str, Sequence[str]] = NO_FORM,
    ) -> ProcessView:
        view = await self.process(session, process_id)
        self._check_active()
        if expected_version == view.version - 1:
            return view
        if expected_version != view.version:
            raise StalePage(view.version)
        self.done.append(f"next from {view.step}")
        match view.step:
            case "information":
                changes = {"step": "open", "can_next": False, "order": PageEvent(state="waiting")}
            case "details":
                changes = {"step": "done", "state": ProcessState.FINISHED, "can_next": False}
            case _:
                raise WrongState("order", "waiting", ["finished"])
        return self.change(version=view.version + 1, **changes)

    async def cancel(self, session: Session, process_id: str) -> ProcessView:
        view = await self.process(session, process_id)
        if view.state is ProcessState.FINISHED:
            raise WrongState("process", "finished", ["running"])
        return self.change(state=ProcessState.CANCELLED, can_next=False, can_cancel=False)

    async def letter(self, session: Session, process_id: str, kind: str) -> bytes:
        view = await self.process(session, process_id)
        if all(letter.kind != kind for letter in view.letters):
            raise InlayError("letter_gone")
        self.done.append(f"letter {kind}")
        return b"%PDF-1.4 a letter"

    async def new_code(self, session: Session, process_id: str) -> CodeView:
        view = await self.process(session, process_id)
        if view.step != "open":
            raise WrongState("process", view.step, ["open"])
        self.codes += 1
        code = f"{self.codes:022}"
        link = f"inlay:{self.info.id}/{code}"
        typed = f"{self.codes:05}-7KQ2M"
        return CodeView("order-1", self.info.id, code, link, typed, self.now + 120, self.now + 300)

    async def enter_number(self, session: Session, process_id: str, number: str) -> NumberResult:
        view = await self.process(session, process_id)
        if view.order is None or not view.order.number_wanted or view.order.tries_left is None:
            raise WrongState("order", "waiting", ["running"])
        if number == self.number:
            return NumberResult(accepted=True, tries_left=view.order.tries_left)
        left = view.order.tries_left - 1
        self.change(order=PageEvent(state="running", number_wanted=True, tries_left=left))
        if left == 0:
            raise InlayError("number_wrong")
        return NumberResult(accepted=False, tries_left=left)

    async def complete(self, session: Session, process_id: str, completion: str) -> None:
        await self.process(session, process_id)
        if completion != "n" * 43:
            raise InlayError("binding_refused")
        self.completions.append(completion)

    async def events(self, session: Session, process_id: str) -> AsyncIterator[PageEvent]:
        view = await self.process(session, process_id)
        yield view.order or PageEvent(state="waiting")
        while (event := await self.event_queue.get()) is not None:
            yield event

    async def letters(self, session: Session, process_id: str) -> AsyncIterator[Sequence[LetterView]]:
        yield (await self.process(session, process_id)).letters
        while letters := await self.letter_queue.get():
            yield letters

    # --- cards, ticket, options ---

    async def cards(self, session: Session) -> Sequence[CardView]:
        return self.card_views

    async def ticket(self, session: Session) -> str:
        return "e30.e30.e30"

    async def options(self, session: Session, script: str) -> OptionsView:
        if Role.ADMINISTRATOR not in session.user.roles:
            raise Forbidden(Role.ADMINISTRATOR.value)
        if script != NAME:
            raise NotFound("options")
        saved = self.options_version > 0
        return OptionsView(
            NAME,
            self.options_version,
            SCRIPT.options,
            self.values,
            "admin@portal.test" if saved else None,
            NOW if saved else None,
            self.script.warn(self.values),
            self.script.title,
            notes=self.overruled,
            fixed=self.fixed,
        )

    async def save_options(
        self, session: Session, script: str, expected_version: int, form: Mapping[str, Sequence[str]]
    ) -> OptionsView:
        await self.options(session, script)
        if expected_version != self.options_version:
            raise StalePage(self.options_version)
        self.values = self.script.parse(form)
        self.options_version += 1
        return await self.options(session, script)

    # --- the test's hand ---

    def change(self, **changes: object) -> ProcessView:
        assert self.process_view is not None
        self.process_view = replace(self.process_view, **changes)  # type: ignore[arg-type]  # as above
        return self.process_view

    def at(self, step: str, **changes: object) -> ProcessView:
        """Put the process at a step."""
        self.process_view = ProcessView(
            "process-1",
            GET_CARD,
            "Get virtual smart card",
            ProcessState.RUNNING,
            step,
            STEPS,
            STEPS.index(next(item for item in STEPS if item.name == step)) + 1,
            FACTS,
            can_next=step in ("information", "details"),
            can_cancel=True,
            cancel_effect="Nothing was made yet. The process is closed.",
        )
        return self.change(**changes)

    def _check_active(self) -> None:
        if self.user.state is not UserState.ACTIVE:
            raise InlayError("user_not_active", state=self.user.state.value)
