"""The live page in a real browser."""

from __future__ import annotations

import time

import pytest
from helpers.browser import has_color
from helpers.page import FedPage
from helpers.waiting import wait_until

from fer_stream.words import clock_text

pytest.importorskip("uvicorn", reason="needs the extra web: pip install '.[web]'")

RUNNING = "#state[data-state=running]"
BRIGHTNESS = """() => {
    const picture = document.getElementById("picture");
    if (!picture.naturalWidth) return null;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0, 1, 1);
    return pen.getImageData(0, 0, 1, 1).data[0];
}"""

CHART_AXIS = """async ([live, nowS]) => {
    const { Chart } = await import("/static/chart.js");
    const [holder, people, legend, heading] = [make("div"), make("div"), make("ul"), make("h2")];
    document.body.append(holder);
    const chart = new Chart(holder, people, legend, heading);
    chart.setLive(live);
    for (const time_s of [0, nowS]) chart.add({ time_s, faces: [{ face_id: 1 }] });
    chart.draw();
    await new Promise(requestAnimationFrame);
    return [chart.plot.scales.x.min, chart.plot.scales.x.max];
}"""


def test_the_page_shows_moving_pictures_and_bars(live, fed):
    assert live.page.url == f"{fed.base}/"  # the token is not in the address any more
    live.wait_for_selector("#picture:not([hidden])")
    seen, bars = set(), set()
    bar = live.locator(".card .bar-fill.fill-happy").first

    def moves() -> bool:
        seen.add(live.evaluate(BRIGHTNESS))
        bars.add(bar.evaluate("(bar) => bar.style.transform"))
        return len(seen - {None}) >= 3 and len(bars) >= 3

    wait_until(moves)
    assert live.locator(".card").count() == 2
    for place, words in ((".card >> nth=0", ("Person 1", "happy")), ("#numbers", ("frames/s", "12 ms"))):
        live.wait_for_selector(place)
        wait_until(lambda place=place, words=words: all(word in live.text_content(place) for word in words))
    assert live.locator("#chart canvas").count() == 1


def test_the_legend_looks_like_the_curves(live):
    sample = live.locator("#legend li", has_text="happy").locator("line")
    stroke = sample.evaluate("(line) => getComputedStyle(line).stroke")
    wait_until(lambda: has_color(live, "#chart canvas", stroke))


@pytest.mark.parametrize(
    ("is_live", "now_s", "shown_s"),
    [(True, 0, [0, 60]), (True, 20, [0, 60]), (True, 75, [15, 75]), (False, 20, [0, 20])],
)
def test_the_chart_of_a_live_source_grows_from_the_left_and_then_scrolls(live, is_live, now_s, shown_s):
    """The chart of a recording always shows everything so far."""
    assert live.evaluate(CHART_AXIS, [is_live, now_s]) == shown_s


def test_the_chart_offers_people_who_are_present_before_those_who_have_gone(live, fed):
    def shows_chips(*face_ids: int) -> bool:
        chips = live.locator("#chart-people button").all_text_contents()
        return chips == [f"Person {face_id}" for face_id in face_ids]

    fed.face_ids = range(1, 9)
    wait_until(lambda: shows_chips(*range(1, 9)))
    live.focus("#chart-people button:has-text('Person 8')")
    live.keyboard.press("Enter")
    fed.face_ids = (9, 20)
    wait_until(lambda: shows_chips(9, 20, 1, 2, 3, 4, 5, 6, 8))  # the six latest, and the selected person
    fed.face_ids = (20, 21)
    wait_until(lambda: shows_chips(20, 21, 9, 1, 2, 3, 4, 5, 8))
    assert live.text_content("#chart-people [aria-pressed=true]") == "Person 8"
    assert live.text_content("#chart-people :focus") == "Person 8"


@pytest.mark.parametrize("time_s", [0, 19.686, 0.5, 3599.7])
def test_the_page_shows_the_same_second_as_the_charts(live, time_s):
    shown = live.evaluate("async (time) => (await import('/static/chart.js')).clock(time)", time_s)
    assert shown == clock_text(time_s)


def test_buttons_make_a_still_and_a_recording_that_open(live, fed, tmp_path):
    live.click("#still")
    live.wait_for_selector("#toast:has-text('still saved')")
    live.locator("body").press("r")  # the same by keyboard
    live.wait_for_selector("#record[aria-pressed=true]")
    before = fed.written
    wait_until(lambda: fed.written > before + 20)
    live.click("#record")
    live.wait_for_selector("#toast:has-text('recording saved')")
    (still,), (video,) = tmp_path.glob("*.jpg"), tmp_path.glob("*.mp4")
    for path in (still, video):
        live.wait_for_selector(f"#files a:has-text('{path.name}')")
    href = live.get_attribute(f"#files a:has-text('{video.name}')", "href")
    player = live.page.context.new_page()
    player.goto(fed.base + href)
    player.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    assert player.evaluate("() => document.querySelector('video').duration") > 0.4
    player.goto(fed.base + live.get_attribute(f"#files a:has-text('{still.name}')", "href"))
    assert player.evaluate("() => document.querySelector('img').naturalWidth") == 64
    player.close()


def test_the_page_says_when_the_run_has_ended(live, fed, tmp_path):
    result = tmp_path / "table.csv"
    result.write_text("x")
    fed.files.append(result)
    fed.end()
    live.wait_for_selector("#state[data-state=ended]")
    assert live.text_content("#banner") == "The run has ended. Its files are listed below."
    assert live.is_disabled("#stop")
    assert "table.csv" in live.text_content("#files") and live.locator("#files a").count() == 0
    asked = len(live.requested)
    time.sleep(1.5)
    assert len(live.requested) == asked  # it requests nothing more


def test_the_page_reconnects_when_the_server_is_back(watched, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_STREAM_TOKEN", "one-token-for-both")
    with FedPage(tmp_path) as first:
        port = first.port
        watched.goto(first.sink.address)
        watched.wait_for_selector(RUNNING)
        first.sink._server.stop()  # abruptly, like a killed process
        watched.wait_for_selector("#state[data-state=lost]")
        assert "Trying again" in watched.text_content("#banner")
    with FedPage(tmp_path, port=port, faces=1):
        watched.wait_for_selector(RUNNING)
        watched.wait_for_selector(".card")
        assert watched.is_hidden("#banner")
    watched.complaints = [text for text in watched.complaints if "ERR_" not in text]


def test_a_lost_source_is_reported(live, fed):
    fed.silent = True
    live.wait_for_selector("#state[data-state=silent]")
    assert "reconnecting, attempt 1" in live.text_content("#banner")
    fed.silent = False
    live.wait_for_selector(RUNNING)


def test_stop_asks_first(live, fed):
    live.click("#stop")
    live.keyboard.press("Escape")
    time.sleep(0.2)
    assert not fed.sink.stop_requested
    live.click("#stop")
    live.click("#stop-yes")
    live.wait_for_selector("#state[data-state=ended]")
    assert fed.sink.stop_requested


def test_a_hidden_page_requests_nothing(live, fed):
    wait_until(lambda: fed.sink._hub.images.readers == 1)
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    live.evaluate(hide, True)
    wait_until(lambda: fed.sink._hub.images.readers == fed.sink._hub.frames.readers == 0)
    live.evaluate(hide, False)
    wait_until(lambda: fed.sink._hub.images.readers == 1)


def test_several_pages_leave_room_for_the_buttons(live, fed):
    """Browsers open at most six connections to a server, for all of its pages together."""
    other = live.page.context.new_page()
    other.goto(f"{fed.base}/")
    other.wait_for_selector("#picture:not([hidden])")
    wait_until(lambda: fed.sink._hub.images.readers == 2)
    other.click("#still")
    other.wait_for_selector("#toast:has-text('still saved')")
    other.close()


def test_the_page_says_what_to_do_without_the_token(watched, fed):
    watched.goto(f"{fed.base}/")
    assert "address that fer-stream printed" in watched.text_content("body")
    watched.complaints = [text for text in watched.complaints if "401" not in text]


def test_ten_faces_fit_a_phone_and_a_small_window(browser, tmp_path):
    with FedPage(tmp_path, faces=10) as fed:
        context = browser.new_context(viewport={"width": 360, "height": 740})
        page = context.new_page()
        page.goto(fed.sink.address)
        page.wait_for_selector(".card >> nth=9")
        for width in (360, 1000, 1280):
            page.set_viewport_size({"width": width, "height": 740})
            too_wide = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
            for part in ("html", "#cards", ".card", ".card-head"):
                assert page.eval_on_selector_all(part, too_wide) == 0, (width, part)
            heights = page.eval_on_selector_all(".card", "(all) => all.map((one) => one.offsetHeight)")
            assert len(set(heights)) == 1, (width, heights)
        context.close()
