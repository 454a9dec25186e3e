"""What every table is made of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase

Id = String(64)
Word = String(64)
Hash = String(64)
"""SHA-256 in hexadecimal."""


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {int: BigInteger, dict[str, Any]: JSON, list[str]: JSON, bytes: LargeBinary}  # noqa: RUF012
