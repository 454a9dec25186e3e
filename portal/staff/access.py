"""Who may ask what staff ask: the role, and an account that is active, at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.errors import Forbidden
from portal.model.states import UserState
from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.model.states import Role
    from portal.views import Session


def require(session: Session, *roles: Role) -> None:
    """Let a person through who has one of some roles and whose account is active.

    Raises:
        Forbidden: the role is missing; names the first of them.
        InlayError: ``user_not_active``.
    """
    if not session.user.roles.intersection(roles):
        raise Forbidden(roles[0].value)
    if session.user.state is not UserState.ACTIVE:
        raise InlayError("user_not_active", state=session.user.state.value)
