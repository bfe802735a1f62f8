"""Both twins of the scanner: what a file of tests says of formats, it says with each of them."""

from collections.abc import Iterator

import pytest

from chunkwise.formats import events, json_document, json_records, scanner_pure

SCANNER_USERS = (events, json_document, json_records)


@pytest.fixture(params=["compiled", "pure"], scope="module")
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """The scanner that decoders made in this file's tests have."""
    if request.param == "pure":
        scanner: type[scanner_pure.Scanner] = scanner_pure.Scanner
    else:
        compiled = pytest.importorskip("chunkwise.formats.scanner_compiled", reason="built without a compiler")
        scanner = compiled.Scanner
    with pytest.MonkeyPatch.context() as patch:
        for module in SCANNER_USERS:
            patch.setattr(module, "Scanner", scanner)
        yield
