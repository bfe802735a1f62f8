"""What server and client share to move streams over HTTP and WebSocket."""
