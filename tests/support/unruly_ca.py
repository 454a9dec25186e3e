"""The built-in CA with a will of its own: refuses, is away, signs and loses the answer, waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from portal.ca.authority import CaRefusedError, CaUnavailableError

if TYPE_CHECKING:
    from portal.ca.authority import IssueRequest, Reason
    from portal.ca.builtin import BuiltinCa


class UnrulyCa:
    """A CA whose answers a test chooses.

    Attributes:
        inner: the real one.
        refuse: profile that is refused.
        fail: profile at which the adapter itself breaks.
        lose: profile whose certificate is issued, and the answer lost.
        hold: profile whose answer waits for ``released``.
        away: whether it is away.
    """

    inner: BuiltinCa

    def __init__(self) -> None:
        self.refuse = self.fail = self.lose = self.hold = ""
        self.away = False
        self.held = asyncio.Event()
        self.released = asyncio.Event()

    async def certificate(self) -> bytes:
        """As the real one."""
        return await self.inner.certificate()

    async def issue(self, request: IssueRequest) -> bytes:
        """As the test chose."""
        if self.away:
            raise CaUnavailableError
        if request.profile == self.refuse:
            raise CaRefusedError("policy")
        if request.profile == self.fail:
            raise RuntimeError("a password that must not travel")
        issued = await self.inner.issue(request)
        if request.profile == self.lose:
            raise CaUnavailableError
        if request.profile == self.hold:
            self.held.set()
            await self.released.wait()
        return issued

    async def find(self, *, request_id: str | None = None, key_hash: str | None = None) -> list[bytes]:
        """As the real one, unless it is away."""
        if self.away:
            raise CaUnavailableError
        return await self.inner.find(request_id=request_id, key_hash=key_hash)

    async def revoke(self, serial: str, reason: Reason) -> None:
        """As the real one, unless it is away."""
        if self.away:
            raise CaUnavailableError
        await self.inner.revoke(serial, reason)

    async def crl(self) -> bytes:
        """As the real one."""
        return await self.inner.crl()
