"""A fake host, so that a plugin's functions can be tested natively, in milliseconds.

```
from wasaba_plugin.testing import Host, cases

@pytest.mark.parametrize("case", cases("tests.toml"), ids=str)
def test_case(case):
    case.run(plugin)                       # the same cases as `wasaba plugin test`

def test_an_empty_queue_has_no_jobs():
    host = Host().answers("http://localhost:7000/count", body="0")
    assert host.collect(plugin)["queue.jobs.waiting"] == 0
```

Grants count, as in the agent; limits, TLS and the text of the agent's own errors do not. `wasaba plugin test` has the last word.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time as _time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from . import _wire
from ._description import Setting
from ._errors import Misconfigured, told
from ._plugin import Plugin
from ._report import Document, Report
from ._sample import Problem, Readings
from ._secret import Secret
from ._settings import Settings, parsed

T = TypeVar("T")

# pytest shows the author's frames, not these.
__tracebackhide__ = True

__all__ = ["Case", "Host", "cases"]


def _error(kind: str, message: str, **attributes: str) -> Exception:
    error = SimpleNamespace(kind=kind, message=message, retry_after_ms=None, attributes=list(attributes.items()))
    failure: Exception = _wire.Err(error)
    return failure


class Host:
    """What is outside of the plugin: canned answers, files, and what is kept from call to call."""

    def __init__(self, *, allow: Iterable[str] = (), reveal: bool = False, virtual_host: str | None = None) -> None:
        self.allow, self.reveal, self.virtual_host = list(allow), reveal, virtual_host
        self.now = int(_time.time()) // 60 * 60
        #: What was logged: pairs of level and line.
        self.logged: list[tuple[str, str]] = []
        #: What is kept, by key.
        self.kept: dict[str, bytes] = {}
        self.script = _Script()
        self._expiry: dict[str, int] = {}
        self._grants = _Grants()
        self._types = SimpleNamespace()
        self._http = SimpleNamespace(Request=self._request, send=self._send)
        self._tcp = SimpleNamespace(Connection=_Connect(self), TlsOptions=_TlsOptions)
        self._kv = SimpleNamespace(get=self._get, set=self._set, delete=self._delete, keys=self._keys)
        self._log = SimpleNamespace(
            Level=SimpleNamespace(DEBUG="debug", INFO="info", WARNING="warning", ERROR="error"),
            write=lambda level, line: self.logged.append((level, line)),
        )
        self._files = SimpleNamespace(File=SimpleNamespace(open=self._open))
        self._crypto = SimpleNamespace(scram_sha256=_scram, postgres_md5=_postgres_md5)
        self._call = SimpleNamespace(
            remaining_ms=lambda: 10_000,
            minute=lambda: self.now // 60 * 60,
            limit=lambda name: _LIMITS.get(name),
            agent_version=lambda: "0.2.0",
            has=lambda feature: feature.partition(".")[0] in ("http", "tcp", "kv", "log", "files", "crypto", "call"),
        )

    # What the outside answers.

    def answers(
        self,
        url: str,
        body: bytes | str | dict[str, Any] | list[Any] = b"",
        *,
        method: str = "GET",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        request_headers: Mapping[str, str] | None = None,
        request_body: bytes | str | None = None,
        unreachable: str | None = None,
    ) -> Host:
        """Adds an HTTP response; a dict or list is sent as JSON. Several to the same request are used in order, the last one again and
        again."""
        content = json.dumps(body) if isinstance(body, (dict, list)) else body
        self.script.http.append(
            SimpleNamespace(
                method=method,
                url=url,
                status=status,
                headers=[(name.lower(), value) for name, value in (headers or {}).items()],
                body=_bytes(content),
                request_headers=dict(request_headers or {}),
                request_body=None if request_body is None else _bytes(request_body),
                unreachable=unreachable,
                used=False,
            )
        )
        return self

    def talks(self, peer: str, *turns: Mapping[str, bytes | str], unreachable: str | None = None) -> Host:
        """Adds a conversation with `host:port` or `unix:/path`: turns of `{"expect": ...}` and `{"send": ...}`."""
        pairs = [(kind, _bytes(content)) for turn in turns for kind, content in turn.items()]
        self.script.tcp.append(SimpleNamespace(peer=peer, turns=pairs, unreachable=unreachable, used=False))
        return self

    def has_file(self, path: str, content: bytes | str) -> Host:
        """Adds a file."""
        self.script.files[path] = _bytes(content)
        return self

    def has_unreadable_file(self, path: str, why: str = "No such file or directory") -> Host:
        """Adds a file that cannot be read, such as one that is missing."""
        self.script.files[path] = why
        return self

    # The calls.

    def __enter__(self) -> Host:
        _wire.hosts.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _wire.hosts.remove(self)

    def settings(self, plugin: Plugin, given: Mapping[str, Any]) -> Settings:
        """The settings of an instance whose operator wrote what is `given`, validated, with the defaults."""
        declared = {setting.key: setting for setting in plugin.settings}
        for key in given:
            if key not in declared:
                raise ValueError(f"unknown setting `{key}`; the plugin has {', '.join(declared) or 'none'}")
        pairs: list[tuple[str, str | Secret]] = []
        for setting in plugin.settings:
            values = _written(setting, given[setting.key]) if setting.key in given else []
            if not values and setting.default is not None:
                values = [setting.default]
            if not values and setting.required:
                raise ValueError(f"`{setting.key}` is required")
            for value in values:
                try:
                    parsed(setting, value)
                except Misconfigured as error:
                    raise ValueError(str(error)) from None
                pairs.append((setting.key, Secret(_SecretText(self, value)) if setting.kind == "secret" else value))
        self._grants = _Grants.of(plugin, given, self.allow)
        return Settings(plugin.settings, pairs)

    def collect(self, plugin: Plugin, given: Mapping[str, Any] | None = None, **more: Any) -> Readings:
        """Calls `collect` with these settings. Its errors are raised."""
        return self._call_of(plugin, plugin.collected, given, more)

    def check(self, plugin: Plugin, given: Mapping[str, Any] | None = None, **more: Any) -> list[Report]:
        """Calls `check` with these settings."""
        return self._call_of(plugin, plugin.checked, given, more)

    def metadata(
        self, plugin: Plugin, given: Mapping[str, Any] | None = None, **more: Any
    ) -> tuple[list[Document], list[Problem]]:
        """Calls the function for metadata with these settings."""
        return self._call_of(plugin, plugin.gathered, given, more)

    def _call_of(
        self, plugin: Plugin, function: Callable[[Settings], T], given: Mapping[str, Any] | None, more: Mapping[str, Any]
    ) -> T:
        # `tls_skip_verify=True` is for the key `tls-skip-verify`.
        given = dict(given or {}) | {key.replace("_", "-"): value for key, value in more.items()}
        kept, expiry = dict(self.kept), dict(self._expiry)
        with self:
            try:
                return function(self.settings(plugin, given))
            except BaseException:
                # A call that fails keeps nothing.
                self.kept, self._expiry = kept, expiry
                raise

    # The capabilities.

    def _request(self, method: str, url: str) -> _Request:
        return _Request(self, method, url)

    def _send(self, request: _Request) -> Any:
        if request.method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            raise _error("invalid", f"invalid method {request.method}")
        parts = urlsplit(request.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _error("invalid", f"invalid URL {request.url}")
        self._grants.http(parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme])
        return self.script.fetch(request)

    def _open(self, path: str) -> Any:
        self._grants.file(path)
        return self.script.file(path)

    def _get(self, key: str) -> bytes | None:
        if self._expiry.get(key, math.inf) <= self.now * 1_000:
            return None
        return self.kept.get(key)

    def _set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        if not 1 <= len(key.encode()) <= 255:
            raise _error("invalid", "a key has 1 to 255 bytes")
        self._expiry.pop(key, None)
        if ttl_ms is not None:
            self._expiry[key] = self.now * 1_000 + ttl_ms
        self.kept[key] = value
        if sum(len(key) + len(value) for key, value in self.kept.items()) > 64 * 1_024:
            raise _error("full", "more than 64 KiB of keys and values")

    def _delete(self, key: str) -> None:
        self.kept.pop(key, None)
        self._expiry.pop(key, None)

    def _keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix) and self._get(key) is not None)


_LIMITS = {"samples": 1_000, "log_lines": 16, "connections": 16, "body_kib": 4_096, "file_kib": 4_096, "kv_kib": 64}


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content)


def _written(setting: Setting[Any], value: Any) -> list[str]:
    """What the operator wrote, as the agent hands it over."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(values) > 1 and not setting.repeatable:
        raise ValueError(f"`{setting.key}` is not repeatable")

    def text(one: Any) -> str:
        if isinstance(one, bool):
            return "true" if one else "false"
        if isinstance(one, timedelta):
            return f"{round(one / timedelta(milliseconds=1))}ms"
        return str(one)

    return [text(one) for one in values]


class _SecretText:
    def __init__(self, host: Host, text: str) -> None:
        self.host, self.text = host, text

    def length(self) -> int:
        return len(self.text.encode())

    def reveal(self) -> str:
        if not self.host.reveal:
            raise _error("denied", "the secret is not revealed: write `reveal = true`")
        return self.text


class _Grants:
    """What an instance may reach."""

    def __init__(self) -> None:
        self.reaches: list[str] = []
        self.origins: set[tuple[str, str, int]] = set()
        self.peers: set[tuple[str, int]] = set()
        self.sockets: set[str] = set()
        self.files: set[str] = set()

    @classmethod
    def of(cls, plugin: Plugin, given: Mapping[str, Any], allow: list[str]) -> _Grants:
        grants = cls()
        grants.reaches = list(plugin.reaches)
        is_first = True
        for setting in plugin.settings:
            values = _written(setting, given[setting.key]) if setting.key in given else []
            if setting.kind == "url":
                if setting.default is not None and not values and is_first and _is_local(urlsplit(setting.default).hostname):
                    values = [setting.default]
                if setting.default is not None:
                    is_first = False
                for value in values:
                    grants._add_url(value)
            elif setting.kind == "endpoint":
                for value in values:
                    grants._add_peer(value)
            elif setting.kind == "port" and setting.port_of:
                host = next((other for other in plugin.settings if other.key == setting.port_of), None)
                name = given.get(setting.port_of, host.default if host else None)
                port = values[0] if values else setting.default
                written = setting.port_of in given or (bool(values) and _is_local(name))
                if name is not None and port is not None and written:
                    grants.peers.add((str(name).lower(), int(port)))
            elif setting.kind == "unix-socket":
                grants.sockets.update(values)
            elif setting.kind == "file":
                grants.files.update(values)
        for entry in allow:
            if entry.startswith("unix:"):
                grants.sockets.add(entry.removeprefix("unix:"))
            elif entry.startswith("file:"):
                grants.files.add(entry.removeprefix("file:"))
            elif "://" in entry:
                grants._add_url(entry)
            else:
                grants._add_peer(entry)
        return grants

    def _add_url(self, url: str) -> None:
        parts = urlsplit(url)
        self.origins.add((parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)))

    def _add_peer(self, text: str) -> None:
        host, _, port = text.rpartition(":")
        self.peers.add((host.strip("[]").lower(), int(port)))

    def _reach(self, word: str) -> None:
        if word not in self.reaches:
            raise _error("denied", f'the plugin does not say that it reaches "{word}"')

    def http(self, scheme: str, host: str, port: int) -> None:
        self._reach("http")
        if (scheme, host, port) not in self.origins and (host, port) not in self.peers:
            raise _error("denied", f"no grant for {scheme}://{host}:{port}")

    def tcp(self, host: str, port: int) -> None:
        self._reach("tcp")
        if (host.strip("[]").lower(), port) not in self.peers:
            raise _error("denied", f'no grant for {host}:{port}: write `allow = ["{host}:{port}"]`')

    def unix(self, path: str) -> None:
        self._reach("unix")
        if path not in self.sockets:
            raise _error("denied", f'no grant for unix:{path}: write `allow = ["unix:{path}"]`')

    def file(self, path: str) -> None:
        self._reach("file")
        if path not in self.files:
            raise _error("denied", f'no grant for file:{path}: write `allow = ["file:{path}"]`')


def _is_local(host: object) -> bool:
    return str(host).strip("[]") in ("localhost", "::1") or str(host).startswith("127.")


_OF_THE_CONNECTION = ("connection", "content-length", "transfer-encoding", "upgrade", "keep-alive", "te", "trailer")


class _Request:
    def __init__(self, host: Host, method: str, url: str) -> None:
        self.host, self.method, self.url = host, method, url
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None

    def set_header(self, name: str, value: str) -> None:
        name = name.lower()
        if name in _OF_THE_CONNECTION or name.startswith("proxy-") or not name or set(value) & {"\r", "\n", "\0"}:
            raise _error("invalid", f"invalid header `{name}`")
        if name == "host" and value != self.host.virtual_host:
            raise _error("denied", f'no grant for the header `host`: write `virtual_host = "{value}"`')
        self.headers[name] = value

    def set_header_secret(self, name: str, prefix: str, secret: _SecretText) -> None:
        self.set_header(name, prefix + secret.text)

    def set_basic_auth(self, user: str, password: _SecretText) -> None:
        self.set_header("authorization", "Basic " + base64.b64encode(f"{user}:{password.text}".encode()).decode())

    def set_header_lines(self, lines: _SecretText) -> None:
        for line in filter(None, map(str.strip, lines.text.splitlines())):
            name, colon, value = line.partition(":")
            if not colon:
                raise _error("misconfigured", "a line is not `Name: value`")
            self.headers[name.strip().lower()] = value.strip()

    def has_header(self, name: str) -> bool:
        return name.lower() in self.headers

    def set_body(self, body: bytes) -> None:
        self.body = bytes(body)


class _TlsOptions:
    def set_server_name(self, name: str) -> None:
        pass

    def set_alpn(self, protocols: list[str]) -> None:
        pass


class _Connect:
    def __init__(self, host: Host) -> None:
        self.host = host

    def connect(self, host: str, port: int, timeout_ms: int | None) -> _Conversation:
        self.host._grants.tcp(host, port)
        return self.host.script.connect(f"{host}:{port}", _is_local(host))

    def connect_unix(self, path: str, timeout_ms: int | None) -> _Conversation:
        self.host._grants.unix(path)
        return self.host.script.connect(f"unix:{path}", True)


class _Script:
    """Canned answers, what of them was used, and how the plugin deviated from them."""

    def __init__(self) -> None:
        self.http: list[Any] = []
        self.tcp: list[Any] = []
        #: What is in each, or as a text why it cannot be read.
        self.files: dict[str, bytes | str] = {}
        self.read: set[str] = set()
        self.noted: list[str] = []
        self.open: list[_Conversation] = []

    def note(self, text: str) -> str:
        self.noted.append(text)
        return text

    def fetch(self, request: _Request) -> Any:
        fitting = [answer for answer in self.http if (answer.method, answer.url) == (request.method, request.url)]
        if not fitting:
            raise _error("unreachable", self.note(f"the case has no response to {request.method} {request.url}"))
        answer = next((answer for answer in fitting if not answer.used), fitting[-1])
        answer.used = True
        for name, value in answer.request_headers.items():
            if request.headers.get(name.lower()) != value:
                self.note(f"{answer.method} {answer.url} was sent without the header `{name}: {value}`")
        if answer.request_body is not None and request.body != answer.request_body:
            sent = "no body" if request.body is None else _shown(request.body)
            self.note(f"{answer.method} {answer.url} was sent with {sent}, not {_shown(answer.request_body)}")
        if answer.unreachable is not None:
            raise _error("unreachable", answer.unreachable)
        headers = [(name, value.encode()) for name, value in answer.headers]
        return SimpleNamespace(status=lambda: answer.status, headers=lambda: headers, body=lambda: answer.body)

    def connect(self, peer: str, is_local: bool) -> _Conversation:
        talk = next((talk for talk in self.tcp if talk.peer == peer and not talk.used), None)
        if talk is None:
            raise _error("unreachable", self.note(f"the case has no more conversations with {peer}"))
        talk.used = True
        if talk.unreachable is not None:
            raise _error("unreachable", talk.unreachable)
        conversation = _Conversation(self, peer, is_local, list(talk.turns))
        self.open.append(conversation)
        conversation.advance()
        return conversation

    def file(self, path: str) -> Any:
        if path not in self.files:
            raise _error("failed", self.note(f"the case has no file `{path}`"))
        self.read.add(path)
        content = self.files[path]
        if isinstance(content, str):
            raise _error("failed", f"cannot read `{path}`: {content}")
        stat = SimpleNamespace(size=len(content), modified_ms=0, id=1 + sorted(self.files).index(path), attributes=[])
        return SimpleNamespace(
            stat=lambda: stat,
            read_at=lambda offset, max_bytes: content[offset : offset + min(max_bytes, 4 << 20)],
            __exit__=lambda *_: None,
        )

    def deviations(self) -> list[str]:
        for conversation in self.open:
            conversation.end()
        unused = [f"the response to {answer.method} {answer.url} was not used" for answer in self.http if not answer.used]
        silent = [f"the conversation with {talk.peer} was not used: the plugin did not connect" for talk in self.tcp if not talk.used]
        unread = [f"the file `{path}` was not read" for path in sorted(self.files) if path not in self.read]
        return [*self.noted, *unused, *silent, *unread]


class _Conversation:
    """A connection whose other side follows the script."""

    def __init__(self, script: _Script, peer: str, is_local: bool, turns: list[tuple[str, bytes]]) -> None:
        self.script, self.peer, self.local, self.turns = script, peer, is_local, turns
        self.written, self.unread, self.ended = b"", b"", False

    def advance(self) -> None:
        while self.turns:
            kind, content = self.turns[0]
            if kind == "send":
                self.unread += content
            elif self.written.startswith(content):
                self.written = self.written[len(content) :]
            elif content.startswith(self.written):
                return
            else:
                text = f"the conversation with {self.peer} expects {_shown(content)}, the plugin wrote {_shown(self.written)}"
                self.turns, self.written = [], b""
                raise _error("unreachable", self.script.note(text))
            self.turns.pop(0)

    def read(self, max_bytes: int) -> bytes:
        if not self.unread and self.turns:
            raise _error("unreachable", f"the plugin reads, but the case expects it to write {_shown(self.turns[0][1])}")
        data, self.unread = self.unread[:max_bytes], self.unread[max_bytes:]
        return data

    def write(self, data: bytes) -> None:
        self.written += data
        self.advance()

    def write_secret(self, prefix: bytes, secret: _SecretText, suffix: bytes) -> None:
        self.write(prefix + secret.text.encode() + suffix)

    def is_local(self) -> bool:
        return self.local

    def finish(self) -> None:
        pass

    def start_tls(self, options: _TlsOptions) -> Any:
        return SimpleNamespace(protocol="TLSv1.3", alpn=None, verified="full", chain=[], attributes=[])

    def set_timeout(self, timeout_ms: int | None) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self.turns:
            self.script.note(f"the conversation with {self.peer} ended before the plugin wrote {_shown(self.turns[0][1])}")
        elif self.written:
            self.script.note(f"at the end of the conversation with {self.peer} the plugin wrote {_shown(self.written)}")
        if self.unread:
            self.script.note(f"the conversation with {self.peer} ended before the plugin read {_shown(self.unread)}")


def _shown(data: bytes) -> str:
    return json.dumps(data.decode(errors="replace")[:200], ensure_ascii=False)


def _scram(password: _SecretText, salt: bytes, iterations: int, auth_message: str) -> Any:
    if not salt or iterations < 4_096:
        raise _error("invalid", "the salt is empty, or there are less than 4096 iterations")
    if iterations > 100_000:
        raise _error("too-costly", "more than 100000 iterations (pbkdf2_iterations)")
    salted = hashlib.pbkdf2_hmac("sha256", password.text.encode(), salt, iterations)

    def mac(key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, "sha256")

    client = mac(salted, b"Client Key")
    signature = mac(hashlib.sha256(client).digest(), auth_message.encode())
    proof = bytes(one ^ other for one, other in zip(client, signature))
    server = mac(mac(salted, b"Server Key"), auth_message.encode())
    return SimpleNamespace(client_proof=proof, server_signature=server, attributes=[])


def _postgres_md5(password: _SecretText, user: str, salt: bytes) -> str:
    inner = hashlib.md5((password.text + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


# The cases of `wasaba plugin test`.

# `imports` and `max_compute_ms` are of the component, which there is not here.
_OF_A_CASE = {"name", "settings", "allow", "reveal", "virtual_host", "timeout_seconds", "minute", "imports", "max_compute_ms"}
_OF_A_MINUTE = {"http", "tcp", "files", "samples", "error", "check", "metadata", "says", "call", "after_seconds", "log"}
# What only the agent does.
_OF_THE_AGENT = {
    "custom_identifier",
    "digest",
    "engine",
    "exclude_pattern",
    "hosts",
    "include_pattern",
    "interval_minutes",
    "key_prefix",
    "limits",
    "tls",
}


def cases(file: str | Path) -> list[Case]:
    """The cases of a file such as `tests.toml`, without those that only the agent can run."""
    path = Path(file)
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("case", [])
    if not tables:
        raise ValueError(f"{path} has no case: write `[[case]]`")
    return [case for case in (Case(path, table) for table in tables) if not case.of_the_agent]


class Case:
    """A case of `wasaba plugin test`."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path, self.table = path, table
        self.name = str(table["name"])
        self.minutes = table.get("minute") or [{key: table[key] for key in _OF_A_MINUTE & set(table)}]
        for key in set(table) - _OF_A_CASE - _OF_A_MINUTE - _OF_THE_AGENT:
            raise ValueError(f"{path}: case {self.name!r} has an unknown key `{key}`")
        errors = {minute.get("error") for minute in self.minutes}
        #: Whether only the agent can run it.
        self.of_the_agent = bool(_OF_THE_AGENT & set(table)) or bool(errors & {"late", "limit", "crashed", "internal"})

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<case {self.name!r}>"

    def run(self, plugin: Plugin) -> None:
        """Runs it; an `AssertionError` says how the result differs."""
        table = self.table
        host = Host(allow=table.get("allow", ()), reveal=table.get("reveal", False), virtual_host=table.get("virtual_host"))
        counters: dict[tuple[str | None, str], tuple[float, int]] = {}
        differences = []
        for number, minute in enumerate(self.minutes, 1):
            host.now += minute.get("after_seconds", 60)
            host.script = self._script(minute)
            before = len(host.logged)
            lines = self._play(plugin, host, minute, counters) + host.script.deviations()
            if "log" in minute:
                logged = [self._redacted(plugin, f"{level}: {line}") for level, line in host.logged[before:]]
                lines += _other_log(minute["log"], logged)
            where = f"minute {number}: " if len(self.minutes) > 1 else ""
            differences += [where + line for line in lines]
        if differences:
            raise AssertionError(f"{self.path}, {self.name!r}:\n  " + "\n  ".join(differences))

    def _content(self, content: Any) -> bytes:
        if isinstance(content, dict):
            if "file" in content:
                return (self.path.parent / str(content["file"])).read_bytes()
            return bytes.fromhex(str(content["hex"]))
        return _bytes(content)

    def _script(self, minute: Mapping[str, Any]) -> _Script:
        host = Host()
        for answer in minute.get("http", ()):
            more = {key: answer[key] for key in answer if key not in ("url", "body", "request_body")}
            body = answer.get("request_body")
            host.answers(
                answer["url"],
                self._content(answer.get("body", "")),
                request_body=None if body is None else self._content(body),
                **more,
            )
        for talk in minute.get("tcp", ()):
            turns = [{kind: self._content(content) for kind, content in turn.items()} for turn in talk.get("talk", ())]
            host.talks(talk["with"], *turns, unreachable=talk.get("unreachable"))
        for path, content in minute.get("files", {}).items():
            if isinstance(content, dict) and "unreadable" in content:
                host.has_unreadable_file(path, str(content["unreadable"]))
            else:
                host.has_file(path, self._content(content))
        return host.script

    def _play(self, plugin: Plugin, host: Host, minute: Mapping[str, Any], counters: Any) -> list[str]:
        given, lines = self.table.get("settings", {}), []
        does = plugin.does()
        must_fail = (minute.get("call") or does[0]) if "error" in minute else None
        if must_fail and must_fail not in does:
            return [f"expected {must_fail} to fail, but the plugin does not have it"]
        if "samples" in minute or must_fail == "metrics":
            try:
                read = host.collect(plugin, given)
            except Exception as error:
                lines += self._failure(plugin, minute, error)
            else:
                values = posted(plugin, host, given, read, counters)
                if must_fail:
                    lines.append(f"expected a failure, got: {values}")
                else:
                    lines += _other_values(minute["samples"], values)
                lines += [f"{problem.target}: {problem.error}" for problem in read.problems]
        if "check" in minute or must_fail == "checks":
            try:
                reports = host.check(plugin, given)
            except Exception as error:
                lines += self._failure(plugin, minute, error)
            else:
                worst = max(reports, key=lambda report: ("ok", "unknown", "warning", "critical").index(report.status))
                if must_fail:
                    lines.append(f"expected a failure, got: {worst.message}")
                elif worst.status != minute["check"]:
                    lines.append(f"the check is {worst.status}: {worst.message}")
                else:
                    lines += _missing_text(minute, worst.message)
        if "metadata" in minute or must_fail == "metadata":
            try:
                documents, problems = host.metadata(plugin, given)
            except Exception as error:
                lines += self._failure(plugin, minute, error)
            else:
                own = next((json.loads(self._redacted(plugin, document.text())) for document in documents if not document.namespace), None)
                if must_fail:
                    lines.append(f"expected a failure, got: {own}")
                elif own != minute["metadata"]:
                    lines.append(f"the metadata is {own}")
                lines += [f"{problem.target}: {problem.error}" for problem in problems]
        return lines

    def _redacted(self, plugin: Plugin, text: str) -> str:
        """What the plugin says, without the texts of secrets, as the agent hands it on."""
        given = self.table.get("settings", {})
        for setting in plugin.settings:
            if setting.kind == "secret" and setting.key in given:
                for secret in filter(None, _written(setting, given[setting.key])):
                    text = text.replace(secret, "[redacted]")
        return text

    def _failure(self, plugin: Plugin, minute: Mapping[str, Any], error: Exception) -> list[str]:
        kind, message, _, _ = told(error)
        message = self._redacted(plugin, message)
        if minute.get("error") == kind:
            return _missing_text(minute, message)
        return [f"failed ({kind}): {message}"]


def _missing_text(minute: Mapping[str, Any], text: str) -> list[str]:
    says = minute.get("says", "")
    return [] if says in text else [f"expected a message with {says!r}, got: {text}"]


def _other_log(expected: list[str], actual: list[str]) -> list[str]:
    lines = [
        f"the log has {line!r}, not one with {text!r}" for text, line in zip(expected, actual) if text not in line
    ]
    lines += [f"missing in the log: {text!r}" for text in expected[len(actual) :]]
    lines += [f"unexpected in the log: {line!r}" for line in actual[len(expected) :]]
    return lines


def _other_values(expected: Mapping[str, float], actual: dict[str, float]) -> list[str]:
    lines = [f"missing: {name} = {value}" for name, value in expected.items() if name not in actual]
    lines += [f"unexpected: {name} = {value}" for name, value in actual.items() if name not in expected]
    for name in expected.keys() & actual.keys():
        if not math.isclose(expected[name], actual[name], rel_tol=2e-15):
            lines.append(f"{name} is {actual[name]}, not {expected[name]}")
    return lines


def posted(plugin: Plugin, host: Host, given: Mapping[str, Any], read: Readings, counters: Any) -> dict[str, float]:
    """The values that the agent would post of these readings. `counters` keeps the last reading of each counter."""
    with host:
        graphs = plugin.all_graphs(host.settings(plugin, given))
    rules = [(metric.pattern.split("."), metric) for graph in graphs for metric in graph.metrics]
    values: dict[str, float] = {}
    for sample in read.samples:
        parts = sample.name.split(".")
        metric = next(
            metric
            for pattern, metric in rules
            if len(pattern) == len(parts) and all(part == own or own in ("*", "#") for part, own in zip(parts, pattern))
        )
        value: float | None = sample.value
        if metric.reading != "gauge":
            time = sample.unix_seconds if sample.unix_seconds is not None else host.now
            before = counters.get((sample.host, sample.name))
            counters[sample.host, sample.name] = (sample.value, time)
            value = _growth(metric.reading, before, sample.value, time)
        if value is not None:
            name = f"{sample.host}:{sample.name}" if sample.host else sample.name
            values[name] = value * (metric.scale if metric.scale is not None else 1)
    return values


def _growth(reading: str, before: tuple[float, int] | None, value: float, time: int) -> float | None:
    if before is None or not 1 <= time - before[1] <= 600:
        return None
    growth = value - before[0]
    if growth < 0 and reading == "per-minute-32" and growth + (1 << 32) < 1 << 31:
        growth += 1 << 32
    if growth < 0:
        return None
    return growth if reading == "delta" else growth / (time - before[1]) * (1 if reading == "per-second" else 60)
