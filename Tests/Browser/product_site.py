"""A web site of a product that uses Carillon: its pages, its tokens, and a way to the service through which trouble can be made."""

import http.client
import socket
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness import eventually

PAGES = Path(__file__).resolve().parent / "pages"


def shipped(package, path):
    """A file of a package that is there for its files alone (requirements-files.txt), where nothing imports it."""
    return Path(sys.prefix) / "files" / package / path


# The folders of React's two scripts by its version: Debian's, and the one that ships with Dash.
REACT = {
    "18": (Path("/usr/share/nodejs/react/umd/react.development.js"), Path("/usr/share/nodejs/react-dom/umd/react-dom.development.js")),
    "18-production": (Path("/usr/share/nodejs/react/umd/react.production.min.js"), Path("/usr/share/nodejs/react-dom/umd/react-dom.production.min.js")),
    "19": (shipped("dash", "deps/react@19.2.4.js"), shipped("dash", "deps/react-dom@19.2.4.js")),
}
SCRIPTS = {
    "/vendor/socket.io.js": shipped("nicegui", "static/socket.io.min.js"),
    **{f"/react/{version}/{name}.js": file for version, files in REACT.items() for name, file in zip(("react", "react-dom"), files, strict=True)},
}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
VENDOR = {"/vendor/react.js": "react.js", "/vendor/react-dom-client.js": "react-dom-client.js"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection", "content-length"}


class Site:
    """Serves `/site/…` from `pages`, scripts of others, `/token?user=&ttl=`, and examples; everything else is the service's."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.upstream = cluster.url
        # (method, path) of what went to the service, in order.
        self.requests = []
        self.tokens = []
        # Pages of the documentation, and who is signed in to them.
        self.examples = {}
        self.session = None
        # As a proxy that hands a body on when it is whole.
        self.buffers = False
        self._refusals = []
        self._streams = set()
        self._frozen = set()
        self._lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def answer_any(self):
                site.answer(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = answer_any

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    # --- Trouble ---------------------------------------------------------------------------------------------------------

    def reset(self):
        self.buffers = False
        self.upstream = self.cluster.url
        with self._lock:
            self._refusals.clear()
            self.requests.clear()
            self._frozen.clear()

    def refuse(self, method, path, status, times=1):
        """The next requests for a path that begins so are answered with that status, and do not reach the service."""
        with self._lock:
            self._refusals += [(method, path, status)] * times

    def cut(self):
        """Ends the streams that are open, as a dying proxy does."""
        with self._lock:
            streams, self._streams = self._streams, set()
        for connection in streams:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze(self):
        """Nothing more comes through the streams that are open, and they do not end."""
        with self._lock:
            self._frozen |= self._streams

    def tokens_made_for(self, user):
        return self.tokens.count(user.name)

    def count(self, method, path):
        with self._lock:
            return sum(1 for asked, target in self.requests if asked == method and target.startswith(path))

    # --- Answers ---------------------------------------------------------------------------------------------------------

    def answer(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else b""
        path = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(path.query))
        if path.path == "/token":
            self.tokens.append(query["user"])
            options = ("--ttl", query["ttl"]) if "ttl" in query else ()
            self.send(handler, 200, "text/plain", self.cluster.token(query["user"], *options).encode())
        elif path.path.startswith("/site/"):
            self.send(handler, 200, TYPES[Path(path.path).suffix], (PAGES / path.path[6:]).read_bytes())
        elif path.path in SCRIPTS:
            self.send(handler, 200, TYPES[".js"], SCRIPTS[path.path].read_bytes())
        elif path.path == "/session/token":
            self.send(handler, 200, "text/plain", self.cluster.token(self.session).encode())
        elif path.path in self.examples:
            self.send(handler, 200, TYPES[".html"], self.examples[path.path].encode())
        elif path.path in VENDOR:
            self.send(handler, 200, TYPES[".js"], (PAGES / VENDOR[path.path]).read_bytes())
        elif path.path == "/favicon.ico":
            self.send(handler, 204, "image/x-icon", b"")
        else:
            with self._lock:
                self.requests.append((handler.command, path.path))
                refusal = next((each for each in self._refusals if each[0] == handler.command and path.path.startswith(each[1])), None)
                if refusal:
                    self._refusals.remove(refusal)
            if refusal:
                self.send(handler, refusal[2], "text/html", b"<h1>A proxy's own words</h1>")
            else:
                self.forward(handler, body)

    def send(self, handler, status, media_type, body):
        handler.send_response(status)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Cache-Control", "no-store")
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if status != 204 and handler.command != "HEAD":
            handler.wfile.write(body)

    def forward(self, handler, body):
        upstream = urllib.parse.urlsplit(self.upstream)
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=120)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.send(handler, 502, "text/html", b"<h1>Bad gateway</h1>")
            return
        try:
            self.pass_on(handler, response)
        finally:
            response.close()
            connection.close()

    def pass_on(self, handler, response):
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        is_stream = response.getheader("content-type", "").startswith("text/event-stream")
        if is_stream:
            threading.Thread(target=self._end_with, args=(handler.connection, response), daemon=True).start()
        try:
            whole = None if is_stream and not self.buffers else response.read()
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
            return
        handler.send_response(response.status)
        for name, value in headers:
            handler.send_header(name, value)
        if whole is not None:
            if response.status not in (204, 304):
                handler.send_header("Content-Length", str(len(whole)))
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(whole)
            return
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        client = handler.connection
        with self._lock:
            self._streams.add(client)
        try:
            while part := response.read1(65536):
                if client in self._frozen:
                    # Until the client gives up.
                    eventually("the client closes the frozen stream", lambda: client.fileno() < 0 or _is_closed(client), timeout=120)
                    return
                client.sendall(part)
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            with self._lock:
                self._streams.discard(client)
                self._frozen.discard(client)

    def _end_with(self, client, response):
        """When the browser closes its stream, so does the proxy, which else would notice with the next ping."""
        try:
            while client.recv(1024):
                pass
        except OSError:
            pass
        try:
            upstream = response.fp.raw._sock  # noqa: SLF001
            upstream.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass


def _is_closed(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
