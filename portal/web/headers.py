"""The headers of every answer: what a browser may do with a page of the portal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.loopback_ports import PORTS

if TYPE_CHECKING:
    from aiohttp import web

_SOURCES: Final = {
    "default-src": ("'none'",),
    "script-src": ("'self'",),
    "style-src": ("'self'",),
    "img-src": ("'self'", "data:"),
    "connect-src": ("'self'", *(f"ws://127.0.0.1:{port}" for port in PORTS)),
    "form-action": ("'self'",),
    "frame-ancestors": ("'none'",),
    "base-uri": ("'none'",),
}
CONTENT_SECURITY_POLICY: Final = "; ".join(f"{name} {' '.join(values)}" for name, values in _SOURCES.items())
"""No inline script or style anywhere. No directive governs where a link leads, so ``inlay:`` links work."""

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": with that a browser sends "Origin: null" with the portal's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal ``on_response_prepare``: set the headers; pages are not stored anywhere."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
