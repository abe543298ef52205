"""The report and the subtitles in a real browser."""

from __future__ import annotations

from fractions import Fraction

import pytest
from helpers.browser import WatchedPage, has_color
from helpers.contexts import make_context, make_info
from helpers.faces import make_face, make_frame
from helpers.report import START_S

from fer_stream.sinks import ReportSink
from fer_stream.sinks.episodes.builder import SHORTEST_S
from fer_stream.sinks.provenance import Provenance

WOMAN_COMES_S = 5.2  # into the sample clip; it takes her a quarter of a second


def video_time(page) -> float:
    return page.evaluate("() => document.querySelector('video').currentTime")


def test_a_click_on_a_curve_goes_to_the_moment(report):
    over = report.locator(".lane .u-over").first
    box = over.bounding_box()
    report.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 20)
    report.until("() => !document.querySelector('video').seeking")
    assert video_time(report) == pytest.approx(2.0, abs=0.15)  # half of 4 to 8 s
    assert report.text_content("#clock") == "0:06.0"
    head = report.locator(".lane .playhead").first.bounding_box()
    assert head["x"] + head["width"] / 2 == pytest.approx(box["x"] + box["width"] * 0.5, abs=3)


def playhead_share(report) -> float:
    """Return where the playhead stands in the curves' width, 0 to 1."""
    over = report.locator(".lane .u-over").first.bounding_box()
    head = report.locator(".lane .playhead").first.bounding_box()
    return (head["x"] + head["width"] / 2 - over["x"]) / over["width"]


def test_the_playhead_stands_at_its_moment_on_load_and_after_a_zoom(report):
    # The curves show 0.05 s more than the recording on either side.
    assert playhead_share(report) == pytest.approx(0.05 / 4.07, abs=0.003)
    report.click("#zoom-in")
    report.locator(".plot").first.focus()
    report.keyboard.press("ArrowRight")
    report.until("() => !document.querySelector('video').seeking")
    report.click("#zoom-all")
    report.evaluate("() => new Promise(requestAnimationFrame)")
    assert playhead_share(report) == pytest.approx(1.05 / 4.07, abs=0.003)


def test_the_playhead_runs_with_the_video(report):
    head = report.locator(".lane .playhead").first
    before = head.bounding_box()["x"]
    report.evaluate(
        "() => { const video = document.querySelector('video'); video.muted = true; video.play(); }"
    )
    report.until("() => document.querySelector('video').currentTime > 0.3")
    report.evaluate("() => document.querySelector('video').pause()")
    assert head.bounding_box()["x"] > before + 5


def test_a_click_on_an_episode_goes_to_its_start(report):
    report.select_option("#pick-person", "2")
    rows = report.locator("#episodes tbody tr")
    assert rows.count() == 1
    rows.first.click()
    report.until("() => !document.querySelector('video').seeking")
    assert START_S + video_time(report) == pytest.approx(WOMAN_COMES_S, abs=0.25)
    assert "current" in rows.first.get_attribute("class")


def test_a_click_on_a_persons_picture_goes_to_the_moment_when_the_face_had_the_label_below_it(report):
    pictures = report.locator(".person .moment")
    assert pictures.count() >= report.locator(".person").count()
    for number in range(pictures.count()):
        pictures.nth(number).click()
        report.until("() => !document.querySelector('video').seeking")
        picture, label = pictures.nth(number), pictures.nth(number).inner_text()
        assert picture.get_attribute("title") == f"{report.text_content('#clock')}: {label}"
        person = picture.get_attribute("aria-label").split(",")[0]
        lane = report.locator(".lane", has_text=person)
        assert lane.locator(".now").text_content().startswith(f"{label} at ")


def test_dragging_zooms_every_curve_and_the_keyboard_does_too(report):
    labels = "() => document.getElementById('clock').textContent"
    over = report.locator(".lane .u-over").first
    box = over.bounding_box()
    report.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    report.mouse.down()
    report.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=4)
    report.mouse.up()
    report.mouse.click(box["x"] + 2, box["y"] + 20)
    zoomed_s = float(report.evaluate(labels).split(":")[1])
    assert zoomed_s == pytest.approx(5.0, abs=0.15)
    report.locator(".plot").first.focus()
    report.keyboard.press("0")
    report.mouse.click(box["x"] + 2, box["y"] + 20)
    assert float(report.evaluate(labels).split(":")[1]) == pytest.approx(4.0, abs=0.05)
    report.keyboard.press("ArrowRight")
    assert float(report.evaluate(labels).split(":")[1]) == pytest.approx(5.0, abs=0.05)


def test_people_and_expressions_can_be_chosen(report):
    assert report.locator(".lane").count() == report.locator(".person").count()
    report.locator(".person input").first.uncheck()
    assert report.locator(".lane").count() == report.locator(".person").count() - 1
    chip = report.locator("#expressions button", has_text="happy")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    box = report.locator(".lane .u-over").first.bounding_box()
    report.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20)
    tip = report.locator(".tip:not([hidden])").first
    assert "neutral" in tip.text_content() and "happy" not in tip.text_content()


def test_the_chips_look_like_the_curves(report):
    sample = report.locator("#expressions button", has_text="happy").locator("line")
    assert has_color(report, ".lane canvas", sample.evaluate("(line) => getComputedStyle(line).stroke"))
    dashes = report.locator("#expressions line").evaluate_all(
        "(lines) => lines.map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert dashes.count("none") == 2 and len(set(dashes)) == 6


def test_the_report_says_that_episodes_leave_out_brief_labels(report):
    assert f"less than {SHORTEST_S} s joins the longer episode" in report.text_content("#hint")


@pytest.fixture
def unsure_report(watched, tmp_path) -> WatchedPage:
    """The report of a face that is neutral for 0.2 s and then unsure, just below the threshold."""
    frames = [make_frame(index, index / 25, make_face(1, "neutral", 0.75)) for index in range(5)]
    frames += [make_frame(index, index / 25, make_face(1, "unsure", 0.718)) for index in range(5, 50)]
    info = make_info(frame_rate=Fraction(25))
    with ReportSink(tmp_path / "report.html", info) as sink:
        sink.begin(make_context(info, provenance=Provenance(unsure_below=0.72)))
        for frame in frames:
            sink.write(frame)
    watched.goto((tmp_path / "report.html").as_uri())
    watched.wait_for_selector("html[data-ready]")
    return watched


@pytest.mark.parametrize(
    ("times_s", "pieces"),
    [
        ([index / 25 + (60 if index >= 50 else 0) for index in range(100)], 2),  # a minute without frames
        ([float(index) for index in range(12)], 1),  # one frame per second
        ([0.0], 1),
        ([index / 25 for index in range(50) if not 10 <= index < 22], 1),  # away for 0.48 s
        ([index / 25 for index in range(50) if not 10 <= index < 24], 2),  # away for 0.56 s
    ],
)
def test_a_curve_breaks_where_an_episode_ends(watched, tmp_path, times_s: list[float], pieces: int) -> None:
    interval_s = times_s[1] if len(times_s) > 1 else 0.04
    with ReportSink(tmp_path / "report.html", make_info(frame_rate=Fraction(1 / interval_s))) as sink:
        for index in range(round(times_s[-1] / interval_s) + 1):
            time_s = index * interval_s
            is_there = any(abs(time_s - each) < 1e-6 for each in times_s)
            if is_there or time_s < 2:  # within the first two seconds, only the face is missing
                sink.write(make_frame(index, time_s, *[make_face(1)] * is_there))
    watched.goto((tmp_path / "report.html").as_uri())
    watched.wait_for_selector("html[data-ready]")
    times, *_, happy = watched.evaluate("() => columnsOf(people[0]).slice(0, 5)")
    assert times == sorted(set(times)) and happy.count(None) == pieces - 1
    lengths = [len(piece.split()) for piece in " ".join("-" if v is None else "x" for v in happy).split("-")]
    assert all(length >= 2 for length in lengths)  # a line needs two points
    assert watched.locator("#episodes tbody tr").count() == pieces


def test_no_percentage_of_an_unsure_face_reaches_the_threshold(unsure_report):
    trust = unsure_report.text_content("#trust")
    assert "no expression reached 72 %" in trust and "percentages are rounded down" in trust
    (row,) = unsure_report.locator("#episodes tbody tr").all_text_contents()
    assert "unsure71 %71 %" in row
    box = unsure_report.locator(".lane .u-over").bounding_box()
    unsure_report.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    assert "neutral71 %" in unsure_report.text_content(".tip:not([hidden])")


def test_the_line_above_a_curve_gives_the_reading_and_not_the_episode(unsure_report):
    assert unsure_report.locator("#episodes tbody tr").count() == 1  # "neutral" is too brief for its own
    assert unsure_report.text_content(".lane .now") == "neutral at 0:00.0"
    unsure_report.locator(".plot").focus()
    unsure_report.keyboard.press("ArrowRight")
    assert unsure_report.text_content(".lane .now") == "unsure at 0:01.0"
    # Each frame's own label, although times and steps are rounded.
    unsure_report.evaluate("() => seek(4 / 25)")
    assert unsure_report.text_content(".lane .now") == "neutral at 0:00.2"
    unsure_report.evaluate("() => seek(5 / 25)")
    assert unsure_report.text_content(".lane .now") == "unsure at 0:00.2"


def test_the_table_sorts(report):
    report.click("#episodes th button[data-key=length]")
    lengths = [
        float(text.split()[0]) for text in report.locator("#episodes td:nth-child(4)").all_text_contents()
    ]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) > 1
    assert report.get_attribute("#episodes th:nth-child(4)", "aria-sort") == "descending"
    report.click("#episodes th button[data-key=length]")
    lengths = [
        float(text.split()[0]) for text in report.locator("#episodes td:nth-child(4)").all_text_contents()
    ]
    assert lengths == sorted(lengths)


def test_the_report_fits_a_phone(browser, report_folder):
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto((report_folder / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    context.close()


def test_the_table_of_episodes_fades_where_it_goes_on(report):
    mask = "() => getComputedStyle(document.getElementById('table-frame')).maskImage"
    for width, goes_on in ((390, False), (330, True)):
        report.set_viewport_size({"width": width, "height": 740})
        report.until(f"(goes_on) => (({mask})() !== 'none') === goes_on", goes_on)
    report.evaluate("() => { document.getElementById('table-frame').scrollLeft = 1000; }")
    report.until(f"() => ({mask})() === 'none'")


def test_a_missing_video_is_named(watched, report_folder, tmp_path):
    (tmp_path / "report.html").write_bytes((report_folder / "report.html").read_bytes())
    watched.goto((tmp_path / "report.html").as_uri())
    watched.wait_for_selector("#video-missing:not([hidden])")
    assert "the clip #1.mp4" in watched.text_content("#video-missing")
    assert watched.locator(".lane").count() > 0
    watched.complaints = [text for text in watched.complaints if "ERR_FILE_NOT_FOUND" not in text]


def test_the_player_shows_the_subtitles_at_their_times(watched, report_folder, served_report):
    (report_folder / "player.html").write_text(
        "<link rel=icon href=data:,><video muted><track default src='episodes.vtt' kind='subtitles'></video>"
        # As a blob, because this small server sends no part of a file, and a player can't seek without.
        "<script>fetch('the%20clip%20%231.mp4').then((answer) => answer.blob()).then((blob) => {"
        " document.querySelector('video').src = URL.createObjectURL(blob); });</script>"
    )
    watched.goto(f"{served_report}/player.html")
    cues = watched.until(
        "() => { const { readyState, track } = document.querySelector('track');"
        " return readyState === HTMLTrackElement.LOADED && [...track.cues].map((cue) =>"
        " [cue.startTime, cue.endTime, cue.text]); }"
    )
    assert cues[0][0] == pytest.approx(0, abs=0.001) and cues[0][2].startswith("Person 1: ")
    late = next(cue for cue in cues if cue[2].startswith("Person 2: "))
    assert late[0] == pytest.approx(WOMAN_COMES_S - START_S, abs=0.25)
    for time_s, shown in ((0.5, False), (late[0] + 0.2, True)):
        watched.evaluate("(time) => { document.querySelector('video').currentTime = time; }", time_s)
        watched.until(
            "(shown) => { const { seeking, textTracks } = document.querySelector('video');"
            " const texts = [...textTracks[0].activeCues].map((cue) => cue.text);"
            " return !seeking && texts.some((text) => text.startsWith('Person 2: ')) === shown; }",
            shown,
        )


def test_the_index_of_an_archive_has_its_colours_and_fits_a_phone(watched, tmp_path):
    pytest.importorskip("fsspec", reason="needs the extra batch")
    from fer_stream.batch.index import index_page
    from fer_stream.batch.manifest import DONE, Record

    record = Record(
        "a.mp4", state=DONE, label_s={"happy": 30.0, "unsure": 9.0, "surprise": 8.0}, output_name="a"
    )
    (tmp_path / "index.html").write_text(index_page([record], []))
    watched.goto((tmp_path / "index.html").as_uri())
    fill = watched.evaluate("() => getComputedStyle(document.querySelector('rect.happy')).fill")
    assert fill == "rgb(240, 228, 66)"
    fill = watched.evaluate("() => getComputedStyle(document.querySelector('rect.unsure')).fill")
    assert fill == 'url("#hatching")' and watched.locator("pattern#hatching").count() == 1
    watched.set_viewport_size({"width": 390, "height": 740})
    assert watched.evaluate(
        "() => { const { scrollWidth, clientWidth } = document.querySelector('.frame');"
        " return scrollWidth <= clientWidth; }"
    )
