"""The client's half: a URL in, the items of its response out; and a source of items in, a request's body out."""
