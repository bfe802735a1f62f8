"""The client: a URL -> the items of its response; a source of items -> the body of a request."""
