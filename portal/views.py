"""What the portal's services hand to its pages: plain immutable values, nothing of the store.

Times are whole seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.model.objects import CoreObject
    from portal.model.options import Option, OptionValue
    from portal.model.states import (
        CardState,
        CaState,
        MobileIdState,
        ProcessState,
        Role,
        TemporaryCardState,
        UserState,
        VirtualSmartCardState,
    )
    from protocol.messages import PageError, PageEvent, Step


@dataclass(frozen=True, slots=True)
class UserView:
    """A user."""

    id: str
    email: str
    name: str
    state: UserState
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in session: who asks. Every service call takes one.

    Attributes:
        id: the session's id; not the cookie's value.
        user: as stored now, read anew with every request.
        csrf_token: what forms of this session carry.
        expires_at: when the person has to log in again.
    """

    id: str
    user: UserView
    csrf_token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Login:
    """A successful log-in.

    Attributes:
        token: the cookie's value, 256 bits in base64url; only its hash is stored.
        session: the new session.
    """

    token: str
    session: Session

    def __repr__(self) -> str:
        return "Login(token=…)"


class ObjectRef(NamedTuple):
    """An object that a page names: kind (a word of ``portal.model.objects.ObjectKind``, unchecked) and id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A process of somebody else's that waits for a second person.

    Attributes:
        id: of the process.
        title: of the process.
        target: what it works on.
        asked_by: e-mail address of who started it.
        asked_at: when.
    """

    id: str
    title: str
    target: CoreObject | None
    asked_by: str
    asked_at: int


@dataclass(frozen=True, slots=True)
class Startable:
    """A process of the start page, or of an object's page.

    Attributes:
        name: symbolic name, for example ``VirtualSmartCardSelfServiceProcGet``.
        title: for people.
        description: one sentence.
        refused: why it can't be started now, or None.
        open_process: id of this user's process of that name that is still running, or None.
    """

    name: str
    title: str
    description: str
    refused: str | None = None
    open_process: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateView:
    """A certificate.

    Attributes:
        serial: hexadecimal.
        state: a ``CertificateState``, or a name that an administrator gave.
        revocation_pending: its revocation waits for the CA.
        recoverable: its key is in the archive.
        waits_for: what waits for the CA: ``revoke``, ``hold`` or ``release``; empty when nothing does.
    """

    id: str
    purpose: str
    slot: str
    algorithm: str
    serial: str
    subject: str
    issuer: str
    not_before: int
    not_after: int
    state: str
    ca_state: CaState
    revocation_pending: bool
    recoverable: bool
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class CardView:
    """A card of any kind with its certificates; ``storage`` is the level its device claims, ``card`` of a physical one.

    ``restored``: its device came with an older file of this card than one that was seen before.
    """

    id: str
    label: str
    serial: str
    guid: str
    state: CardState | TemporaryCardState | VirtualSmartCardState | MobileIdState
    storage: str
    attested: bool
    device: str
    valid_until: int
    created_at: int
    certificates: Sequence[CertificateView] = ()
    restored: bool = False
    kind: str = "virtual_smart_card"


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a process, for the step indicator."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that a page shows once.

    Attributes:
        name: what it is, for people.
        value: the thing itself; never printed.
    """

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LetterView:
    """A letter that a page offers to print.

    Attributes:
        kind: ``pin`` or ``puk``.
        title: for people.
        prints: how often it was printed.
        left: how often it still can be.
    """

    kind: str
    title: str
    prints: int
    left: int

    @property
    def standing(self) -> str:
        """How often it was printed, for people."""
        if not self.prints:
            return "Not printed yet"
        return f"Printed {self.prints} time{'s' if self.prints > 1 else ''}; {self.left} more possible"

    @property
    def verb(self) -> str:
        """What its button does."""
        return "Print again" if self.prints else "Print"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process instance as its page shows it.

    Attributes:
        step: name of the step it stands at.
        steps: all steps, in order.
        version: what a form sends back as ``expected_version``.
        facts: label to value: what will be made, for the information and details pages.
        form: the fields of the step it stands at; empty for a step without a form.
        values: field to what is shown in it first.
        target: the object it works on, or None.
        subject: e-mail address of the person it is about.
        started_by: e-mail address of who started it.
        can_next: whether *Next* is possible now, for this person.
        can_cancel: whether *Cancel* is.
        cancel_effect: what Cancel will do, one sentence.
        order: where the order stands, once there is one.
        card: the card, at the details step.
        error: why it failed or was cancelled.
        secret: what this one answer shows and no other ever again.
        letters: what can be printed now, by who started it.
        progress: steps of its order, each with its title and what happens then; None: those of a new card.
        batch: id of the batch that it has ordered, or that its card is produced with; empty: none.
        in_run: its card is one of several that are produced one after the other.
        goes_on: it isn't the first of them.
    """

    id: str
    name: str
    title: str
    state: ProcessState
    step: str
    steps: Sequence[StepView]
    version: int
    facts: Mapping[str, str] = field(default_factory=dict)
    form: Sequence[Option] = ()
    values: Mapping[str, OptionValue] = field(default_factory=dict)
    target: CoreObject | None = None
    subject: str = ""
    started_by: str = ""
    can_next: bool = False
    can_cancel: bool = False
    cancel_effect: str = ""
    order: PageEvent | None = None
    card: CardView | None = None
    error: PageError | None = None
    progress: Mapping[Step, tuple[str, str]] | None = None
    secret: Secret | None = None
    letters: Sequence[LetterView] = ()
    batch: str = ""
    in_run: bool = False
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class CodeView:
    """A fresh code. It is shown once: only hashes are stored.

    Attributes:
        order: the order's id.
        portal: the portal's id.
        code: what the page hands to an agent over the loopback socket.
        link: ``inlay:PORTAL/CODE``.
        typed_code: for a person to type, grouped as ``XXXXX-XXXXX``.
        link_expires_at: end of the link's life.
        typed_expires_at: end of the typed code's life.
    """

    order: str
    portal: str
    code: str
    link: str
    typed_code: str
    link_expires_at: int
    typed_expires_at: int

    def __repr__(self) -> str:
        return f"CodeView(order={self.order!r}, …)"


@dataclass(frozen=True, slots=True)
class NumberResult:
    """What became of a number that was typed."""

    accepted: bool
    tries_left: int


@dataclass(frozen=True, slots=True)
class OptionsView:
    """The options of a script.

    Attributes:
        script: for example ``VirtualSmartCardScriptOptions``.
        version: 0 as installed; goes up with each save; sent back as ``expected_version``.
        options: descriptions, in the order they are shown.
        values: option name to value.
        saved_by: e-mail address, or None as installed.
        saved_at: time, or None as installed.
        warnings: option name to a sentence that doesn't hinder saving.
        title: the script's name for people.
        unread: no process of this version reads it.
        notes: option name to what descriptions of kinds of cards say in its place.
        fixed: options that no kind of card leaves anything to.
    """

    script: str
    version: int
    options: Sequence[Option]
    values: Mapping[str, OptionValue]
    saved_by: str | None = None
    saved_at: int | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    unread: bool = False
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PortalInfo:
    """What every page may show of the portal."""

    id: str
    name: str
    origin: str
    fingerprint: str
