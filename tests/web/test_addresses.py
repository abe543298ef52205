"""The address of the page: a host that can't be one is one line."""

from __future__ import annotations

import pytest

from fer_stream.errors import OutputError
from fer_stream.web.addresses import listen


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 70])
def test_an_invalid_host_is_one_line(host: str) -> None:
    with pytest.raises(OutputError, match="not known"):
        listen(host, 0)
