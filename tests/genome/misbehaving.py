"""A loopback server that cuts, stalls, lies, corrupts, redirects and refuses, as a test tells it to."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `files` with Range, If-Range and strong ETags; `faults` of a path replace its next answers, one each.

    A fault of ``forever`` replaces all answers. `asked` holds (method, path, headers) of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.forever: dict[str, Fault] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def paths(self, method: str = "GET") -> list[str]:
        return [path for asked, path, _ in self.asked if asked == method]

    def ranges(self, path: str) -> list[str | None]:
        return [headers.get("Range") for method, asked, headers in self.asked if (method, asked) == ("GET", path)]

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        faults = self.server.faults.get(self.path) if self.command == "GET" else None
        with self.server.counted():
            if fault := faults.pop(0) if faults else self.server.forever.get(self.path):
                fault(self)
            else:
                serve(self)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


Fault = Callable[[_Handler], None]


def serve(
    handler: _Handler,
    upto: int | None = None,
    length: int | None = None,
    ranges: bool = True,
    tag: str | None = None,
    heed_if_range: bool = True,
    change: Callable[[bytes], bytes] = lambda data: data,
) -> None:
    """Answer as a good server does, but for what is asked."""
    whole = handler.server.files.get(handler.path)
    if whole is None:
        return refuse(404)(handler)
    tag = tag or '"' + hashlib.md5(whole).hexdigest() + '"'
    body, start = change(whole), 0
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    is_same = not heed_if_range or handler.headers.get("If-Range", tag) == tag
    if wanted and ranges and is_same:
        start = int(wanted[1])
        if start >= len(whole):
            return refuse(416)(handler)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole) - start if length is None else length))
    handler.send_header("Content-Encoding", "gzip")  # as some servers label every .gz: the bytes must stay as they are
    if tag != "none":
        handler.send_header("ETag", tag)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body[start:upto])


def refuse(code: int, **headers: str) -> Fault:
    def fault(handler: _Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def misserve(**options: object) -> Fault:
    return lambda handler: serve(handler, **options)  # type: ignore[arg-type]


def stall(after: int) -> Fault:
    """Send some bytes, and then none until the server is told to end."""

    def fault(handler: _Handler) -> None:
        serve(handler, upto=after)
        handler.wfile.flush()
        handler.server.released.wait()

    return fault


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
