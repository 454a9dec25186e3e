"""Adding portals in two steps, listing and removing them, and tickets of their pages."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import TYPE_CHECKING

from agent.trust_fetch import Candidate, fetch, portal_id
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Ticket
from protocol.orders import CLOCK_WARNING
from protocol.page_messages import TICKET_SECONDS

if TYPE_CHECKING:
    from agent.trust import TrustEntry, TrustStore


class TrustStoreDesk:
    """See ``agent.order_ports.TrustDesk``."""

    def __init__(self, store: TrustStore) -> None:
        """Work on this store."""
        self._store = store

    def overview(self) -> list[dict[str, str]]:
        """All entries."""
        return [_row(entry) | {"scope": entry.scope, "added": entry.added} for entry in self._store.entries()]

    async def look(self, url: str, ca: str | None) -> dict[str, str]:
        """Ask a portal who it is; nothing is added.

        Raises:
            InlayError: ``portal_forbidden``, and as ``agent.trust_fetch.fetch``.
        """
        return _row(await self._fetch(url, ca))

    async def add(self, url: str, ca: str | None, fingerprint: str) -> dict[str, str]:
        """Ask again, and add the portal if its fingerprint is the one that was confirmed.

        Raises:
            InlayError: ``fingerprint_mismatch``, and as `look`.
        """
        found = await self._fetch(url, ca)
        if not hmac.compare_digest(_plain(found.fingerprint), _plain(fingerprint)):
            raise InlayError("fingerprint_mismatch")
        entry = await asyncio.to_thread(self._store.add, found.portal, found.name, found.root_key, ca)
        await asyncio.to_thread(self._store.accept_key_set, entry, found.key_set)
        return _row(entry)

    async def remove(self, portal: str) -> None:
        """Remove a portal of the user's.

        Raises:
            InlayError: ``portal_unknown``, ``portal_forbidden``.
        """
        await asyncio.to_thread(self._store.remove, portal)

    def check_ticket(self, token: str, origin: str) -> float:
        """Check a page's session ticket for reading: signed by its portal, for its origin, now.

        Returns:
            How many seconds it is good for.

        Raises:
            InlayError: ``not_authenticated``.
        """
        entry = next((item for item in self._store.entries() if item.origin == origin), None)
        known = None if entry is None else self._store.known_key_set(entry)
        if entry is None or known is None:
            raise InlayError("not_authenticated")
        try:
            ticket = jose.verify(token, jose.TICKET, [item.key for item in known.order_keys], Ticket)
        except jose.TokenError:
            raise InlayError("not_authenticated") from None
        now = time.time()
        until = min(ticket.exp, ticket.iat + TICKET_SECONDS)
        timely = ticket.iat - CLOCK_WARNING <= now < until
        if ticket.iss != entry.portal or ticket.origin != origin or not timely:
            raise InlayError("not_authenticated")
        return until - now

    async def _fetch(self, url: str, ca: str | None) -> Candidate:
        await asyncio.to_thread(self._store.check_may_add, portal_id(url))
        return await asyncio.to_thread(fetch, url, ca)


def _row(found: TrustEntry | Candidate) -> dict[str, str]:
    return {
        "portal": found.portal,
        "name": found.name,
        "origin": found.origin,
        "fingerprint": found.fingerprint,
    }


def _plain(fingerprint: str) -> bytes:
    """A fingerprint without what people put between its digits."""
    return "".join(filter(str.isalnum, fingerprint)).upper().encode()
