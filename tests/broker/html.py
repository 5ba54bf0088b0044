"""Parsed HTML pages, and checks that every page of a broker must pass."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2

VOID = frozenset({"meta", "link", "img", "input", "br", "hr", "path", "rect", "circle", "use", "image"})
ADDRESSES = ("href", "src", "action", "srcset", "data", "formaction", "poster", "xlink:href")


@dataclass
class Element:
    """A tag with its attributes and text content."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page in document order; parsing fails on wrongly nested tags."""

    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, *tags: str, **attributes: str) -> list[Element]:
        """Elements with one of these tags and all of these attributes; ``class_`` names one class."""
        class_name = attributes.pop("class_", None)
        return [
            e
            for e in self.elements
            if e.tag in tags
            and all(e.attributes.get(k.replace("_", "-")) == v for k, v in attributes.items())
            and (class_name is None or class_name in e.attributes.get("class", "").split())
        ]

    @property
    def text(self) -> str:
        """The text content with normalised white space."""
        return " ".join(self.all("body")[0].text.split())


def read_page(answer: httpx2.Response, status: int = 200) -> Page:
    """Parse a page and run the checks of all pages."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page()
    page.feed(answer.text)
    page.close()
    assert page._open == []
    _resolve(page, str(answer.url))
    _check_policy(answer, page)
    _check_accessibility(page)
    return page


def _resolve(page: Page, url: str) -> None:
    """Make addresses absolute paths. As written they are relative, so that links work below a sub-path."""
    for element in page.elements:
        for name in ADDRESSES:
            address = element.attributes.get(name)
            if address is not None and not address.startswith(("#", "data:")):
                assert not address.startswith("/") and "//" not in address.split("?")[0], (element.tag, address)
                element.attributes[name] = urljoin(url, address).removeprefix(urljoin(url, "/")[:-1])


def _check_policy(answer: httpx2.Response, page: Page) -> None:
    """The page has no script and no foreign reference, and its policy forbids them."""
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    (style,) = page.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy["default-src"] == "'none'" and policy["style-src"] == f"'self' 'sha256-{digest}'"
    assert "script-src" not in policy and policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not {"script", "iframe", "object", "embed", "base"} & {e.tag for e in page.elements}
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"], element
        for name in ADDRESSES:
            address = element.attributes.get(name, "#")
            assert re.match(r"[#]|/(?!/)|data:image/png;base64,", address), (element.tag, address)


def _check_accessibility(page: Page) -> None:
    """Accessibility that needs no browser: language, landmarks, heading levels, names of controls and links."""
    assert page.all("html", lang="en") and page.all("meta", name="viewport")
    (title,) = [e for e in page.all("title") if "Knowledge Broker" in e.text]
    assert title.text.split("·")[0].strip()
    for landmark in ("main", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    assert page.all("a", class_="skip", href="#content") and page.all("main", id="content")
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
    assert all(e.text.strip() for e in page.all("h1", "h2", "h3", "h4", "th", "label", "button", "summary"))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    labelled = {e.attributes["for"] for e in page.all("label")}
    for control in page.all("input", "select", "textarea"):
        assert control.attributes.get("type") == "hidden" or control.attributes["id"] in labelled
    for element in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "for", "list"):
            assert element.attributes.get(name, ids[0]) in ids, (element.tag, name)
        if element.attributes.get("href", "").startswith("#"):
            assert element.attributes["href"][1:] in ids
        if element.attributes.get("role") in ("img", "group") or element.tag == "nav":
            assert element.attributes["aria-label"].strip()
    assert all(e.text.strip() or e.attributes.get("aria-label") for e in page.all("a"))
    assert all("alt" in e.attributes for e in page.all("img"))
    assert all(e.attributes.get("scope") in ("col", "row") for e in page.all("th"))
