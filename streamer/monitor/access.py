"""Who may look: a token, given as a bearer's, or once by a person for a cookie; and the headers that keep a page to itself.

Nothing can be changed through the monitor, so there is nothing to forge. What is protected is what it shows.
"""

import asyncio
import hashlib
import hmac
import ipaddress
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import UserError

COOKIE = "slipher_monitor"
COOKIE_SECONDS = 14 * 86_400  # a run of nights
LEAST = 16  # characters of a token: it may be guessed at leisure
WRONG_SECONDS = 0.5  # that a wrong token costs
MOST_FORM = 4096  # bytes

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_from(file: Path | None, environment: str | None) -> str | None:
    """The token of a file, or of the environment; None where there is neither.

    Raises
    ------
    UserError
        The file cannot be read, or the token is too short to be one.
    """
    given = environment
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The token file {file} cannot be read ({error}).") from None
    token = (given or "").strip()
    if file is None and not token:
        return None
    if len(token) < LEAST or not token.isascii():
        raise UserError(f"The token needs at least {LEAST} ASCII characters: `openssl rand -hex 32` makes a good one.")
    return token


def refuse_open(host: str, token: str | None, no_token: bool) -> None:
    """Refuse to show a catalogue to a whole network by accident.

    Raises
    ------
    UserError
        Others can reach `host`, there is no token, and nobody said that this is meant.
    """
    if token is None and not no_token and not is_loopback(host):
        raise UserError(
            f"Everybody who reaches {host} could look at the catalogue. Give --token-file FILE (or set "
            f"SLIPHER_MONITOR_TOKEN), or say --no-token if that is meant."
        )


class Door:
    """Knows the token, and what a browser holds in its place.

    Parameters
    ----------
    token
        None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        # Not the token: whoever reads the cookie cannot ask for metrics with it elsewhere. It outlives a restart.
        self._cookie = "" if token is None else hmac.new(token.encode(), b"slipher monitor", hashlib.sha256).hexdigest()

    def lets_in(self, connection: HTTPConnection) -> bool:
        """Whether this request may see anything."""
        if self._token is None:
            return True
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        bearer = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)
        return bearer or hmac.compare_digest(connection.cookies.get(COOKIE, "").encode(), self._cookie.encode())

    async def sign_in(self, request: Request) -> Response:
        """Take the token of a form, and give the cookie for it."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_FORM:
                return Response(status_code=413)
        given = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip().encode()
        if self._token is None or not hmac.compare_digest(given, self._token):
            await asyncio.sleep(WRONG_SECONDS)
            return RedirectResponse("/?wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            self._cookie,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


class Guard:
    """Around the whole application: its headers on every answer, and no stranger's name for us.

    Parameters
    ----------
    app
        What is guarded.
    only_local
        Whether a request must call us by a loopback's name: a page elsewhere could otherwise have its own name point here, and
        read what has no token before it.
    """

    def __init__(self, app: ASGIApp, only_local: bool) -> None:
        self._app, self._only_local = app, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._only_local and not is_loopback(_name(Headers(scope=scope).get("host", ""))):
            await Response("This monitor answers to localhost only.\n", 421)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def _name(host: str) -> str:
    """Of ``name:port`` or ``[address]:port`` the name or address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
