"""A window manager that overlooks the first request of each window: ``python -m tests.support.forgetful_manager``.

openbox does so at its start (3.6.1: what it has read from the display's connection before its main loop runs stays
unread until the display sends something more), and a desktop's session begins with just that.
"""

from __future__ import annotations

import ctypes
import ctypes.util

_SUBSTRUCTURE_REDIRECT_MASK = 1 << 20
_MAP_REQUEST, _CONFIGURE_REQUEST = 20, 23
_WINDOW_TYPE = 33
"""Of X.h and Xatom.h."""


class _Request(ctypes.Structure):
    """The beginning that XMapRequestEvent and XConfigureRequestEvent have in common, with an XEvent's size."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("parent", ctypes.c_ulong),
        ("window", ctypes.c_ulong),
        ("x", ctypes.c_int),
        ("y", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("rest", ctypes.c_long * 24),
    )


def main() -> None:
    """Manage the windows of ``DISPLAY`` until the display ends."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XDefaultRootWindow.restype = x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    root = ctypes.c_ulong(x11.XDefaultRootWindow(display))
    x11.XSelectInput(display, root, ctypes.c_long(_SUBSTRUCTURE_REDIRECT_MASK))
    check = ctypes.c_ulong(x11.XInternAtom(display, b"_NET_SUPPORTING_WM_CHECK", 0))
    x11.XChangeProperty(display, root, check, ctypes.c_ulong(_WINDOW_TYPE), 32, 0, ctypes.byref(root), 1)
    request = _Request()
    asked: set[int] = set()
    while True:
        x11.XNextEvent(display, ctypes.byref(request))
        window = ctypes.c_ulong(request.window)
        if request.type == _CONFIGURE_REQUEST:
            x11.XMoveResizeWindow(display, window, request.x, request.y, request.width, request.height)
        elif request.type == _MAP_REQUEST:
            if request.window in asked:
                x11.XMapWindow(display, window)
            asked.add(request.window)


if __name__ == "__main__":
    main()
