"""After the site is built: no page may fetch anything from the internet. Plain links are fine. A hook of mkdocs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_FETCHED = {"src", "srcset", "href", "data", "poster", "action"}
_OUTSIDE = re.compile(r"\s*(?:https?:)?//", re.I)
_IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.I)


class _References(HTMLParser):
    """Everything outside that a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            is_link = tag == "a" and name == "href"
            if name in _FETCHED and not is_link and _OUTSIDE.match(value or ""):
                self.found.append(f"<{tag} {name}={value}>")
            elif name == "style":
                self.found += _IN_STYLE.findall(value or "")

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<style>":
            self.found += _IN_STYLE.findall(data)


def outside(text: str) -> list[str]:
    """What a page of HTML fetches from elsewhere."""
    parser = _References()
    parser.feed(text)
    return parser.found


def fetched(site: Path) -> Iterator[str]:
    """The same for all pages and style sheets of a site, led by the file."""
    for file in sorted(site.rglob("*.html")):
        yield from (f"{file.relative_to(site)}: {found}" for found in outside(file.read_text()))
    for file in sorted(site.rglob("*.css")):
        yield from (f"{file.relative_to(site)}: {found}" for found in _IN_STYLE.findall(file.read_text()))


def on_post_build(config: Any) -> None:
    if found := list(fetched(Path(config["site_dir"]))):
        raise SystemExit("the site fetches from the internet: " + "; ".join(found))
