"""Fixtures for tests of the server."""

import pytest

from chunkwise.server import websocket_inbox


@pytest.fixture
def short_unread_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that ignores the messages of a client which has left is closed after a moment, and not after seconds."""
    monkeypatch.setattr(websocket_inbox, "_UNEXPECTED_SECONDS", 0.3)
