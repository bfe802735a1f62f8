"""The server: a request and a source of items -> a streamed response."""
