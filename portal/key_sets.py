"""The key set that agents verify everything with: signed by the root key, short-lived, versions only go up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.store import audit
from portal.store.tables import SignedKeySet
from protocol import keyset
from protocol.messages import KeySet, plain

if TYPE_CHECKING:
    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.store.database import Database

LIFETIME: Final = 7 * 86_400
CHANNEL_PATH: Final = "/inlay/channel"


class KeySets:
    """Publishes the portal's key set.

    A new version is made when keys, name or path change; the same version is signed anew when half of its life is
    gone. Both happen when somebody asks, so that an idle portal needs no timer.
    """

    def __init__(self, database: Database, keys: KeyPort, clock: Clock, portal: str, name: str) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._portal = portal
        self._name = name
        self._current: tuple[int, str] | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """The key set that counts now; compact JWS."""
        async with self._lock:
            now = self._clock()
            if self._current is None or now >= self._current[0]:
                self._current = await self._refresh(now)
            return self._current[1]

    def forget(self) -> None:
        """Look anew at the next question: the keys changed."""
        self._current = None

    async def _refresh(self, now: int) -> tuple[int, str]:
        content = self._content()
        async with self._database.write() as tx:
            query = select(SignedKeySet).order_by(SignedKeySet.version.desc()).limit(1).with_for_update()
            last = (await tx.execute(query)).scalar_one_or_none()
            same = last is not None and last.content == content
            if last is not None and same and now < last.issued_at + LIFETIME // 2:
                return last.issued_at + LIFETIME // 2, last.token
            version = (last.version if last else 0) + (0 if same else 1)
            token = self._sign(version, now)
            if last is not None and same:
                last.token, last.issued_at, last.expires_at = token, now, now + LIFETIME
            else:
                tx.add(
                    SignedKeySet(
                        version=version,
                        content=content,
                        token=token,
                        issued_at=now,
                        expires_at=now + LIFETIME,
                    )
                )
                await audit.record(
                    tx,
                    at=now,
                    actor="portal",
                    action="key_set.published",
                    kind="key_set",
                    object_id=str(version),
                    keys=[key.thumbprint for key in self._keys.order_keys()],
                )
        return now + LIFETIME // 2, token

    def _content(self) -> dict[str, Any]:
        kids = [key.thumbprint for key in self._keys.order_keys()]
        return {"order_keys": kids, "name": self._name, "channel_path": CHANNEL_PATH, "iss": self._portal}

    def _sign(self, version: int, now: int) -> str:
        key_set = KeySet(
            iss=self._portal,
            version=version,
            iat=now,
            exp=now + LIFETIME,
            order_keys=keyset.order_keys(self._keys.order_keys()),
            name=self._name,
            channel_path=CHANNEL_PATH,
        )
        return keyset.sign(key_set, self._keys.root())

    async def well_known(self) -> dict[str, Any]:
        """What ``/.well-known/inlay`` answers."""
        return {"key_set": await self.token(), "root_key": plain(self._keys.root().public)}
