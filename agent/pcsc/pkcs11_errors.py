"""What a PKCS#11 module may answer, and what it means: one table from its numbers to the rows of the error table.

Numbers: PKCS#11 v3.1, section 4.12 and the header's CKR_ constants. What isn't listed is ``pkcs11_failed`` with number
and function, for support.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import InlayError, placeholders

_CODES: Final[dict[int, str]] = {
    0x30: "pkcs11_device",  # CKR_DEVICE_ERROR
    0x31: "card_full",  # CKR_DEVICE_MEMORY
    0x32: "pcsc_card_removed",  # CKR_DEVICE_REMOVED
    0x50: "pad_cancelled",  # CKR_FUNCTION_CANCELED: at the reader's pad
    0x54: "card_feature_missing",  # CKR_FUNCTION_NOT_SUPPORTED
    0x62: "card_algorithm_missing",  # CKR_KEY_SIZE_RANGE
    0x70: "card_algorithm_missing",  # CKR_MECHANISM_INVALID
    0x71: "card_algorithm_missing",  # CKR_MECHANISM_PARAM_INVALID
    0x140: "card_algorithm_missing",  # CKR_CURVE_NOT_SUPPORTED
    0xA0: "pkcs11_pin_wrong",  # CKR_PIN_INCORRECT
    0xA1: "card_pin_form",  # CKR_PIN_INVALID
    0xA2: "card_pin_form",  # CKR_PIN_LEN_RANGE
    0xA3: "pkcs11_pin_expired",  # CKR_PIN_EXPIRED
    0xA4: "card_pin_blocked",  # CKR_PIN_LOCKED
    0xB0: "pcsc_card_removed",  # CKR_SESSION_CLOSED
    0xB6: "pcsc_sharing",  # CKR_SESSION_EXISTS: C_InitToken while another program has one
    0xB3: "pcsc_card_removed",  # CKR_SESSION_HANDLE_INVALID
    0xE0: "pcsc_card_removed",  # CKR_TOKEN_NOT_PRESENT
    0xE1: "pkcs11_foreign_token",  # CKR_TOKEN_NOT_RECOGNIZED
    0xE2: "pkcs11_write_protected",  # CKR_TOKEN_WRITE_PROTECTED
    0x101: "card_pin_needed",  # CKR_USER_NOT_LOGGED_IN
    0x102: "pkcs11_pin_not_set",  # CKR_USER_PIN_NOT_INITIALIZED
}


def error_of(call: str, number: int, **known: str | int) -> InlayError:
    """The error for a module's refusal.

    Args:
        call: the function that was refused.
        number: its answer.
        known: what the error's text may need besides: ``module``, ``algorithm``, ``left``.
    """
    code = _CODES.get(number, "pkcs11_failed")
    fields = {**known, "call": call, "command": call, "number": f"0x{number:X}"}
    return InlayError(code, **{name: fields[name] for name in placeholders(code) if name in fields})
