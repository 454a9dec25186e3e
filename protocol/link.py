"""The link that opens Inlay: ``inlay:PORTAL/CODE``, and nothing else.

Standard library only, and little of it: this module is on the path between a click and the agent.

A link names a portal (the host, and the port where it isn't 443, of the portal's origin) and hands over a
code. It can't name an address to dial, a path, a command or a flag: the agent looks the portal's name up in
its own trust store and takes the address from there (SPEC.md, "Link").
"""

from __future__ import annotations

SCHEME = "inlay"
MAX_LINK_BYTES = 320
CODE_LENGTH = 22
"""128 bits in base64url without padding."""
TYPED_CODE_LENGTH = 10
"""50 bits in Crockford's base 32, for a person to type."""

_CODE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_CROCKFORD = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_LOOKS_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})

_EXPLANATIONS = {
    "link_too_long": "The link is longer than any link a portal makes.",
    "link_wrong_scheme": "The link does not begin with inlay:.",
    "link_malformed": "The link holds something other than a portal's name and a code.",
    "link_bad_portal": "The link does not name a portal as host or host:port.",
    "link_bad_code": "The link's code is not one that a portal makes.",
}


class LinkError(Exception):
    """A link that isn't one.

    Attributes:
        cause: the error's code, one of the ``link_…`` codes of ``protocol.errors``.
        explanation: one sentence for a person; never holds any part of the link.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.explanation = _EXPLANATIONS[cause]

    def __str__(self) -> str:
        return self.explanation


class Link:
    """A parsed link.

    Attributes:
        portal: portal id, for example ``portal.example.com`` or ``portal.test:8443``.
        code: the one-time code, 22 base64url characters.
    """

    __slots__ = ("code", "portal")

    def __init__(self, portal: str, code: str) -> None:
        self.portal = portal
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and (self.portal, self.code) == (other.portal, other.code)

    def __hash__(self) -> int:
        return hash((self.portal, self.code))

    def __repr__(self) -> str:
        return f"Link(portal={self.portal!r}, code=…)"


def parse(text: str) -> Link:
    """Parse a link as a browser hands it over.

    Args:
        text: the whole link; at most 320 bytes.

    Returns:
        The portal's id and the code.

    Raises:
        LinkError: the text is anything but ``inlay:PORTAL/CODE``.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_LINK_BYTES:
        raise LinkError("link_too_long")
    scheme, colon, rest = text.partition(":")
    if not colon or not scheme.isascii() or scheme.lower() != SCHEME:
        raise LinkError("link_wrong_scheme")
    portal, slash, code = rest.partition("/")
    if not slash or "/" in code or not portal or not code:
        raise LinkError("link_malformed")
    if not is_portal_id(portal):
        raise LinkError("link_bad_portal")
    if not is_code(code):
        raise LinkError("link_bad_code")
    return Link(portal, code)


def build(portal: str, code: str) -> str:
    """Build the link for a page.

    Raises:
        LinkError: the portal id or the code isn't well formed.
    """
    link = f"{SCHEME}:{portal}/{code}"
    parse(link)
    return link


def is_code(text: str) -> bool:
    """Tell whether a text has the form of a link's code."""
    return len(text) == CODE_LENGTH and _CODE_CHARACTERS.issuperset(text)


def is_portal_id(text: str) -> bool:
    """Tell whether a text is a portal id: lower-case ASCII host (punycode for others), optional port.

    Only one spelling of each portal is a portal id: no upper case, no leading zeros in the port, no default
    port 443, no trailing dot, no user name, no IPv6 literal.
    """
    host, colon, port = text.partition(":")
    if colon:
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        if not digits or port[0] == "0" or not 0 < int(port) < 65536 or port == "443":
            return False
    if not host or len(host) > 253:
        return False
    return all(_is_label(label) for label in host.split("."))


def _is_label(label: str) -> bool:
    return (
        0 < len(label) <= 63
        and _HOST_CHARACTERS.issuperset(label)
        and not label.startswith("-")
        and not label.endswith("-")
    )


def normalise_typed_code(text: str) -> str:
    """Bring a code typed by a person into its one form.

    Spaces and hyphens are dropped, lower case is raised, O is read as 0, I and L as 1 (Crockford's base 32).

    Returns:
        Ten characters.

    Raises:
        LinkError: ``link_bad_code``.
    """
    if len(text) > 64:
        raise LinkError("link_bad_code")
    plain = text.replace(" ", "").replace("-", "").upper().translate(_LOOKS_ALIKE)
    if len(plain) != TYPED_CODE_LENGTH or not _CROCKFORD.issuperset(plain):
        raise LinkError("link_bad_code")
    return plain
