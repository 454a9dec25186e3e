"""Fields of forms (``portal.model.options.Option``) as templates show them: what was sent, or what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.model.options import Option, OptionValue


def form_context(
    fields: Sequence[Option],
    values: Mapping[str, OptionValue],
    sent: Mapping[str, Sequence[str]] | None = None,
    errors: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What ``fields.html`` needs of a form.

    Args:
        fields: its fields, in the order they are shown.
        values: field to what it holds.
        sent: what a person sent instead and is shown again, because something in it is wrong.
        errors: field to what is wrong with it.

    Returns:
        ``fields``, ``values`` (field to its texts), ``errors``, ``unknown`` (what is wrong with no field of the form)
        and ``first_wrong``, the field that gets the focus.
    """
    wrong = dict(errors or {})
    names = {field.name for field in fields}
    return {
        "fields": fields,
        "values": {
            field.name: _sent(field, sent)
            if sent is not None
            else texts(values.get(field.name, field.default))
            for field in fields
        },
        "errors": wrong,
        "unknown": [text for name, text in wrong.items() if name not in names],
        "first_wrong": next((field.name for field in fields if field.name in wrong), ""),
    }


def texts(value: OptionValue) -> list[str]:
    """A value as a form's fields hold it."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def words(value: OptionValue, captions: Mapping[str, str]) -> str:
    """A value for people.

    Args:
        value: as it is stored.
        captions: its option's: choice to what people read in its place.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    items = value if isinstance(value, list) else [value]
    return "; ".join(captions.get(str(item), str(item)) for item in items) if captions else _plain(items)


def _plain(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items)


def whole(text: str) -> int:
    """A version from a form; -1, which no page has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _sent(field: Option, sent: Mapping[str, Sequence[str]]) -> list[str]:
    values = list(sent.get(field.name, ()))
    return ["true" if values else "false"] if field.kind == "bool" else values
