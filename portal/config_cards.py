"""Kinds of cards in the configuration: their encoding descriptions, and what they come with (``card_descriptions``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from portal.config_values import ConfigError, Text, secret_in
from portal.encoding.problems import EncodingError
from portal.processes import card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CardDescription

if TYPE_CHECKING:
    from portal.encoding.binding import Encoding

CardName = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class CardDescriptionFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of card that is made through PKCS#11: encoding descriptions (``*.dsc``), and what the card comes with.

    Attributes:
        puk_file: holds the PUK (SO PIN), 4 to 64 characters; nobody but its owner may read it.
        issue: description by which *Issue card* makes it.
        encode: description by which a temporary card is encoded for a new holder; needs ``extend``.
        extend: description by which it is extended.
        fields: field to process variable, ``${name}``, for fields that the shipped descriptions don't have.
    """

    puk_file: Text
    issue: Text | None = None
    encode: Text | None = None
    extend: Text | None = None
    fields: dict[Text, Text] = {}


def below(folder: Path, files: CardDescriptionFiles) -> CardDescriptionFiles:
    """The same, with relative paths in a folder."""
    paths = {"issue": files.issue, "encode": files.encode, "extend": files.extend}
    absolute = {word: None if path is None else str(folder / path) for word, path in paths.items()}
    return msgspec.structs.replace(files, puk_file=str(folder / files.puk_file), **absolute)


def described(name: str, files: CardDescriptionFiles) -> CardDescription:
    """Read a kind of card.

    Raises:
        ConfigError: a file can't be read, or a description has a fault; names file, line and cause.
    """
    where = f"card_descriptions: {name}"
    if name == BUILT_IN or not name.isprintable():
        raise ConfigError(where, f"a name on one line is needed, and {BUILT_IN} is that of the built-in one")
    if (files.encode is None) != (files.extend is None) or (files.issue is None and files.encode is None):
        raise ConfigError(where, "issue is needed, or encode and extend, or all three")
    puk = secret_in(Path(files.puk_file))
    if not 4 <= len(puk) <= 64:
        raise ConfigError(files.puk_file, "4 to 64 characters are needed")
    return CardDescription(
        name,
        puk,
        issue=_encoding(files.issue, card_descriptions.issuing, files.fields),
        encode=_encoding(files.encode, card_descriptions.encoding, files.fields),
        extend=_encoding(files.extend, card_descriptions.extending, files.fields),
    )


def _encoding(
    file: str | None, read: Callable[[Path, Mapping[str, str]], Encoding], fields: Mapping[str, str]
) -> Encoding | None:
    if file is None:
        return None
    try:
        return read(Path(file), fields)
    except OSError as error:
        raise ConfigError(file, error.strerror or "can't be read") from None
    except EncodingError as error:
        raise ConfigError(file, str(error)) from None
