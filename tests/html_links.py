"""The text of an HTML page -> the addresses of its links."""

from html.parser import HTMLParser


def links_of(page: str) -> list[str]:
    """Return the addresses in the order of the page."""
    links = _Links()
    links.feed(page)
    return links.found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if (tag, name) == ("a", "href")]
