"""How a schema registry is spoken to: address, credentials, certificates, and what its answers mean.

The client of confluent-kafka would drag in five packages and a quarter of a second for the one request that we make.
"""

import base64
import difflib
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from schemas.errors import UserError

TIMEOUT_S = 10.0
MAX_BYTES = 16 << 20  # of an answer: a survey's schema has 100 kB

USER, TOKEN = "basic.auth.user.info", "bearer.auth.token"
AUTHORITIES, CERTIFICATE, KEY = "ssl.ca.location", "ssl.certificate.location", "ssl.key.location"
PASSWORD, TIMEOUT = "ssl.key.password", "timeout"
SETTINGS = (USER, TOKEN, AUTHORITIES, CERTIFICATE, KEY, PASSWORD, TIMEOUT)  # named as in Confluent's clients

_CONTENT = "application/vnd.schemaregistry.v1+json"
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_IS_IT_UP = "Is it up, and is its address right (--registry)?"
_NOT_THE_API = (
    "Is that the address of Confluent's API (--registry), such as http://HOST:8081 or http://HOST:8080/apis/ccompat/v7?"
)
_CREDENTIALS = f"Check user and password ({USER}) or token ({TOKEN}): --registry-setting."
_TLS = f"Check --registry-setting {AUTHORITIES}=FILE, {CERTIFICATE} and {KEY}."


class Missing(Exception):
    """The registry says that it has no such thing."""


class Rejected(Exception):
    """The registry does not want what it was given; the text is its own."""


class Away(Exception):
    """The registry does not say: why, what a person might do, and whether the next try may go better."""

    def __init__(self, why: str, mend: str, passing: bool = True) -> None:
        super().__init__(f"{why}. {mend}")
        self.passing = passing


class Connection:
    """One registry.

    Parameters
    ----------
    url
        Its address, http or https; may hold ``user:password@``.
    settings
        Of ``SETTINGS``.
    clock
        Monotonic seconds.

    Attributes
    ----------
    address
        The address without credentials: what may be shown, and what names the registry.
    timeout
        Seconds in which an answer must be here.

    Raises
    ------
    UserError
        No such address or setting, or a file that cannot be read.
    """

    def __init__(self, url: str, settings: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        for key in settings:
            if key not in SETTINGS:
                near = difflib.get_close_matches(key, SETTINGS, n=1) or SETTINGS
                raise UserError(f"--registry-setting {key}: there is no such setting. Did you mean {', '.join(near)}?")
        self.address, user = _split(url)
        self.timeout = _seconds(settings.get(TIMEOUT, TIMEOUT_S))
        self._clock = clock
        self._authorization = _authorization(user, settings)
        secure = self.address.startswith("https:")
        if not secure and (wrong := [key for key in settings if key.startswith("ssl.")]):
            raise UserError(f"--registry-setting {wrong[0]} is for https, and the address is {self.address}.")
        handlers = [urllib.request.HTTPSHandler(context=_context(settings))] if secure else []
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, seconds: float) -> dict[str, Any]:
        """The answer to a GET of `path`, a JSON object, within `seconds`.

        Raises
        ------
        Missing
            The registry has none.
        Away
            Anything else.
        """
        return self._answer(urllib.request.Request(self.address + path, headers={"Accept": _ACCEPT}), seconds)

    def post(self, path: str, content: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a POST of `content` to `path`.

        Raises
        ------
        Rejected
            The registry does not take it.
        Missing, Away
            As ``get``.
        """
        headers = {"Accept": _ACCEPT, "Content-Type": _CONTENT}
        return self._answer(urllib.request.Request(self.address + path, json.dumps(content).encode(), headers), seconds)

    def _answer(self, request: urllib.request.Request, seconds: float) -> dict[str, Any]:
        deadline = self._clock() + seconds
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # for this server, not for another
        try:
            with self._opener.open(request, timeout=max(seconds, 0.001)) as response:
                return _object(self._read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                raise _meaning(error, given=request.data is not None) from None
        except TimeoutError:
            raise Away(f"it gave no answer within {self.timeout:g} s", _IS_IT_UP) from None
        except ssl.SSLError as error:
            raise Away(f"no secure connection ({error})", _TLS, passing=False) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise Away(f"it gave no answer within {self.timeout:g} s", _IS_IT_UP) from None
            if isinstance(error.reason, ssl.SSLError):
                raise Away(f"no secure connection ({error.reason})", _TLS, passing=False) from None
            raise Away(f"no connection ({error.reason})", _IS_IT_UP) from None
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"the answer broke off ({type(error).__name__}: {error})", _IS_IT_UP) from None

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """The body. A socket's timeout bounds each of its parts; the deadline bounds a server that drips."""
        body = b""
        while part := response.read1(1 << 16):
            body += part
            if len(body) > MAX_BYTES:
                raise Away(f"it sends more than {MAX_BYTES >> 20} MiB", _NOT_THE_API, passing=False)
            if self._clock() > deadline:
                raise TimeoutError
        return body


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Away(f"its answer is no JSON object but {len(body)} bytes that begin {body[:24]!r}", _NOT_THE_API)
    return answer


def _meaning(error: urllib.error.HTTPError, given: bool) -> Exception:
    """What an answer other than 200 says. Only a registry's own code says that there is none: any server can say 404."""
    status = error.code
    if given and status in (409, 422):
        return Rejected(str(_said(error).get("message", error.reason)))
    if status == 404:
        code = _said(error).get("error_code", 0)
        if code in (40401, 40402, 40403):
            return Missing()
        return Away("it answers 404, but not as a registry does", _NOT_THE_API, passing=False)
    said = f"it answers {status} {error.reason}"
    if status in (401, 403):
        return Away(said, _CREDENTIALS, passing=False)
    return Away(said, _IS_IT_UP if status >= 500 or status == 429 else _NOT_THE_API, status >= 500 or status == 429)


def _said(error: urllib.error.HTTPError) -> dict[str, Any]:
    """The registry's own words beside a status; empty where there are none."""
    try:
        said = json.loads(error.read(1 << 16))
    except (ValueError, RecursionError, OSError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def _split(url: str) -> tuple[str, str]:
    """Address without credentials, and ``user:password`` or nothing."""
    try:
        parts = urlsplit(url.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        shown = url.rpartition("@")[2]
        raise UserError(f"--registry {shown}: say the address of a schema registry, such as http://localhost:8081.")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), unquote(user)


def _authorization(user: str, settings: Mapping[str, str]) -> str:
    ways = [way for way in (user, settings.get(USER), settings.get(TOKEN)) if way]
    if len(ways) > 1:
        raise UserError(f"Credentials for the registry in more than one place: in its address, {USER}, {TOKEN}.")
    if token := settings.get(TOKEN):
        if any(letter.isspace() for letter in token):
            raise UserError(f"{TOKEN} is one word, and what was given holds spaces or several lines.")
        return f"Bearer {token}"
    if user := user or settings.get(USER, ""):
        return "Basic " + base64.b64encode(user.encode()).decode()
    return ""


def _seconds(text: str | float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise UserError(f"--registry-setting {TIMEOUT}={text}: say seconds, such as {TIMEOUT_S:g}.")
    return seconds


def _context(settings: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.get(AUTHORITIES))
        if CERTIFICATE in settings:
            # Without a password given, a key that has one must fail: OpenSSL would ask on the terminal.
            context.load_cert_chain(settings[CERTIFICATE], settings.get(KEY), settings.get(PASSWORD, ""))
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"The registry's certificates cannot be used: {error}. {_TLS}") from None
    return context
