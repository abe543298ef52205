"""Check the host, the origin and the token of every request.

Any web site that is open in a browser on this machine can send requests to a page on 127.0.0.1. Three checks
stop them:

- Host: if a site points its own name at this machine (DNS rebinding), its requests carry that name.
- Origin and Sec-Fetch-Site: in a request from another site, they name that site or say "cross-site".
- Token: no other site knows it. The cookie that holds it is SameSite=Strict.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer_stream.web.addresses import is_address

OPEN_PATHS = ("/healthz",)  # need no token
_COOKIE_FOR_S = 30 * 24 * 3600
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# The empty icon keeps browsers from asking for /favicon.ico, which needs the token as well.
_NO_TOKEN = """<!doctype html>
<html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>fer-stream</title>
<p>This page shows faces, so it opens only with its token.
<p>Open the address that fer-stream printed, which ends in ?token=...
</html>
"""


class Guard:
    """Passes only allowed requests on to the page.

    Args:
        app: The page.
        token: The token that every request needs.
        port: The page's port. The cookie's name contains it, because cookies are shared between ports.
        host_names: Names under which the page may be opened, besides IP addresses and localhost.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, host_names: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._cookie = f"fer-stream-{port}"
        self._host_names = {name.lower() for name in host_names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on. See ASGI."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, {}))
            return
        headers = {}
        if request.query_params.get("token") and request.url.path not in OPEN_PATHS:
            headers["Set-Cookie"] = (
                f"{self._cookie}={self._token.decode()}; Path=/; Max-Age={_COOKIE_FOR_S}; "
                "HttpOnly; SameSite=Strict"
            )
        await self._app(scope, receive, _with_headers(send, headers))

    def _refusal(self, request: Request) -> Response | None:
        """Return the answer that refuses a request, or None if the request is allowed."""
        if not self._may_be_host(request.headers.get("host", "")):
            return PlainTextResponse("This page is not served under that name.\n", 421)
        if not _is_same_site(request.headers, request.method):
            return PlainTextResponse("This page takes no requests from other sites.\n", 403)
        if request.url.path not in OPEN_PATHS and not self._has_token(request):
            return HTMLResponse(_NO_TOKEN, 401)
        return None

    def _may_be_host(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        # An address can't be rebound, because only names are looked up.
        return is_address(name) or name == "localhost" or name in self._host_names

    def _has_token(self, request: Request) -> bool:
        bearer = request.headers.get("authorization", "")
        candidates = [
            request.query_params.get("token", ""),
            request.cookies.get(self._cookie, ""),
            bearer[len("Bearer ") :] if bearer.startswith("Bearer ") else "",
        ]
        return any(hmac.compare_digest(text.encode(), self._token) for text in candidates)


def own_names(host: str) -> set[str]:
    """Return the names under which a page that listens at `host` may be opened."""
    names = {host}
    if host not in ("127.0.0.1", "::1", "localhost"):
        own = socket.gethostname()
        names |= {own, f"{own}.local"}  # not the full name, whose look-up may take seconds
    return {name for name in names if name and not is_address(name)}


def _is_same_site(headers: Headers, method: str) -> bool:
    """Return whether a request comes from the page itself, from an address bar, or not from a browser."""
    origin = headers.get("origin")
    if origin is not None and origin not in (f"{scheme}://{headers['host']}" for scheme in ("http", "https")):
        return False
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    # A link in an e-mail or on another site may open the page, but may do nothing else.
    opens_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return method == "GET" and opens_page


def _with_headers(send: Send, more: dict[str, str]) -> Send:
    """Return a `send` that adds common headers to every answer. Headers that an answer already has stay."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", [])}
            added = [
                (name.lower().encode(), value.encode())
                for name, value in (_HEADERS | more).items()
                if name.lower().encode() not in own
            ]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with_headers
