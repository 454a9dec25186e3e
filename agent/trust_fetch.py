"""The first look at a portal that is to be trusted: its key set and root key, over verified TLS.

Blocks for as long as the network takes: call it from a worker thread.
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, TYPE_CHECKING, Final, NamedTuple

import msgspec

from protocol import codec, jose, keyset
from protocol.errors import InlayError
from protocol.link import is_portal_id
from protocol.messages import CompactJws, PublicJwk

if TYPE_CHECKING:
    from email.message import Message as Headers

WELL_KNOWN_PATH: Final = "/.well-known/inlay"
_TIMEOUT_SECONDS: Final = 10


class WellKnown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a portal says of itself at ``/.well-known/inlay``."""

    key_set: CompactJws
    root_key: PublicJwk


class Candidate(NamedTuple):
    """A portal that could be trusted.

    Attributes:
        portal: its id.
        name: its name for people, as its key set has it.
        root_key: its root key, which signed the key set.
        key_set: the key set's token.
    """

    portal: str
    name: str
    root_key: PublicJwk
    key_set: str

    @property
    def origin(self) -> str:
        """The portal's origin."""
        return f"https://{self.portal}"

    @property
    def fingerprint(self) -> str:
        """The root key's fingerprint as people compare it."""
        return jose.fingerprint(self.root_key)


def portal_id(url: str) -> str:
    """The portal id of an https address: nothing but scheme, host and port may stand in it.

    Raises:
        InlayError: ``link_bad_portal``.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip() if "://" in url else f"https://{url.strip()}")
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:
        raise InlayError("link_bad_portal") from None
    portal = host if port in (None, 443) else f"{host}:{port}"
    further = parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/")
    if parts.scheme != "https" or further or not is_portal_id(portal):
        raise InlayError("link_bad_portal")
    return portal


def fetch(url: str, ca: str | None) -> Candidate:
    """Ask a portal who it is.

    Args:
        url: its https address.
        ca: certificates (PEM) that may stand behind its TLS; None for the system's.

    Raises:
        InlayError: ``link_bad_portal``, ``portal_unreachable``, ``portal_tls_untrusted``, ``keyset_…``.
    """
    portal = portal_id(url)
    well_known = _get(portal, ca)
    accepted = keyset.verify(
        well_known.key_set, root=well_known.root_key, portal=portal, now=time.time(), last_version=0
    )
    return Candidate(portal, accepted.name, well_known.root_key, well_known.key_set)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A portal that sends elsewhere isn't the portal that was named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> None:
        return None


def _get(portal: str, ca: str | None) -> WellKnown:
    try:
        context = ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise InlayError("portal_tls_untrusted", portal=portal) from None
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"https://{portal}{WELL_KNOWN_PATH}", timeout=_TIMEOUT_SECONDS) as answer:
            raw: bytes = answer.read(codec.MAX_FRAME_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise InlayError("portal_unreachable", portal=portal, cause=f"HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        raise unreachable(portal, error) from None
    return codec.decode(raw, WellKnown)


def unreachable(portal: str, error: BaseException) -> InlayError:
    """The error of the table for a connection that failed.

    Args:
        portal: the portal's id.
        error: what the system or the TLS library raised.
    """
    reason = getattr(error, "reason", None)
    inner = reason if isinstance(reason, BaseException) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return InlayError("portal_tls_untrusted", portal=portal)
    if isinstance(inner, TimeoutError):
        cause = "no answer in time"
    elif isinstance(inner, ssl.SSLError):
        cause = "TLS failed"
    elif isinstance(inner, OSError) and inner.strerror:
        cause = inner.strerror
    else:
        cause = "it does not answer as a portal does"
    return InlayError("portal_unreachable", portal=portal, cause=cause)
