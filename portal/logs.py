"""The portal's log: to standard error, which the service manager keeps; exceptions without their texts."""

from __future__ import annotations

import logging

from protocol.traces import RedactingFormatter


def set_up() -> None:
    """Log everything from INFO on; libraries that say a lot from WARNING on. A second time changes nothing."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
    for noisy in ("alembic", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
