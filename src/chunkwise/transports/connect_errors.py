"""An aiohttp error -> one line that says which server cannot be reached, and why."""

import os

from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ClientConnectorSSLError


def why_no_connection(error: BaseException) -> str | None:
    """Return which server cannot be reached, and why; None for any other kind of error."""
    if isinstance(error, ClientConnectorCertificateError):
        return f"no TLS with {error.host}:{error.port}: {error.certificate_error}"
    if isinstance(error, ClientConnectorSSLError):
        return f"no TLS with {error.host}:{error.port}: {error.os_error}"
    if not isinstance(error, ClientConnectorError):
        return None
    number = error.os_error.errno or 0
    why = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return f"cannot connect to {error.host}:{error.port}: {why}"
