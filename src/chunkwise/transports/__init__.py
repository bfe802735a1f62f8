"""HTTP and WebSocket code that the server and the client share."""
