"""What a log keeps of an exception: kinds and places, never a text."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import TYPE_CHECKING

import pytest

from protocol.traces import RedactingFormatter, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "PIN 123456"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler with the formatter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def _fail() -> None:
    try:
        int(SECRET)
    except ValueError:
        raise KeyError(SECRET) from None


def _caught() -> BaseException:
    try:
        try:
            _fail()
        except KeyError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        return error
    raise AssertionError


def test_kinds_and_places() -> None:
    """Where it was raised, and what it came from; what was hidden on purpose stays hidden."""
    text = describe(_caught())
    assert text.startswith("builtins.RuntimeError at _caught:")
    assert "; from builtins.KeyError at _fail:" in text
    assert "ValueError" not in text
    assert SECRET not in text
    assert describe(ValueError(SECRET)) == "builtins.ValueError at nowhere"


def test_a_long_chain_is_cut() -> None:
    """A log line has an end."""
    error: BaseException = ValueError("0")
    for number in range(30):
        after = ValueError(str(number))
        after.__cause__, error = error, after
    assert describe(error).count("ValueError") == 4


def test_exceptions_that_libraries_log(written: io.StringIO) -> None:
    """The line without the text, also where another handler has kept it."""
    try:
        raise _caught()
    except RuntimeError:
        logging.getLogger("library").exception("failed")
    assert "ERROR library: failed\nbuiltins.RuntimeError at " in written.getvalue()
    assert SECRET not in written.getvalue()


async def test_a_task_whose_exception_nobody_took(written: io.StringIO) -> None:
    """asyncio writes the task's representation, which holds its exception."""

    async def fail() -> None:
        raise ValueError(SECRET)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    context = {
        "message": "Task exception was never retrieved",
        "exception": task.exception(),
        "future": task,
    }
    asyncio.get_running_loop().default_exception_handler(context)
    assert "ERROR asyncio: Task exception was never retrieved\n" in written.getvalue()
    assert "builtins.ValueError at fail:" in written.getvalue()
    assert SECRET not in written.getvalue()
