"""Measure the cost of fer-batch: one recording against fer-stream; an archive with one worker and with two.

    python benchmarks/batch.py [VIDEO] [--copies N] [--json PATH]

Each row is a process of its own, timed from start to end, including networks and Ray. The rate is the length
of the videos over that time. `work` is the time that the workers report, without their start. The archive is
some copies of VIDEO, by default of the portrait in ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

SHARED_VIDEO = Path(__file__).parents[2] / "shared" / "data" / "videos" / "portrait-360p.mp4"


def measure(name: str, command: list[str], output: Path | None) -> dict:
    """Run a command and return its figures, with those of the manifest if there is an output folder."""
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command, "--quiet"], check=True)
    row = {"row": name, "wall_s": round(time.perf_counter() - began_s, 2)}
    if output is not None:
        manifest = pq.read_table(output / "manifest.parquet").to_pylist()
        tables = [output / each["table"] for each in manifest]
        row |= {
            "video_s": round(sum(each["duration_s"] for each in manifest), 2),
            "work_s": round(sum(each["seconds"] for each in manifest), 2),
            "rows": sum(pq.read_metadata(path).num_rows for path in tables),
            "table_bytes": sum(path.stat().st_size for path in tables),
        }
    return row


def main() -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", nargs="?", type=Path, default=SHARED_VIDEO)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        archive.mkdir()
        for index in range(options.copies):
            shutil.copy(options.video, archive / f"{index}{options.video.suffix}")
        one = str(archive / f"0{options.video.suffix}")
        rows = [measure("fer-stream, one", ["fer_stream", one, "--data", f"{folder}/one.parquet"], None)]
        for name, source, workers in (
            ("fer-batch, one, 1 worker", one, 1),
            ("fer-batch, archive, 1 worker", str(archive), 1),
            ("fer-batch, archive, 2 workers", str(archive), 2),
        ):
            output = Path(folder) / f"out-{name.replace(', ', '-').replace(' ', '-')}"
            command = ["fer_stream.batch", source, "--output", str(output), "--workers", str(workers)]
            rows.append(measure(name, command, output))
    print(f"{options.video.name}, {options.copies} copies")
    for row in rows:
        rate = f"{row['video_s'] / row['wall_s']:6.2f} times real time" if "video_s" in row else ""
        work = f"  {row['work_s']:6.1f} s of work" if "work_s" in row else ""
        print(f"{row['row']:<32}{row['wall_s']:7.1f} s  {rate}{work}")
    last = rows[-1]
    row_bytes = last["table_bytes"] / last["rows"]
    print(f"{last['rows']} rows, {row_bytes:.1f} bytes a row")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
