"""Column types of the portal's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, TypeDecorator
from sqlalchemy.ext.mutable import MutableDict

from portal.model import variables

if TYPE_CHECKING:
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


def process_variables() -> Any:
    """The type of a process's variables: ``process.variables[name] = value`` is stored.

    A change inside of a value isn't seen: values are replaced, not altered.
    """
    return MutableDict.as_mutable(_Variables())
