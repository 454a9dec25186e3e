"""Kinds of cards in the configuration: their encoding descriptions, and what they come with (``card_descriptions``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from portal.config_values import ConfigError, Text, secret_in
from portal.encoding.piv_rules import Part
from portal.encoding.problems import EncodingError
from portal.processes import card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CardDescription

if TYPE_CHECKING:
    from portal.encoding.binding import Encoding

CardName = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class CardDescriptionFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of card: encoding descriptions (``*.dsc``), and what the card comes with.

    Attributes:
        puk_file: of a card that is made through PKCS#11: holds the PUK (SO PIN), 4 to 64 characters; nobody but its
            owner may read it. None: it is a PIV card, which comes with what ``factory_cards`` says.
        issue: description by which *Issue card* makes it.
        encode: description by which a temporary card is encoded for a new holder; needs ``extend`` with PKCS#11.
        extend: description by which it is extended.
        change_pin: of a PIV card: where a PIN is typed that is changed.
        unblock_pin: of a PIV card: where a new PIN is typed that is set by the PUK.
        verify_pin: of a PIV card: where its PIN is typed by whoever uses it.
        fields: field to process variable, ``${name}``, for fields that the shipped descriptions don't have.
    """

    puk_file: Text | None = None
    issue: Text | None = None
    encode: Text | None = None
    extend: Text | None = None
    change_pin: Text | None = None
    unblock_pin: Text | None = None
    verify_pin: Text | None = None
    fields: dict[Text, Text] = {}

    @property
    def parts(self) -> dict[Part, str]:
        """What is described: to the file."""
        named = {part: getattr(self, part.value) for part in Part}
        return {part: file for part, file in named.items() if file is not None}


def below(folder: Path, files: CardDescriptionFiles) -> CardDescriptionFiles:
    """The same, with relative paths in a folder."""
    absolute = {part.value: str(folder / file) for part, file in files.parts.items()}
    if files.puk_file is not None:
        absolute["puk_file"] = str(folder / files.puk_file)
    return msgspec.structs.replace(files, **absolute)


def described(name: str, files: CardDescriptionFiles) -> CardDescription:
    """Read a kind of card.

    Raises:
        ConfigError: a file can't be read, or a description has a fault; names file, line and cause.
    """
    where = f"card_descriptions: {name}"
    if not name.isprintable() or (name == BUILT_IN and files.puk_file is not None):
        raise ConfigError(where, f"a name on one line is needed, and {BUILT_IN} is that of PIV cards alone")
    if files.puk_file is None:
        if not files.parts:
            words = ", ".join(part.value for part in Part)
            raise ConfigError(where, f"one of {words} is needed, and puk_file where PKCS#11 makes such cards")
        return CardDescription(name, None, _encodings(files, card_descriptions.of_piv))
    if (files.encode is None) != (files.extend is None) or (files.issue is None and files.encode is None):
        raise ConfigError(where, "issue is needed, or encode and extend, or all three")
    if others := [part.value for part in files.parts if not part.writes]:
        raise ConfigError(where, f"{others[0]} is for PIV cards, and puk_file for those that PKCS#11 makes")
    puk = secret_in(Path(files.puk_file))
    if not 4 <= len(puk) <= 64:
        raise ConfigError(files.puk_file, "4 to 64 characters are needed")
    return CardDescription(name, puk, _encodings(files, card_descriptions.of_token))


def _encodings(
    files: CardDescriptionFiles, read: Callable[[Part, Path, Mapping[str, str]], Encoding]
) -> dict[Part, Encoding]:
    """What every file says.

    Raises:
        ConfigError: for the first that has a fault.
    """
    found = {}
    for part, file in files.parts.items():
        try:
            found[part] = read(part, Path(file), files.fields)
        except OSError as error:
            raise ConfigError(file, error.strerror or "can't be read") from None
        except EncodingError as error:
            raise ConfigError(file, str(error)) from None
    return found
