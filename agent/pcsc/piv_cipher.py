"""The management key's arithmetic, for who holds it: single blocks (SP 800-73pt2-5, appendix A.1).

The agent doesn't hold a card's key: this is for a card's factory key, which everybody knows, and for tests.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agent.pcsc.piv_authenticate import Proof, Question
from agent.pcsc.piv_names import ManagementAlgorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.base import Cipher as CipherOf


def answer(key: bytes, question: Question) -> Proof:
    """Answer a card's question with its key.

    Args:
        key: `question.algorithm.key_bytes` bytes.
        question: the card's.

    Raises:
        ValueError: the key hasn't the algorithm's length.
    """
    cipher = _cipher(question.algorithm, key)
    if not question.mutual:
        return Proof(_encrypt(cipher, question.data))
    decryptor = cipher.decryptor()
    witness = decryptor.update(question.data) + decryptor.finalize()
    challenge = os.urandom(question.algorithm.block_bytes)
    expected = hashlib.sha256(_encrypt(cipher, challenge)).digest()
    return Proof(witness, challenge, expected)


def _cipher(algorithm: ManagementAlgorithm, key: bytes) -> CipherOf[modes.ECB]:
    if len(key) != algorithm.key_bytes:
        raise ValueError(len(key))
    kind = TripleDES(key) if algorithm is ManagementAlgorithm.TDES else algorithms.AES(key)
    return Cipher(kind, modes.ECB())  # noqa: S305 - one block, as the standard has it


def _encrypt(cipher: CipherOf[modes.ECB], block: bytes) -> bytes:
    encryptor = cipher.encryptor()
    return encryptor.update(block) + encryptor.finalize()
