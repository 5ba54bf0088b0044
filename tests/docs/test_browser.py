"""Pages in a real browser, desktop and phone, light and dark: axe finds nothing serious, all fits the screen.

Needs chromium (``apt-get install chromium``, or playwright's own) and the extra ``browser``: ``make optional``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from m2kt.packet import diff_packets
from m2kt.pipeline import Explanation
from m2kt.pipeline._explain import explanation_html
from m2kt.render import diff_page, packet_page
from tests.docs.walk import ROOT
from tests.packet.samples import sample_packet

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [pytest.mark.optional, pytest.mark.enable_socket]

SCREENS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our pages and the documentation, served."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    packet = sample_packet()
    path = packet.save(folder / "sample.m2kp")
    signed = type(packet).load(path)
    explanation = Explanation.model_validate_json((ROOT / "docs" / "pictures" / "answer.json").read_text())
    pages = {
        "our-inspect.html": packet_page(signed),
        "our-diff.html": diff_page(diff_packets(signed, signed), "a/very/long/path/to/one.packet", signed.digest),
        "our-explain.html": explanation_html(explanation),
    }
    for name, html in pages.items():
        (folder / name).write_text(html, encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no chromium: {error.message.splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.mark.parametrize(
    "name",
    [
        "our-inspect.html",
        "our-diff.html",
        "our-explain.html",
        "index.html",
        "tutorial.html",
        "howto.html",
        "concepts.html",
        "reference/cli.html",
        "reference/api.html",
    ],
)
def test_pages_are_accessible_and_fit(name: str, site: str, browser: Any) -> None:
    for scheme, width in SCREENS:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        fetched: list[str] = []
        page = context.new_page()
        page.on("request", lambda request, urls=fetched: urls.append(request.url))
        page.goto(f"{site}/{name}")
        page.wait_for_timeout(300)  # the theme's script wraps tables
        violations = axe.Axe().run(page).response["violations"]
        serious = {v["id"]: v["nodes"][0]["html"] for v in violations if v["impact"] in ("serious", "critical")}
        assert not serious, (scheme, width, serious)
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), (scheme, width)
        assert all(url.startswith((site, "data:")) for url in fetched), fetched
        context.close()


def test_axe_would_find_a_fault(browser: Any, tmp_path: Path) -> None:
    page = browser.new_page()
    page.set_content("<html><body><img src='data:,'><p style='color:#ccc;background:#fff'>pale</p></body></html>")
    found = {violation["id"] for violation in axe.Axe().run(page).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found
