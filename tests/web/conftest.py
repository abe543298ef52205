"""The live page and the report, and a real browser for them: Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import WatchedPage
from helpers.live_servers import file_server
from helpers.paths import SAMPLE
from helpers.report import START_S
from helpers.waiting import wait_until

if TYPE_CHECKING:
    from helpers.page import FedPage


@pytest.fixture(scope="session")
def browser():
    """Chromium. Skip the test if it or Playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("FER_STREAM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("needs Chromium, Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found,
            args=[
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def watched(browser) -> Iterator[WatchedPage]:
    """An empty page that records its requests and errors. Errors that are left over fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = WatchedPage(context.new_page())
    yield page
    context.close()
    assert page.complaints == []


@pytest.fixture(scope="module")
def report_folder(tmp_path_factory, analyzer) -> Path:
    """A folder with a part of the sample clip, its report and its subtitles."""
    from fer_stream.pipeline import run
    from fer_stream.rendering.overlay import Overlay
    from fer_stream.sinks import EpisodesSink, ReportSink, VideoSink
    from fer_stream.sources import open_source

    folder = tmp_path_factory.mktemp("report")
    with open_source(SAMPLE, start_s=START_S) as source:
        sinks = [
            VideoSink(folder / "the clip #1.mp4", source.info),
            ReportSink(folder / "report.html", source.info),
            EpisodesSink(folder / "episodes.vtt", source.info),
        ]
        run(source, analyzer, Overlay(), sinks)
    return folder


@pytest.fixture
def report(watched, report_folder) -> Iterator[WatchedPage]:
    """The browser at the report. It may load nothing but the video."""
    watched.goto((report_folder / "report.html").as_uri())
    watched.wait_for_selector("html[data-ready]")
    watched.until("() => document.querySelector('video').readyState >= 2")
    yield watched
    assert watched.hosts == {"file://"}
    assert {Path(address).name for address in watched.requested} <= {"report.html", "the%20clip%20%231.mp4"}


@pytest.fixture(scope="module")
def served_report(report_folder: Path) -> Iterator[str]:
    """The folder over HTTP, because browsers do not load subtitles from files."""
    with file_server(report_folder) as address:
        yield address


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[FedPage]:
    """A live page of the test's own."""
    from helpers.page import FedPage  # needs the extra web

    with FedPage(tmp_path) as page:
        yield page


@pytest.fixture
def live(watched, fed) -> Iterator[WatchedPage]:
    """The browser at the live page. It may load nothing from elsewhere."""
    watched.goto(fed.sink.address)
    watched.wait_for_selector("#state[data-state=running]")
    yield watched
    assert watched.hosts == {fed.base}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[FedPage]:
    """A live page for tests that do not end it."""
    from helpers.page import FedPage  # needs the extra web

    with FedPage(tmp_path_factory.mktemp("page")) as fed:
        wait_until(lambda: fed.written > 2)
        yield fed
