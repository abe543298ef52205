"""Labels that are both grey can be told apart, also without seeing colours."""

from __future__ import annotations

import re

import pytest
from helpers.contrast import contrast

from fer_stream.expressions import UNSURE, color_hex
from fer_stream.rendering.html import palette_css

PAGES = ("#ffffff", "#181a1d")  # light and dark


def test_unsure_is_much_darker_than_neutral() -> None:
    assert contrast(color_hex("neutral"), color_hex(UNSURE)) >= 3


def test_every_line_is_easy_to_see_on_a_dark_page() -> None:
    lines = re.findall(r"--line-\w+:(#\w{6})", palette_css().partition("dark")[2])
    assert len(lines) == 8 and all(contrast(line, PAGES[1]) >= 4.5 for line in lines)
    assert len(set(lines)) == 8


@pytest.mark.parametrize(("number", "page"), enumerate(PAGES))
def test_unsure_is_visible_on_the_page_and_differs_from_neutral(number, page) -> None:
    unsure = re.findall(r"--fill-unsure:(#\w{6})", palette_css())[number]
    assert contrast(unsure, page) >= 3
    assert contrast(unsure, color_hex("neutral")) >= 2.4, "hatching tells them apart too"
