"""Fixtures for tests of the server."""

import pytest

from chunkwise.server import websocket_inbox


@pytest.fixture
def short_unread_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time after which a source is closed that does not read the messages of a client that has left."""
    monkeypatch.setattr(websocket_inbox, "_UNEXPECTED_SECONDS", 0.3)
