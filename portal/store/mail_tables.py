"""The tables of mails: what waits to be sent, and which cards' holders were told of the end of their days."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from portal.store.base import Base, Id, Word


class Mail(Base):
    """A mail that wasn't sent yet, or that can't be; a mail that was sent is gone, and the audit log tells of it."""

    __tablename__ = "mails"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    message_id: Mapped[str] = mapped_column(String(254), unique=True)
    """RFC 5322, section 3.6.4; the same at every try"""
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    address: Mapped[str] = mapped_column(String(254))
    kind: Mapped[str] = mapped_column(Word)
    """``card_pin``, ``card_puk`` or ``card_expiry``"""
    about_kind: Mapped[str] = mapped_column(Word)
    about_id: Mapped[str] = mapped_column(Id, index=True)
    subject: Mapped[str] = mapped_column(String(200))
    secret: Mapped[bool]
    plain: Mapped[str | None] = mapped_column(Text)
    """the text of a mail without a secret"""
    sealed: Mapped[bytes | None]
    """the text of a mail with one; None once it is erased"""
    state: Mapped[str] = mapped_column(Word)
    """``waiting`` or ``refused``"""
    tries: Mapped[int]
    last_error: Mapped[str | None] = mapped_column(Word)
    """of the last try; see ``portal.mail.smtp``"""
    next_try_at: Mapped[int] = mapped_column(index=True)
    until: Mapped[int | None]
    """when it says nothing any more that is worth sending; None once its text is erased"""
    created_at: Mapped[int]


class ExpiryNotice(Base):
    """Of which day its holder was told last that a card's days are nearly over."""

    __tablename__ = "expiry_notices"
    card_id: Mapped[str] = mapped_column(ForeignKey("cards.id"), primary_key=True)
    valid_until: Mapped[int]
    """the end that was told; after an extension it is another one, and counting begins anew"""
    days_before: Mapped[int]
    mailed_at: Mapped[int]
