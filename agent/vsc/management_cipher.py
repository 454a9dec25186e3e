"""The management key's block ciphers: single blocks, as SP 800-73pt2-5, appendix A.1, uses them."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agent.vsc.commands import ManagementAlgorithm

_DES_KEY: Final = 8


def encrypt_block(algorithm: ManagementAlgorithm, key: bytes, block: bytes) -> bytes:
    """Encrypt one block without a chaining mode.

    Args:
        algorithm: the key's.
        key: `algorithm.key_bytes` bytes.
        block: `algorithm.block_bytes` bytes.
    """
    cipher = TripleDES(key) if algorithm is ManagementAlgorithm.TDES else algorithms.AES(key)
    encryptor = Cipher(cipher, modes.ECB()).encryptor()  # noqa: S305 - one block, as the standard has it
    return encryptor.update(block) + encryptor.finalize()


def is_degenerate(algorithm: ManagementAlgorithm, key: bytes) -> bool:
    """Whether a 3DES key has equal neighbours, which makes it single DES (SP 800-67r2, section 3.2)."""
    if algorithm is not ManagementAlgorithm.TDES:
        return False
    one, two, three = (_without_parity(key[at : at + _DES_KEY]) for at in (0, 8, 16))
    return one == two or two == three


def _without_parity(key: bytes) -> bytes:
    return bytes(byte & 0xFE for byte in key)
