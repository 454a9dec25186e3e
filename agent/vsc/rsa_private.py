"""The bare RSA private operation, by the OpenSSL that Python itself is linked with.

A PIV card does RSA without padding: the host pads (PKCS#1 v1.5, PSS) and removes it (SP 800-73pt2-5,
appendix A.4). `cryptography` offers no such operation, on purpose, and powers in Python neither are
constant in time nor fast. OpenSSL's own blinds its input and checks its CRT result, so it is called
directly: the same library that `ssl` and `hashlib` use, found through them.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
from typing import Final

_RSA_NO_PADDING: Final = 3


class RsaPrivateKey:
    """An RSA key loaded into OpenSSL; usable from one thread at a time."""

    def __init__(self, pkcs8: bytes, modulus: int) -> None:
        """Load a key.

        Args:
            pkcs8: PrivateKeyInfo, DER.
            modulus: n, to check the input against it.

        Raises:
            ValueError: not a key.
        """
        self._library = _openssl()
        self._modulus = modulus
        self.block_bytes = (modulus.bit_length() + 7) // 8
        buffer = ctypes.create_string_buffer(pkcs8, len(pkcs8))
        position = ctypes.c_void_p(ctypes.addressof(buffer))
        self._key = self._library.d2i_AutoPrivateKey(None, ctypes.byref(position), len(pkcs8))
        ctypes.memset(buffer, 0, len(pkcs8))
        if not self._key:
            self._library.ERR_clear_error()
            raise ValueError("not a private key")
        self._context = self._library.EVP_PKEY_CTX_new(self._key, None)
        if not self._context:
            raise MemoryError
        if not self._begin():
            raise ArithmeticError("OpenSSL refused the key")

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.EVP_PKEY_CTX_free(self._context)
        if getattr(self, "_key", None):
            self._library.EVP_PKEY_free(self._key)

    def private_operation(self, block: bytes) -> bytes:
        """Compute block^d mod n.

        Args:
            block: exactly `block_bytes` bytes, as a number below the modulus.

        Returns:
            `block_bytes` bytes.

        Raises:
            ValueError: another length, or not below the modulus.
        """
        if len(block) != self.block_bytes or int.from_bytes(block, "big") >= self._modulus:
            raise ValueError("block")
        library = self._library
        output = ctypes.create_string_buffer(self.block_bytes)
        length = ctypes.c_size_t(self.block_bytes)
        done = library.EVP_PKEY_decrypt(self._context, output, ctypes.byref(length), block, len(block)) > 0
        if not done or length.value != self.block_bytes:
            library.ERR_clear_error()
            self._begin()  # whatever a refusal has left of the one before
            raise ArithmeticError("OpenSSL refused the operation")
        return output.raw

    def _begin(self) -> bool:
        """Make the context ready; it serves one operation after the other."""
        return bool(
            self._library.EVP_PKEY_decrypt_init(self._context) > 0
            and self._library.EVP_PKEY_CTX_set_rsa_padding(self._context, _RSA_NO_PADDING) > 0
        )


@functools.cache
def _openssl() -> ctypes.CDLL:
    """The libcrypto in this process, with the signatures of what is used declared."""
    library = ctypes.CDLL(_ssl.__file__)  # a lookup in it reaches the libraries it is linked with
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures = {
        "d2i_AutoPrivateKey": (pointer, [pointer, pointer, ctypes.c_long]),
        "EVP_PKEY_free": (None, [pointer]),
        "EVP_PKEY_CTX_new": (pointer, [pointer, pointer]),
        "EVP_PKEY_CTX_free": (None, [pointer]),
        "EVP_PKEY_decrypt_init": (ctypes.c_int, [pointer]),
        "EVP_PKEY_CTX_set_rsa_padding": (ctypes.c_int, [pointer, ctypes.c_int]),
        "EVP_PKEY_decrypt": (ctypes.c_int, [pointer, pointer, pointer, ctypes.c_char_p, size]),
        "ERR_clear_error": (None, []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
