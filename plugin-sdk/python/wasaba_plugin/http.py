"""HTTP requests to what the operator granted. The agent speaks HTTP and TLS; it does not follow redirects, `Request.follow` does.

```
page = http.get(settings[url]).bearer(settings[token]).json()
```
"""

from __future__ import annotations

import json as _json
from typing import Any
from urllib.parse import urljoin, urlsplit

from . import _wire
from ._errors import Busy, Failed, Mistake, Unauthorized, passed_on
from ._secret import Secret, handle, without_secrets

# pytest shows the author's frames, not these.
__tracebackhide__ = True

_http = _wire.interface("http")

_REDIRECTS = (301, 302, 303, 307, 308)

# What was meant for one server only.
_PRIVATE = ("authorization", "cookie", "host")


def get(url: str) -> Request:
    """A GET request, which `send`, `ok`, `text` or `json` sends."""
    return Request("GET", url)


def head(url: str) -> Request:
    """A HEAD request."""
    return Request("HEAD", url)


def post(url: str, body: bytes | str = b"") -> Request:
    """A POST request."""
    return Request("POST", url).body(body)


def request(method: str, url: str) -> Request:
    """A request with another method: `PUT`, `PATCH`, `DELETE`, `OPTIONS`."""
    return Request(method, url)


class Request:
    """A request. Each function but the last ones returns the request itself."""

    def __init__(self, method: str, url: str) -> None:
        if not isinstance(url, str):
            raise Mistake(f"a URL must be a text, not {url!r}")
        self.method, self.url = method, without_secrets(url, "the URL")
        self._headers: list[tuple[str, tuple[Any, ...]]] = []
        self._body: bytes | None = None
        self._redirects = 0

    def header(self, name: str, value: str | None) -> Request:
        """Sets a header, unless the value is None; of those with one name the last counts."""
        if value is not None:
            if isinstance(value, Secret):
                return self.header_secret(name, value)
            self._headers.append(("header", (name, without_secrets(str(value), f"the header `{name}`"))))
        return self

    def header_secret(self, name: str, secret: Secret | None, *, prefix: str = "") -> Request:
        """Sets a header to `prefix` and a secret, unless that is None."""
        if secret is not None:
            self._headers.append(("header_secret", (name, prefix, handle(secret))))
        return self

    def bearer(self, token: Secret | None) -> Request:
        """Sets the header `authorization` to `Bearer ` and a secret, unless that is None."""
        return self.header_secret("authorization", token, prefix="Bearer ")

    def basic_auth(self, user: str, password: Secret | None) -> Request:
        """Sets the header `authorization` for this user and password, unless that is None."""
        if password is not None:
            self._headers.append(("basic_auth", (user, handle(password))))
        return self

    def header_lines(self, lines: Secret | None) -> Request:
        """Sets the headers in a secret that has lines of `Name: value`, unless that is None."""
        if lines is not None:
            self._headers.append(("header_lines", (handle(lines),)))
        return self

    def body(self, body: bytes | str) -> Request:
        """Sets the body."""
        self._body = without_secrets(body, "the body").encode() if isinstance(body, str) else bytes(body)
        return self

    def json_body(self, value: Any) -> Request:
        """Sets the body to JSON, and the header `content-type`."""
        return self.header("content-type", "application/json").body(_json.dumps(value))

    def follow(self, limit: int) -> Request:
        """Follows redirects, `limit` at most: with GET, without the body, and to another server without secrets and without the headers
        `authorization`, `cookie` and `host`, which were meant for the first. Each redirect needs its own grant."""
        self._redirects = limit
        return self

    def has_header(self, name: str) -> bool:
        """Whether it will be sent with a header of this name: `authorization` also if the operator's URL has a user."""
        with passed_on():
            return bool(self._built().has_header(name))

    def send(self) -> Response:
        """Sends it and waits for the whole response, whatever its status."""
        request, limit = self, self._redirects
        while True:
            response = request._sent()
            target = response.header("location") if response.status in _REDIRECTS else None
            if target is None or not self._redirects:
                return response
            if not limit:
                raise Failed(f"more than {self._redirects} redirects from {page(self.url)}")
            limit -= 1
            request = request._redirected(urljoin(request.url, target))

    def ok(self) -> Response:
        """As `send`; an answer that is not 2xx is an error that names the page."""
        return self.send().ok()

    def text(self) -> str:
        """The text of an answer that must be 2xx."""
        return self.ok().text()

    def json(self) -> Any:
        """The JSON of an answer that must be 2xx."""
        return self.ok().json()

    def _redirected(self, url: str) -> Request:
        request = Request("GET", url)
        same = _origin(url) == _origin(self.url)
        request._headers = [
            (kind, of) for kind, of in self._headers if same or (kind == "header" and of[0].lower() not in _PRIVATE)
        ]
        return request

    def _sent(self) -> Response:
        with passed_on(_origin(self.url)):
            response = _http.send(self._built())
            return Response(self.url, response.status(), response.headers(), response.body())

    def _built(self) -> Any:
        request = _http.Request(self.method, self.url)
        set_of_kind = {
            "header": request.set_header,
            "header_secret": request.set_header_secret,
            "basic_auth": request.set_basic_auth,
            "header_lines": request.set_header_lines,
        }
        for kind, of in self._headers:
            set_of_kind[kind](*of)
        if self._body is not None:
            request.set_body(self._body)
        return request


def _origin(url: str) -> str:
    """Scheme, host and port, as written."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def page(url: str) -> str:
    """A URL as messages show it: without what may be private."""
    return _origin(url) + urlsplit(url).path


class Response:
    """A server's response."""

    def __init__(self, url: str, status: int, headers: list[tuple[str, bytes]], body: bytes) -> None:
        self.url, self.status = url, status
        #: Names in lower case, values as received, in the server's order.
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<response {self.status} of {page(self.url)}>"

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        name = name.lower()
        return next((value.decode(errors="replace") for other, value in self.headers if other == name), None)

    def ok(self) -> Response:
        """Itself, if its status is 2xx; else an error that names the page."""
        if 200 <= self.status < 300:
            return self
        message = f"{page(self.url)} answers with status {self.status}"
        wait = self.header("retry-after") or ""
        if self.status in (429, 503) and wait.isascii() and wait.isdigit():
            raise Busy(message, int(wait))
        raise (Unauthorized if self.status in (401, 403) else Failed)(message)

    def text(self) -> str:
        """The body as text."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise Failed(f"{page(self.url)} is not UTF-8 text") from None

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return _json.loads(self.body)
        except ValueError as error:
            raise Failed(f"{page(self.url)} is not JSON: {error}") from None
