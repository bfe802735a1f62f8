"""Both twins of what is compiled: what a file of tests says of formats, it says with each of them."""

from collections.abc import Iterator

import pytest

from chunkwise.formats import events, json_document, sse
from chunkwise.formats.parsing import json_records, json_values, utf8
from chunkwise.formats.parsing import scanner as scanner_pure
from chunkwise.formats.speedups import encoded_pure, sse_pure, utf8_pure

SCANNER_USERS = (events, json_document, json_records)


@pytest.fixture(params=["compiled", "pure"], scope="module")
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """What decoders that are made in this file's tests have."""
    scanner, blocks, text, encoded = scanner_pure, sse_pure, utf8_pure, encoded_pure
    if request.param == "compiled":
        scanner, blocks, text, encoded = (
            pytest.importorskip(f"chunkwise.formats.speedups.{name}_compiled", reason="built without a compiler")
            for name in ("scanner", "sse", "utf8", "encoded")
        )
    with pytest.MonkeyPatch.context() as patch:
        for module in SCANNER_USERS:
            patch.setattr(module, "Scanner", scanner.Scanner)
        patch.setattr(sse, "event_texts", blocks.event_texts)
        patch.setattr(json_values, "holds_null", encoded.holds_null)
        patch.setattr(json_values, "line_ends", encoded.line_ends)
        for user in (sse, utf8):
            patch.setattr(user, "whole_bytes", text.whole_bytes)
        yield
