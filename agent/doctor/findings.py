"""What `inlay doctor` can find: one table from evidence to cause, and to what to do.

Codes of the protocol's table (``pcsc_…``, ``keystore_…``, ``link_…``) keep their own texts; here is what only
the doctor sees. `docs/support.md` lists all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from protocol.errors import InlayError

Level = Literal["ok", "note", "problem"]
AREAS: Final = (
    "agent",
    "service",
    "readers",
    "cards",
    "virtual readers",
    "links",
    "pages",
    "portals",
    "keys",
)


class Row(NamedTuple):
    """One row: ``{field}`` is filled in from the evidence."""

    area: str
    level: Level
    happened: str
    why: str
    next_step: str


_NOTHING: Final = "Nothing to do."
TABLE: Final[dict[str, Row]] = {
    "agent_runs": Row("agent", "ok", "Inlay's agent runs (version {version}).", "It answers.", _NOTHING),
    "agent_rests": Row(
        "agent",
        "note",
        "Inlay's agent isn't running.",
        "It starts with the first link or command.",
        "Nothing to do; inlay cards starts it, and puts virtual cards into their readers.",
    ),
    "agent_traffic": Row(
        "agent",
        "note",
        "Inlay writes down what is said to cards.",
        "Its agent was started with --traffic. PINs, PUKs and keys are left out.",
        "To end it, run: inlay agent --stop",
    ),
    "agent_unwell": Row("agent", "problem", "Inlay's agent does not do its work.", "{why}", "{next_step}"),
    "service_answers": Row(
        "service", "ok", "The PC/SC service answers.", "It lists {count} readers.", _NOTHING
    ),
    "service_missing": Row(
        "service",
        "problem",
        "No program can see smart cards.",
        "The PC/SC service (pcscd) is not installed.",
        "Install it: sudo apt install pcscd",
    ),
    "service_stopped": Row(
        "service",
        "problem",
        "No program can see smart cards.",
        "The PC/SC service (pcscd) is installed, and neither it nor its socket is there.",
        "Start it: sudo systemctl enable --now pcscd.socket",
    ),
    "service_dead": Row(
        "service",
        "problem",
        "No program can see smart cards.",
        "The PC/SC service left its socket {path} behind, and nothing answers there.",
        "Start it again: sudo systemctl restart pcscd.socket pcscd.service",
    ),
    "service_silent": Row(
        "service",
        "problem",
        "The PC/SC service does not answer.",
        "It took the question and said nothing for {seconds} seconds.",
        "Start it again: sudo systemctl restart pcscd.service",
    ),
    "reader_ready": Row("readers", "ok", "Reader {reader} is there.", "{state}", _NOTHING),
    "reader_undriven": Row(
        "readers",
        "problem",
        "A reader is plugged in, and no program sees it.",
        "USB device {device} is a smart card reader, and pcscd has no driver that takes it.",
        "Install the driver: sudo apt install libccid; then plug the reader in again.",
    ),
    "reader_none": Row(
        "readers",
        "note",
        "There is no card reader.",
        "Nothing that is plugged in is one, and there are no virtual readers.",
        "Plug a reader in. For virtual cards: run packaging/linux/install-readers as root.",
    ),
    "card_driver": Row(
        "cards",
        "ok",
        "The card in {reader} is a {name} (driver {driver}).",
        "It was chosen because {why} ({source}).",
        _NOTHING,
    ),
    "card_unmapped": Row(
        "cards",
        "problem",
        "The card in {reader} is not known.",
        "Its ATR is {atr}; it has no PIV application, and no entry of the card map fits.",
        "Have an administrator write, with the card maker's module:\n{entry}",
    ),
    "card_bare": Row(
        "cards",
        "problem",
        "The card in {reader} has no PIV application.",
        "Its card manager answers, and no application that Inlay could speak to.",
        "Have who supplied it load a PIV application, by the card manager's keys (SCP03), and hand over the "
        "card's management key. Inlay loads none.",
    ),
    "card_module_missing": Row(
        "cards",
        "problem",
        "The card in {reader} can't be used.",
        "Its module {module}, which {source} names, is not there.",
        "Install the card maker's program, or correct the path.",
    ),
    "card_unread": Row(
        "cards", "problem", "The card in {reader} can't be looked at.", "{why}", "{next_step}"
    ),
    "card_busy": Row(
        "cards",
        "problem",
        "The card in {reader} can't be looked at.",
        "Another program keeps it for itself, or it has not answered for {seconds} seconds.",
        "Close other programs that use cards, or take the card out and put it in again.",
    ),
    "card_programs": Row(
        "cards",
        "note",
        "One of these programs may have it: {programs}.",
        "They are yours and connected to the PC/SC service, which does not tell what each has open.",
        "Close them, or have them let the card go. GnuPG: gpgconf --kill scdaemon",
    ),
    "card_last_try": Row(
        "cards",
        "note",
        "The card in {reader} has one PIN try left.",
        "The PIN was typed wrong before.",
        "Type it with care: after one more wrong PIN it is blocked.",
    ),
    "card_blocked": Row(
        "cards",
        "problem",
        "The PIN of the card in {reader} is blocked.",
        "It was typed wrong too often.",
        "Unblock it with the PUK, or ask the card's issuer.",
    ),
    "card_map_trouble": Row(
        "cards",
        "problem",
        "A file of the card map does not count.",
        "{file}: {why}.",
        "Have an administrator mend it.",
    ),
    "virtual_card_hidden": Row(
        "cards", "problem", "The virtual card {label} is in no reader.", "{why}", "{next_step}"
    ),
    "virtual_cards_note": Row("cards", "note", "{happened}", "{why}", "{next}"),
    "vpcd_none": Row(
        "virtual readers",
        "note",
        "Virtual cards can be seen by no other program.",
        "pcscd has no virtual readers.",
        "Run packaging/linux/install-readers as root.",
    ),
    "vpcd_local": Row(
        "virtual readers",
        "ok",
        "{count} virtual readers take cards from this machine alone.",
        "{guard}",
        _NOTHING,
    ),
    "vpcd_closed": Row(
        "virtual readers",
        "note",
        "The virtual readers are configured, and none listens.",
        "pcscd starts with the first program that asks for cards, or has not read its configuration since.",
        "Run inlay cards; if they stay away: sudo systemctl restart pcscd.service",
    ),
    "vpcd_open": Row(
        "virtual readers",
        "problem",
        "The virtual readers may be reached from the network.",
        "Ports {ports} listen on every address, and no rule that keeps them on this machine was found.",
        "Run packaging/linux/install-readers as root, or close the ports in the firewall.",
    ),
    "link_works": Row("links", "ok", "inlay: links open Inlay.", "The entry is {entry}.", _NOTHING),
    "page_reaches": Row(
        "pages",
        "ok",
        "Web pages of trusted portals reach Inlay directly.",
        "It answers at port {port}.",
        _NOTHING,
    ),
    "page_rests": Row(
        "pages",
        "note",
        "Web pages don't reach Inlay directly now.",
        "Its agent isn't running.",
        "Nothing to do: links start it.",
    ),
    "page_blocked": Row(
        "pages",
        "problem",
        "Web pages can't reach Inlay directly.",
        "None of its ports answers as Inlay; the first is held by {holder}.",
        "Links still work. Close the other program, then end the agent and run: inlay cards",
    ),
    "portal_trusted": Row(
        "portals", "ok", "{name} ({portal}) is trusted.", "Its fingerprint is {fingerprint}.", _NOTHING
    ),
    "portal_stale": Row(
        "portals",
        "problem",
        "{name} ({portal}) can't be verified.",
        "{why}",
        "{next_step}",
    ),
    "portal_none": Row(
        "portals",
        "note",
        "No portal is trusted yet.",
        "Neither this machine nor you have an entry.",
        "Ask your support for the portal's address, then run: inlay trust add ADDRESS",
    ),
    "keys_store": Row("keys", "ok", "The system's key store protects keys.", "It is open.", _NOTHING),
    "keys_file": Row(
        "keys",
        "note",
        "Keys can be kept in files alone.",
        "No Secret Service answers in this session.",
        "Install and start one, for example gnome-keyring: a stolen disk then gives nothing away.",
    ),
    "keys_none": Row(
        "keys",
        "problem",
        "Keys can't be kept on this machine.",
        "No Secret Service answers in this session, and policy refuses keys in files.",
        "Install and start one, for example gnome-keyring.",
    ),
    "keys_locked": Row(
        "keys",
        "problem",
        "The system's key store is locked.",
        "It opens when you log in or unlock it.",
        "Unlock it (for example the login keyring); cards then come by themselves.",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding, as it is told.

    Attributes:
        code: key of `TABLE`, or of the protocol's errors.
        area: one of `AREAS`.
        level: ``ok``, ``note`` or ``problem``.
        happened: what was found.
        why: on what evidence.
        next_step: what to do.
    """

    code: str
    area: str
    level: Level
    happened: str
    why: str
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def finding(code: str, **fields: str | int) -> Finding:
    """A row of the table with its fields.

    Raises:
        KeyError: no such row, or a field is missing.
    """
    row = TABLE[code]
    texts = (text.format_map(fields) for text in (row.happened, row.why, row.next_step))
    return Finding(code, row.area, row.level, *texts)


def from_error(area: str, error: InlayError, level: Level = "problem") -> Finding:
    """A row of the protocol's error table as a finding."""
    return Finding(error.code, area, level, error.happened, error.why, error.next_step)
