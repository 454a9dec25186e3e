"""The built-in CA with a will of its own: refuses, is away, signs and loses the answer, waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from portal.ca.authority import CaRefusedError, CaUnavailableError

if TYPE_CHECKING:
    from portal.ca.authority import IssueRequest, Reason
    from portal.ca.builtin import BuiltinCa
    from portal.model.states import CaState


class UnrulyCa:
    """A CA whose answers a test chooses.

    Attributes:
        inner: the real one.
        refuse: profile that is refused.
        fail: profile at which the adapter itself breaks.
        lose: profile whose certificate is issued, and the answer lost.
        wait: profile whose answer waits for ``released``.
        away: whether it is away.
    """

    inner: BuiltinCa

    def __init__(self) -> None:
        self.refuse = self.fail = self.lose = self.wait = ""
        self.away = False
        self.held = asyncio.Event()
        self.released = asyncio.Event()

    async def certificate(self) -> bytes:
        """As the real one."""
        return await self.inner.certificate()

    async def issue(self, request: IssueRequest) -> bytes:
        """As the test chose."""
        self._answer()
        if request.profile == self.refuse:
            raise CaRefusedError("policy")
        if request.profile == self.fail:
            raise RuntimeError("a password that must not travel")
        issued = await self.inner.issue(request)
        if request.profile == self.lose:
            raise CaUnavailableError
        if request.profile == self.wait:
            self.held.set()
            await self.released.wait()
        return issued

    async def find(self, *, request_id: str | None = None, key_hash: str | None = None) -> list[bytes]:
        """As the real one, unless it is away."""
        self._answer()
        return await self.inner.find(request_id=request_id, key_hash=key_hash)

    async def status(self, serial: str) -> CaState | None:
        """As the real one, unless it is away."""
        self._answer()
        return await self.inner.status(serial)

    async def hold(self, serial: str) -> None:
        """As the real one, unless it is away."""
        self._answer()
        await self.inner.hold(serial)

    async def release(self, serial: str) -> None:
        """As the real one, unless it is away."""
        self._answer()
        await self.inner.release(serial)

    async def revoke(self, serial: str, reason: Reason) -> None:
        """As the real one, unless it is away."""
        self._answer()
        await self.inner.revoke(serial, reason)

    async def crl(self) -> bytes:
        """As the real one."""
        return await self.inner.crl()

    def _answer(self) -> None:
        if self.away:
            raise CaUnavailableError
