"""A real browser opens the most hostile page: no request leaves it, no script of others runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.report.html import render_html
from harness.report.index import index_page
from harness.report.page import (
    Bullets,
    Code,
    Figure,
    Heading,
    Link,
    Listing,
    Page,
    Paragraph,
    Reply,
    Section,
    SideBySide,
    Table,
)
from tests.harness.hostile_texts import PAYLOADS
from tests.harness.report.test_html_page import DRAWINGS, page_with

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt-get install chromium)"),
]


class Trap:
    """A server on this machine that remembers who came."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        trap = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                trap.visits.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


def attacks(address: str) -> list[str]:
    """What would visit the trap, or mark the page, if the page let it."""
    return [
        f"<script>document.documentElement.id='owned';fetch('{address}/script')</script>",
        f"<img src={address}/img onerror=\"document.documentElement.id='owned'\">",
        f"<iframe src='{address}/iframe'></iframe><object data='{address}/object'></object>",
        f"<link rel=stylesheet href={address}/css><style>@import '{address}/import';</style>",
        f"<svg onload=\"document.documentElement.id='owned'\"><image href='{address}/svg'/></svg>",
        f"</pre></code></td></table></style></script><img src={address}/closed>",
        f'" onload="document.documentElement.id=\'owned\'" style="background:url({address}/attribute)',
        f"<meta http-equiv=refresh content='0;url={address}/refresh'>",
        f"<body background={address}/body><base href={address}/>",
        f"![x]({address}/markdown) <audio src={address}/audio autoplay>",
        *PAYLOADS,
    ]


def opened(page: Path, profile: Path) -> str:
    """The page's elements as the browser has them after its scripts ran."""
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--no-first-run", "--virtual-time-budget=5000", f"--user-data-dir={profile}",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_no_request_leaves_and_no_script_runs(tmp_path: Path, trap: Trap) -> None:
    sections = [
        Section(f"Attack {place}", page_with(text[:5000]).sections[0].blocks)
        for place, text in enumerate(attacks(trap.address))
    ]
    page = tmp_path / "page.html"
    page.write_text(render_html(Page("page", "Hostile", [], sections), DRAWINGS))
    shown = opened(page, tmp_path / "profile")
    assert shown.count("<h2 ") == len(sections) == shown.count("</h2>")
    assert '<html lang="en">' in shown
    assert trap.visits == []


def test_the_trap_would_notice(tmp_path: Path, trap: Trap) -> None:
    page = tmp_path / "page.html"
    page.write_text(f'<html lang="en"><body>{"".join(attacks(trap.address)[:6])}')
    assert 'id="owned"' in opened(page, tmp_path / "profile")
    assert {"/script", "/img", "/iframe"} <= set(trap.visits)


def test_the_pages_own_script_sorts(tmp_path: Path) -> None:
    table = Table(["name", "value"], [["a", "2"], ["b", "10"], ["c", "-1"]], sortable=True)
    text = render_html(Page("page", "Sorted", [], [Section("One", [table])]))
    press = "document.querySelectorAll('th')[1].click()"
    digest = base64.b64encode(hashlib.sha256(press.encode()).digest()).decode()
    page = tmp_path / "page.html"
    page.write_text(
        text.replace("script-src ", f"script-src 'sha256-{digest}' ").replace(
            "</body>", f"<script>{press}</script></body>"
        )
    )
    shown = opened(page, tmp_path / "profile")
    assert shown.index(">-1<") < shown.index(">2<") < shown.index(">10<")
    assert 'aria-sort="ascending"' in shown


# Tells the frame around it what is wider than its box: the page as a whole, a table that has to be scrolled.
MEASURE = """
const wide = [document.documentElement, ...document.querySelectorAll(".table")];
const over = wide.filter(box => box.scrollWidth > box.clientWidth).map(box => box.className || "page");
parent.postMessage(`over: ${[...new Set(over)]}.`, "*");
"""


def sticking_out(text: str, folder: Path, *, width: int) -> str:
    """What of a page is wider than a frame of `width` pixels: `page`, `table`, both, or nothing."""
    digest = base64.b64encode(hashlib.sha256(MEASURE.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ")
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{MEASURE}</script></body>"))
    frame = folder / "frame.html"
    frame.write_text(
        "<title></title><script>addEventListener('message', event => { document.title = event.data })</script>"
        f'<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe>'
    )
    found = re.search(r"<title>over: (.*)\.</title>", opened(frame, folder / f"profile-{width}"))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("width", [400, 1300])
def test_the_longest_names_that_a_config_allows_stay_on_the_page(tmp_path: Path, width: int) -> None:
    name = "n" * 64
    blocks = [
        Paragraph(f"{name} against {name}"),
        Paragraph((Code(name), " and ", Link(name, name))),
        Heading(name),
        Bullets([name, Code(name)]),
        Table(["model", "value"], [[name, "1"]], caption=name),
        Figure("drawing", name, name, dict),  # type: ignore[arg-type]
        SideBySide([Reply(Code(name), Listing(name * 20))] * 2),
    ]
    drawings = {"drawing": next(iter(DRAWINGS.values()))}
    sections = [Section(f"{name} {place}", blocks) for place in range(3)]
    page = Page("page", f"{name}: {name} against {name}", [(name, name)], sections)
    over = sticking_out(render_html(page, drawings), tmp_path, width=width)
    assert over == ("table" if width == 400 else "")


def test_an_index_of_long_names_needs_no_scrolling_on_a_wide_screen(tmp_path: Path) -> None:
    reports = Path(__file__).parents[3] / "reports"
    shutil.copytree(reports, tmp_path / "reports")
    for path in (tmp_path / "reports").glob("*/entry.json"):
        entry = json.loads(path.read_text())
        name = path.parent.name.ljust(64, "n")
        entry["verdict"] |= {"outcome": "o" * 64, "compare": ["o" * 64, "sft-dpo"]}
        path.write_text(json.dumps(entry | {"comparison": name}))
        path.parent.rename(tmp_path / "reports" / name)
        for suffix in (".md", ".html"):
            (tmp_path / "reports" / f"{name}{suffix}").touch()
    for folder in (reports, tmp_path / "reports"):
        text = render_html(index_page(folder))
        assert text.count("<tr><td") == len(list(folder.glob("*/entry.json")))
        assert sticking_out(text, tmp_path, width=1300) == ""
        shutil.rmtree(tmp_path / "profile-1300")
