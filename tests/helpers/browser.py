"""Open a page in a browser, and record its requests and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit


class WatchedPage:
    """A Playwright page, `page`, with the addresses that it requested and the errors in its console."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requested: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    @property
    def hosts(self) -> set[str]:
        """Return scheme and host of every request, without `data:` and `blob:` addresses."""
        parts = (urlsplit(address) for address in self.requested)
        return {f"{part.scheme}://{part.netloc}" for part in parts if part.scheme not in ("data", "blob")}

    def until(self, script: str, argument: Any = None) -> Any:
        """Wait until a script returns a true value, and return it."""
        return self.page.wait_for_function(script, arg=argument).json_value()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.page, name)


def has_color(page: WatchedPage, selector: str, color: str) -> bool:
    """Return whether the first canvas of a selector has pixels of a CSS colour, `rgb(...)`."""
    return page.evaluate(
        """([selector, color]) => {
            const wanted = color.match(/\\d+/g).map(Number);
            const canvas = document.querySelector(selector);
            const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            pen.drawImage(canvas, 0, 0);
            const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
            for (let at = 0; at < data.length; at += 4) {
                const is_near = wanted.every((value, index) => Math.abs(value - data[at + index]) < 6);
                if (is_near && data[at + 3] > 200) return true;
            }
            return false;
        }""",
        [selector, color],
    )
