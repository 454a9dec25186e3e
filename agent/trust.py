"""The portals this machine trusts: entries of the administrator, and the user's own where policy allows them.

An entry pins a portal's root key; the portal's address is the entry's and nobody else's. The user's entries
never shadow the administrator's. Beside each entry stands how far its key set has come, so that no older one
is taken again.

Errors: ``portal_unknown``, ``portal_forbidden``, and those of ``protocol.keyset.verify``.
"""

from __future__ import annotations

import datetime
import logging
import ssl
import time
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from agent.config import Policy, machine_policy, read_machine_file, read_users_file
from agent.durable import sync_folder, write_durably
from agent.folders import Folders
from protocol import jose, keyset
from protocol.errors import InlayError
from protocol.link import is_portal_id
from protocol.messages import CompactJws, KeySet, PortalId, PublicJwk, ShortText

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

CHANNEL_PATH: Final = "/inlay/channel"
"""Where the channel is until a portal's key set says otherwise."""

Scope = Literal["machine", "user"]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An entry's file."""

    portal: PortalId
    name: ShortText
    root_key: PublicJwk
    added: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    ca: Annotated[str, Meta(max_length=200_000)] | None = None


class _KeySetState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    root: str
    version: int
    token: CompactJws


class TrustEntry(NamedTuple):
    """A portal that is trusted.

    Attributes:
        portal: its id: host, and the port where it isn't 443.
        name: its name for people.
        root_key: the pinned key.
        added: when, as ISO 8601 date.
        ca: certificates (PEM) that may stand behind this portal's TLS; None for the system's.
        scope: whose entry it is.
    """

    portal: str
    name: str
    root_key: PublicJwk
    added: str
    ca: str | None
    scope: Scope

    @property
    def origin(self) -> str:
        """The portal's origin."""
        return f"https://{self.portal}"

    @property
    def host(self) -> str:
        """Host of the origin."""
        return self.portal.partition(":")[0]

    @property
    def port(self) -> int:
        """Port of the origin."""
        return int(self.portal.partition(":")[2] or 443)

    @property
    def fingerprint(self) -> str:
        """The root key's fingerprint as people compare it."""
        return jose.fingerprint(self.root_key)

    def tls(self) -> ssl.SSLContext:
        """TLS settings for this portal: verified against its own CA where it has one, else the system's.

        Raises:
            InlayError: ``portal_tls_untrusted``: the entry's CA can't be read.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca)
        except (ssl.SSLError, ValueError):
            raise InlayError("portal_tls_untrusted", portal=self.portal) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class TrustStore:
    """All entries. Files are read when they are asked for: an administrator's change counts at once."""

    def __init__(self, folders: Folders, *, administrator: int = 0) -> None:
        """Use these folders; ``administrator`` is the user id that machine-wide files must belong to."""
        self._machine = folders.machine / "trust.d"
        self._user = folders.config / "trust.d"
        self._key_sets = folders.state / "keysets"
        self._policy_folder = folders.machine
        self._administrator = administrator

    def entries(self) -> list[TrustEntry]:
        """All entries that count, by portal."""
        found: dict[str, TrustEntry] = {}
        if self._policy().user_trust:
            found |= {entry.portal: entry for entry in self._read_user()}
        found |= {entry.portal: entry for entry in self._read_machine()}
        return [found[portal] for portal in sorted(found)]

    def find(self, portal: str) -> TrustEntry:
        """The entry of a portal.

        Raises:
            InlayError: ``portal_unknown``.
        """
        for entry in self.entries():
            if entry.portal == portal:
                return entry
        raise InlayError("portal_unknown", portal=portal if is_portal_id(portal) else "?")

    def check_may_add(self, portal: str) -> None:
        """Check that the user may add this portal.

        Raises:
            InlayError: ``portal_forbidden``: policy, or the administrator has an entry for it.
        """
        machine = {entry.portal for entry in self._read_machine()}
        if not self._policy().user_trust or portal in machine:
            raise InlayError("portal_forbidden")

    def add(self, portal: str, name: str, root_key: PublicJwk, ca: str | None) -> TrustEntry:
        """Add an entry of the user's, or replace it.

        Raises:
            InlayError: ``portal_forbidden``, or ``card_write_failed`` when the disk refuses.
        """
        self.check_may_add(portal)
        stored = _Stored(portal, name, root_key, datetime.datetime.now(datetime.UTC).date().isoformat(), ca)
        try:
            self._user.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._user / _file_name(portal), msgspec.json.format(msgspec.json.encode(stored)))
        except OSError as error:
            raise InlayError("card_write_failed", cause=error.strerror or "") from error
        return _entry(stored, "user")

    def remove(self, portal: str) -> None:
        """Remove an entry of the user's. How far its key set had come stays known.

        Raises:
            InlayError: ``portal_unknown``, or ``portal_forbidden`` for an administrator's.
        """
        if self.find(portal).scope == "machine":
            raise InlayError("portal_forbidden")
        (self._user / _file_name(portal)).unlink(missing_ok=True)
        sync_folder(self._user)

    # --- key sets

    def channel_path(self, entry: TrustEntry) -> str:
        """Path of the channel as the last verified key set has it."""
        state = self._key_set_state(entry)
        if state is None:
            return CHANNEL_PATH
        return jose.verify(state.token, jose.KEY_SET, [entry.root_key], KeySet).channel_path

    def known_key_set(self, entry: TrustEntry) -> KeySet | None:
        """The last verified key set while it is valid by this machine's clock; None otherwise."""
        state = self._key_set_state(entry)
        if state is None:
            return None
        known = jose.verify(state.token, jose.KEY_SET, [entry.root_key], KeySet)
        return None if keyset.expired(known, time.time()) else known

    def accept_key_set(self, entry: TrustEntry, token: str) -> KeySet:
        """Verify a key set, and remember it before it is used.

        Raises:
            InlayError: ``keyset_invalid``, ``keyset_expired`` or ``keyset_rolled_back``.
        """
        state = self._key_set_state(entry)
        accepted = keyset.verify(
            token,
            root=entry.root_key,
            portal=entry.portal,
            now=time.time(),
            last_version=0 if state is None else state.version,
            last_token=None if state is None else state.token,
        )
        if state is None or token != state.token:
            self._key_sets.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = _KeySetState(jose.thumbprint(entry.root_key), accepted.version, token)
            write_durably(self._key_sets / _file_name(entry.portal), msgspec.json.encode(new))
        return accepted

    def _key_set_state(self, entry: TrustEntry) -> _KeySetState | None:
        """What is remembered for this root key; another root key is another portal and starts anew."""
        try:
            raw = (self._key_sets / _file_name(entry.portal)).read_bytes()
            state = msgspec.json.decode(raw, type=_KeySetState)
            if state.root != jose.thumbprint(entry.root_key):
                return None
            jose.verify(state.token, jose.KEY_SET, [entry.root_key], KeySet)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, jose.TokenError):
            _LOG.warning("the remembered key set of %s can't be read", entry.portal)
            raise InlayError("keyset_invalid") from None
        return state

    # --- files

    def _policy(self) -> Policy:
        return machine_policy(self._policy_folder, self._administrator)

    def _read_machine(self) -> list[TrustEntry]:
        found = []
        for path in sorted(self._machine.glob("*.json")):
            raw = read_machine_file(path, self._administrator)
            if raw is None:
                _LOG.warning(
                    "%s does not count: it must be a file that only an administrator can write", path
                )
                continue
            found += _decode(path, raw, "machine")
        return found

    def _read_user(self) -> list[TrustEntry]:
        """The user's entries, unless somebody else could have written them."""
        found: list[TrustEntry] = []
        for path in sorted(self._user.glob("*.json")):
            raw = read_users_file(path)
            if raw is None:
                _LOG.warning("%s does not count: it, or its folder, can be written by others", path)
                continue
            found += _decode(path, raw, "user")
        return found


def _decode(path: Path, raw: bytes, scope: Scope) -> list[TrustEntry]:
    """The entry in a file: one, or none when the file is damaged (said in the log)."""
    try:
        stored = msgspec.json.decode(raw, type=_Stored)
    except msgspec.DecodeError as error:
        _LOG.warning("%s does not count: %s", path, error)
        return []
    if not is_portal_id(stored.portal):
        _LOG.warning("%s does not count: %r is not a portal's id", path, stored.portal)
        return []
    return [_entry(stored, scope)]


def _entry(stored: _Stored, scope: Scope) -> TrustEntry:
    return TrustEntry(stored.portal, stored.name, stored.root_key, stored.added, stored.ca, scope)


def _file_name(portal: str) -> str:
    """A portal id as a file's name: its colon is the one character that some systems refuse."""
    return portal.replace(":", "_") + ".json"
