"""Column types of the portal's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, TypeDecorator
from sqlalchemy.ext.mutable import MutableDict

from portal.model import variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect


class _Variables(TypeDecorator[dict[str, Any]]):
    """Process variables (``portal.model.variables``) as JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> dict[str, Any] | None:
        """To the database."""
        return None if value is None else variables.encode(value)

    def process_result_value(self, value: dict[str, Any] | None, dialect: Dialect) -> dict[str, Any] | None:
        """From the database."""
        return None if value is None else variables.decode(value)


class Unreadable(dict[str, Any]):
    """What stands in the place of details that somebody put into the database and that can't be read."""


class _Details(TypeDecorator[dict[str, Any]]):
    """Details of a row of the audit log as JSON; a log that was tampered with can still be read, and checked."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], dict[str, Any]]:
        """From the database."""
        read = super().result_processor(dialect, coltype)

        def lenient(value: Any) -> dict[str, Any]:
            try:
                found = value if read is None else read(value)
            except (ValueError, TypeError, RecursionError):
                return Unreadable()
            return found if isinstance(found, dict) else Unreadable()

        return lenient


def audit_details() -> Any:
    """The type of an audit log row's details."""
    return _Details()


def process_variables() -> Any:
    """The type of a process's variables: ``process.variables[name] = value`` is stored.

    A change inside of a value isn't seen: values are replaced, not altered.
    """
    return MutableDict.as_mutable(_Variables())
