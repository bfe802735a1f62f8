"""One line of text for a connection error of aiohttp. The line names the server and the reason."""

import os

from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ClientConnectorSSLError


def why_no_connection(error: BaseException) -> str | None:
    """Return a line that names the server that cannot be reached and the reason; None for any other kind of error."""
    if isinstance(error, ClientConnectorCertificateError):
        return f"the TLS handshake with {error.host}:{error.port} failed: {error.certificate_error}"
    if isinstance(error, ClientConnectorSSLError):
        return f"the TLS handshake with {error.host}:{error.port} failed: {error.os_error}"
    if not isinstance(error, ClientConnectorError):
        return None
    number = error.os_error.errno or 0
    why = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return f"cannot connect to {error.host}:{error.port}: {why}"
