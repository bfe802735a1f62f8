"""aiohttp's error that there is no connection -> a line for people.

Must not know what was to come over it.
"""

from __future__ import annotations

import os

from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ClientConnectorSSLError


def why_no_connection(error: BaseException) -> str | None:
    """Return who cannot be connected to, and why; None for an error of any other kind."""
    if isinstance(error, ClientConnectorCertificateError):
        return f"no TLS with {error.host}:{error.port}: {error.certificate_error}"
    if isinstance(error, ClientConnectorSSLError):
        return f"no TLS with {error.host}:{error.port}: {error.os_error}"
    if not isinstance(error, ClientConnectorError):
        return None
    number = error.os_error.errno or 0
    why = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return f"cannot connect to {error.host}:{error.port}: {why}"
