"""Process pages: the seed's own steps, with *Open Inlay* in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.errors import FieldErrors, StalePage
from portal.model.objects import ObjectKind
from portal.model.states import ProcessState, Role
from portal.views import ObjectRef
from portal.web.form_fields import form_context, whole
from portal.web.guard import field, read_form, require_session
from portal.web.keys import CODES, SERVICES
from portal.web.templating import page
from portal.web.troubles import wants_json
from protocol.messages import Step
from protocol.possibilities import POSSIBILITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.views import CodeView, ProcessView, Session

OPEN_STEP: Final = "open"
"""The step at which a code is shown."""
_OWN_FIELDS: Final = frozenset({"expected_version"})
_NOTICES: Final = {
    "stale": "This page was out of date, so nothing was done. It is up to date now; go on from here.",
    "wrong": "That is not the number Inlay shows. Look at Inlay's window and type the three digits again.",
}
_INLINE: Final = 'inline; filename="letter.pdf"'
_PROGRESS: Final = {
    Step.CONSENT: ("Your consent", "Inlay's window asks for your consent and a new PIN."),
    Step.BINDING: ("This browser", "It is made sure that this page and Inlay belong together."),
    Step.KEYS: ("Keys", "Inlay makes the keys on the card."),
    Step.CERTIFICATES: ("Certificates", "The portal has the certificates issued."),
    Step.WRITING: ("Card", "Inlay writes the certificates on the card."),
    Step.PROVING: ("Check", "Every key of the card proves itself."),
    Step.FINISHED: ("Done", "The card is active."),
}


async def post_start(request: web.Request) -> web.Response:
    """``POST /processes``: start a process, on an object where the form names one."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    ref = ObjectRef(field(form, "kind", 64), field(form, "id", 64)) if "kind" in form else None
    view = await request.app[SERVICES].start_process(session, field(form, "name", 100), ref)
    raise web.HTTPSeeOther(f"/processes/{view.id}")


async def get_process(request: web.Request) -> web.Response:
    """``GET /processes/ID``."""
    session = await require_session(request)
    view = await request.app[SERVICES].process(session, request.match_info["id"])
    code = await _code(request, session, view)
    if code is not None:
        view = await request.app[SERVICES].process(session, view.id)
    return _show(request, session, view, code)


def _show(
    request: web.Request,
    session: Session,
    view: ProcessView,
    code: CodeView | None,
    *,
    sent: Mapping[str, Sequence[str]] | None = None,
    errors: Mapping[str, str] | None = None,
    expected: int | None = None,
) -> web.Response:
    return page(
        request,
        "process.html",
        session,
        status=422 if errors else 200,
        view=view,
        form=form_context(view.form, view.values, sent, errors),
        expected_version=view.version if expected is None else expected,
        back=_back(session, view),
        code=code,
        progress=[(step.value, *texts) for step, texts in _progress(view).items()],
        reached=_reached(view),
        making=_making(view),
        in_reader=Step.CARD in _progress(view),
        possibilities=POSSIBILITIES,
        said=next((text for name, text in _NOTICES.items() if name in request.query), None),
        wrong="wrong" in request.query,
    )


async def post_next(request: web.Request) -> web.Response:
    """``POST /processes/ID/next``: sent twice, it works once, and both answers are the same page.

    What is wrong with the step's form is said at its field, with what was sent still in it.
    """
    session, form, process_id = await _sent(request)
    version = whole(field(form, "expected_version", 10))
    values = {name: sent for name, sent in form.items() if name not in _OWN_FIELDS}
    try:
        view = await request.app[SERVICES].next(session, process_id, version, values)
    except StalePage:
        raise web.HTTPSeeOther(f"/processes/{process_id}?stale") from None
    except FieldErrors as error:
        view = await request.app[SERVICES].process(session, process_id)
        return _show(request, session, view, None, sent=values, errors=error.errors, expected=version)
    if view.secret is not None:
        return _show(
            request, session, view, None
        )  # in this answer alone: a page that is loaded again hasn't it
    if view.state is ProcessState.FINISHED and view.batch and not view.in_run:
        raise web.HTTPSeeOther(f"/operator/batches/{view.batch}")
    made = view.state is ProcessState.FINISHED and view.target is None and view.card is not None
    own = made and Role.SELF_SERVICE in session.user.roles  # who has cards sees the new one among them
    raise web.HTTPSeeOther("/cards" if own else f"/processes/{process_id}")


async def get_cancel(request: web.Request) -> web.Response:
    """``GET /processes/ID/cancel``: what Cancel would do now, for the page's script: it changes."""
    session = await require_session(request)
    view = await request.app[SERVICES].process(session, request.match_info["id"])
    return web.json_response({"effect": view.cancel_effect})


async def post_cancel(request: web.Request) -> web.Response:
    """``POST /processes/ID/cancel``."""
    session, _, process_id = await _sent(request)
    await request.app[SERVICES].cancel(session, process_id)
    request.app[CODES].forget(process_id)
    raise web.HTTPSeeOther(f"/processes/{process_id}")


async def post_letter(request: web.Request) -> web.Response:
    """``POST /processes/ID/letters/KIND``: a letter as PDF, shown and not saved, for whoever may print it."""
    session, _, process_id = await _sent(request)
    kind = request.match_info["kind"]
    content = await request.app[SERVICES].letter(session, process_id, kind)
    return web.Response(
        body=content,
        content_type="application/pdf",
        headers={"Cache-Control": "no-store", "Content-Disposition": _INLINE},
    )


async def post_code(request: web.Request) -> web.Response:
    """``POST /processes/ID/code``: a fresh code, for a script as JSON."""
    session, _, process_id = await _sent(request)
    code = await request.app[CODES].fresh(session, process_id)
    if not wants_json(request):
        raise web.HTTPSeeOther(f"/processes/{process_id}")
    return web.json_response(
        {
            "link": code.link,
            "typed_code": code.typed_code,
            "link_expires_at": code.link_expires_at,
            "typed_expires_at": code.typed_expires_at,
        }
    )


async def post_number(request: web.Request) -> web.Response:
    """``POST /processes/ID/number``: the number that Inlay shows."""
    session, form, process_id = await _sent(request)
    number = field(form, "number", 20).strip()
    result = await request.app[SERVICES].enter_number(session, process_id, number)
    if wants_json(request):
        return web.json_response({"accepted": result.accepted, "tries_left": result.tries_left})
    raise web.HTTPSeeOther(f"/processes/{process_id}{'' if result.accepted else '?wrong'}")


async def post_completion(request: web.Request) -> web.Response:
    """``POST /processes/ID/completion``: the secret that Inlay gave the page."""
    session, form, process_id = await _sent(request)
    await request.app[SERVICES].complete(session, process_id, field(form, "completion", 100))
    return web.json_response({})


async def _sent(request: web.Request) -> tuple[Session, dict[str, list[str]], str]:
    session = await require_session(request)
    return session, await read_form(request, session.csrf_token), request.match_info["id"]


async def _code(request: web.Request, session: Session, view: ProcessView) -> CodeView | None:
    """The code to show: only where one is waited for."""
    waiting = view.order is None or view.order.state == "waiting"
    if view.state is ProcessState.RUNNING and view.step == OPEN_STEP and waiting:
        return await request.app[CODES].current(session, view.id)
    request.app[CODES].forget(view.id)
    return None


def _back(session: Session, view: ProcessView) -> tuple[str, str]:
    """Where a process leads when it has ended: address and words."""
    target = view.target
    if target is not None and target.kind in frozenset(ObjectKind) and Role.OPERATOR in session.user.roles:
        return f"/operator/objects/{target.kind}/{target.id}", target.label
    others = target is None or view.subject != session.user.email
    return ("/start", "To the start page") if others else ("/cards", "Cards")


def _reached(view: ProcessView) -> int:
    """How many of the progress steps lie behind; -1 before the first."""
    if view.order is None or view.order.step is None:
        return -1
    steps = list(_progress(view))
    return steps.index(view.order.step) if view.order.step in steps else -1


def _making(view: ProcessView) -> str:
    """Which of its keys a card makes now, behind what the step says."""
    key = None if view.order is None else view.order.key
    return "" if key is None else f" Key {key.number} of {key.of}."


def _progress(view: ProcessView) -> Mapping[Step, tuple[str, str]]:
    return _PROGRESS if view.progress is None else view.progress
