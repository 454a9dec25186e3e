"""The GUID that stands for a token: fixed values, and what may not run together."""

from __future__ import annotations

from protocol.tokens import names_of, token_guid


def test_a_serial_number_has_the_guid_that_the_specification_says() -> None:
    assert token_guid("ec66695e41d9e119") == "89f87b7951d1072b13cae0759f80ce65"
    assert token_guid("ec66695e41d9e119", "SoftHSM project") == "ecc0bf4e5c6ac5c5c7aec368beaf34a7"


def test_a_token_without_a_serial_number_has_no_name() -> None:
    assert names_of("", "SoftHSM project") == frozenset()


def test_no_two_tokens_share_a_name() -> None:
    names = [
        token_guid("1", "A1"),
        token_guid("11", "A"),
        token_guid("A11"),
        token_guid("1"),
        token_guid("11"),
    ]
    assert len(set(names)) == len(names)
