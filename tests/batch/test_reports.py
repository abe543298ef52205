"""fer-batch's reports, episodes and index, made by a worker in this process."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra batch")
pytest.importorskip("fsspec", reason="needs the extra batch")

from helpers.tables import csv_rows

from fer_stream.batch import work
from fer_stream.batch.archive import write_records
from fer_stream.batch.index import index_page, write_index
from fer_stream.batch.manifest import DONE, FAILED, Record, finished, read_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.system.files import file_hash


def test_a_worker_writes_report_and_episodes_and_links_the_video(recording, settings, tmp_path):
    settings = replace(settings, save=True, report=True, episodes="eaf")
    output = Output(str(tmp_path / "out"))
    output.make()
    record = work.analyze(settings, None, recording, output)
    name = recording.output_name
    page = (tmp_path / "out" / "reports" / f"{name}.html").read_text()
    assert f'"src":"../videos/{name}.mp4"' in page
    assert (
        record.hash == file_hash(Path(recording.address))
        and record.hash in page
        and settings.weights_hash in page
    )
    eaf = (tmp_path / "out" / "episodes" / f"{name}.eaf").read_text()
    assert f'RELATIVE_MEDIA_URL="../videos/{name}.mp4"' in eaf
    assert f'MEDIA_URL="{(tmp_path / "out" / "videos" / f"{name}.mp4").as_uri()}"' in eaf
    assert "Person 1" in eaf
    assert finished([recording], [settings], output).records[name].state == DONE

    other = replace(settings, save=False, report=False, episodes="csv")
    assert finished([recording], [other], output).records[name].state != DONE
    work.analyze(other, None, recording, output)
    left = {
        path.name
        for folder in ("reports", "episodes", "videos")
        for path in (tmp_path / "out" / folder).iterdir()
    }
    assert left == {f"{name}{suffix}" for suffix in (".csv", ".eaf", ".html", ".mp4")}
    rows = csv_rows(tmp_path / "out" / "episodes" / f"{name}.csv")
    assert {row["source"] for row in rows} == {recording.name}


RECORDS = [
    Record(
        "b & <b>.mp4",
        state=DONE,
        duration_s=90,
        faces=2,
        label_s={"happy": 30.0, "sad": 10.0},
        output_name="b %",
    ),
    Record("a.mp4", state=FAILED, error="a.mp4 can't be read"),
    Record("c.mp4"),
]


def test_the_index_lists_every_recording_and_links_the_reports(tmp_path):
    output = Output(str(tmp_path))
    write_index(output, RECORDS)
    assert "href=" not in (tmp_path / "index.html").read_text()  # there is no report yet
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "b %.html").touch()
    write_index(output, RECORDS)
    page = (tmp_path / "index.html").read_text()
    assert "1 done, 1 failed, 1 not done yet." in page
    assert page.index("a.mp4") < page.index("b &amp; &lt;b&gt;.mp4") < page.index("c.mp4")
    assert 'href="reports/b%20%25.html"' in page and page.count("href=") == 1
    assert (
        "1:30" in page
        and "<span>happy 75 %</span>, <span>sad 25 %</span>" in page
        and "can&#x27;t be read" in page
    )


def test_a_recording_that_failed_and_was_removed_is_no_longer_listed(batch, recording, settings, tmp_path):
    output = Output(str(tmp_path / "out"))
    output.make()
    settings = replace(settings, report=True)
    record = work.analyze(settings, None, recording, output)
    bad = [tmp_path / "gone.mp4", tmp_path / "kept.mp4"]
    for path in bad:
        path.write_bytes(b"no video")
    failed = [Record(str(path), state=FAILED, error="bad", output_name=path.stem) for path in bad]
    write_records(output, [record, *failed], settings)
    page = tmp_path / "out" / "index.html"
    assert "1 done, 2 failed." in page.read_text()
    bad[0].unlink()
    said = batch(recording.address, "--output", tmp_path / "out")
    assert said.code == 0 and "nothing to do" in said.err
    assert "1 done, 1 failed." in page.read_text() and "kept.mp4" in page.read_text()
    assert {row.source for row in read_manifest(output)[0].values()} == {recording.name, str(bad[1])}


def test_the_index_has_no_script_and_loads_nothing():
    page = index_page([Record("<script>alert(1)</script>.mp4", state=DONE, output_name="<script>")], [])
    assert "<script" not in page and "default-src &#x27;none&#x27;" in page
    assert not re.search(r'(src|href)="?(https?:)?//', page)


def test_the_index_shows_short_paths_that_break_at_separators():
    sources = ("/data/2024/in/mon_day/a-1.mp4", "/data/2024/in/b.mp4")
    page = index_page([Record(source, state=DONE) for source in sources], [])
    assert "Folder: /<wbr>data/<wbr>2024/<wbr>in/." in page
    assert "<td>mon_<wbr>day/<wbr>a-<wbr>1.mp4</td>" in page and "<td>b.mp4</td>" in page


def test_a_large_archive_has_a_short_index():
    page = index_page([Record(f"{number:05d}.mp4", state=DONE) for number in range(6000)], [])
    assert "6000 recordings" in page and "The first 5000 are listed." in page
    assert page.count("<tr>") == 5001
