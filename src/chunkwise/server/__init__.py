"""The server's half: a request and a source of items in, a streamed response out."""
