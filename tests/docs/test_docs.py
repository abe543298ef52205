"""The documentation names options, tests and files that exist."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import av
import cv2
import pytest
from helpers.paths import ROOT, SAMPLE

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"^ {4}(fer-stream|fer-batch|fer-train) (.*)$", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def parsers_of(command: str) -> list[ArgumentParser]:
    """Return the parser of a command, and for fer-train also that of `fer-train evaluate`."""
    from fer_stream.batch import cli as batch_cli
    from fer_stream.command import cli
    from train import cli as train_cli

    return {
        "fer-stream": [cli.build_parser()],
        "fer-batch": [batch_cli.build_parser()],
        "fer-train": [train_cli._train_parser(), train_cli._evaluate_parser()],
    }[command]


def options_of(command: str) -> set[str]:
    """Return the options of a command, with those of `fer-train evaluate` for fer-train."""
    return {
        name for parser in parsers_of(command) for action in parser._actions for name in action.option_strings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_a_command_exists(page) -> None:
    for command, arguments in COMMAND.findall(page.read_text(encoding="utf-8")):
        if arguments.startswith(": "):  # a line that the command prints
            continue
        words = shlex.split(arguments.partition(" |")[0], comments=True)
        used = {word for word in words if re.match(r"--[a-z]", word)}
        assert used <= options_of(command), f"{command} {arguments}"


def test_the_pages_show_commands() -> None:
    """The test above would pass without any."""
    shown = [match for page in PAGES for match in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(shown) > 50
    assert {command for command, _ in shown} == {"fer-stream", "fer-batch", "fer-train"}


@pytest.mark.parametrize("name", ["README.md", "docs/api.md", "docs/cookbook.md", "docs/quick-start.md"])
def test_the_examples_in_python_work(name, tmp_path, monkeypatch, capsys, hopper_bgr) -> None:
    """They print something. The first second of the sample clip stands for every recording."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").mkdir()
    for clip in ("samples/two-faces-720p.mp4", "interview.mp4"):
        with av.open(str(SAMPLE)) as sample, av.open(clip, "w") as cut:
            stream = cut.add_stream_from_template(sample.streams.video[0])
            for packet in itertools.islice(sample.demux(sample.streams.video[0]), 30):
                packet.stream = stream
                cut.mux(packet)
    cv2.imwrite("photo.jpg", hopper_bgr)
    examples = PYTHON.findall((ROOT / name).read_text(encoding="utf-8"))
    assert examples
    for example in examples:
        exec(compile(example, name, "exec"), {})
        assert capsys.readouterr().out
    assert Path("smile.jpg").exists() == (name == "docs/api.md")


@pytest.mark.parametrize("command", ["fer-stream", "fer-batch", "fer-train"])
def test_the_help_ends_with_examples_that_work(command) -> None:
    parser, *others = parsers_of(command)
    help_lines = parser.format_help().rstrip().splitlines()
    examples = [shlex.split(line) for line in help_lines[help_lines.index("examples:") + 1 :]]
    assert 3 <= len(examples) <= 5
    for program, *arguments in examples:
        assert program == command
        if arguments[0] == "evaluate":
            others[0].parse_args(arguments[1:])
        else:
            parser.parse_args(arguments)


def test_the_troubleshooting_page_quotes_messages_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    files = [path for folder in ("fer_stream", "train") for path in (ROOT / folder).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    source = re.sub(r"\"\n\s*f?\"", "", source)  # join texts that go on in the next line
    values = r"camera 0|/dev/video0|\w+\.(?:mp4|jpg|heic|csv)|libGL\S*|--device cuda|torch and \w+| \d+\b"
    messages = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    assert len(messages) > 10
    for message in messages:
        parts = [part.strip(" ()") for part in re.split(rf"{values}|\.\.\.|[:;,] ", message)]
        assert all(part in source for part in parts), message


def test_every_test_that_the_robustness_page_names_exists_in_its_file() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    count = 0
    # `test_a`, `test_b`; test_video: `test_c`. Without a file, they are in tests/robustness.
    for file, group in re.findall(r"(?:(test_\w+): )?((?:`test_\w+`(?:, )?)+)", page):
        paths = (
            (ROOT / "tests").rglob(f"{file}.py") if file else (ROOT / "tests/robustness").glob("test_*.py")
        )
        source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
        names = re.findall(r"`(test_\w+)`", group)
        assert set(names) <= set(re.findall(r"def (test_\w+)", source)), file or "tests/robustness"
        count += len(names)
    assert count > 50


def test_every_file_that_the_architecture_and_the_guide_name_exists() -> None:
    known = {path.name for folder in ("fer_stream", "tests") for path in (ROOT / folder).rglob("*.py")}
    known |= {"NAME.py", "test_NAME.py"}  # stand for a new file
    for page in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"`(?:[\w/]*/)?(\w+\.py)`", page.read_text(encoding="utf-8")))
        assert named and named <= known, page.name


def test_the_page_of_the_api_shows_the_values_of_defaults(tmp_path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    page = re.sub(r"<[^>]+>", "", (tmp_path / "api.html").read_text(encoding="utf-8"))
    assert "min_face=40" in page and "DEFAULT_" not in page
