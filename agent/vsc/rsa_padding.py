"""RSA padding on the host's side: the card does the bare operation (SP 800-73pt2-5, appendix A.4)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_DIGEST: Final = 32
# DigestInfo of SHA-256 without the digest (RFC 8017, section 9.2, note 1)
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")


def pkcs1_block(digest: bytes, length: int) -> bytes:
    """EMSA-PKCS1-v1_5 of a SHA-256 digest (RFC 8017, section 9.2).

    Args:
        digest: 32 bytes.
        length: bytes of the modulus, and of the block.
    """
    info = _SHA256_INFO + digest
    return b"\x00\x01" + b"\xff" * (length - 3 - len(info)) + b"\x00" + info


def oaep_plain(block: bytes) -> bytes | None:
    """EME-OAEP decoding of a decrypted block with SHA-256 and an empty label (RFC 8017, section 7.1.2).

    It runs once for each order, so an oracle would have nobody to ask it.

    Returns:
        What was encrypted, or None when the block isn't of that form.
    """
    masked_seed, masked = block[1 : 1 + _DIGEST], block[1 + _DIGEST :]
    seed = _xor(masked_seed, _mgf1(masked, _DIGEST))
    data = _xor(masked, _mgf1(seed, len(masked)))
    padding, separator, plain = data[_DIGEST:].partition(b"\x01")
    good = block[:1] == b"\0" and hmac.compare_digest(data[:_DIGEST], hashlib.sha256().digest())
    return plain if good and separator and not padding.strip(b"\0") else None


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = range(-(-length // _DIGEST))
    return b"".join(hashlib.sha256(seed + index.to_bytes(4, "big")).digest() for index in blocks)[:length]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
