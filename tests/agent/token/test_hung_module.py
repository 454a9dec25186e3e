"""What tests have of a module that hangs: the time of that call is over at once, and of no other."""

from __future__ import annotations

import pytest

from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_process import CALL_SECONDS
from protocol.errors import InlayError
from tests.support.hung_module import no_patience
from tests.support.token_readers import TokenReaders


@pytest.mark.parametrize("what", ["hang", "late"])
async def test_a_call_that_hangs_has_had_the_agents_own_time(
    readers: TokenReaders, serial: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert readers.module is not None
    driver = Driver(readers.module)
    async with no_patience(readers, monkeypatch):
        readers.count_calls(1, what)
        with pytest.raises(InlayError) as caught:
            await driver.tokens()
        assert (caught.value.code, caught.value.fields["seconds"]) == ("pkcs11_module_hung", CALL_SECONDS)
        assert serial in [token.serial for token in await driver.tokens()]
        assert readers.calls[0] == readers.calls[1]  # what hung, and the same in another process
    await driver.close()
