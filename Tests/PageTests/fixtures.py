"""A server for the tests of the page's logic: the page's files, an empty page, and random event streams."""

import http.server
import pathlib
import random
import threading

SITE = pathlib.Path(__file__).resolve().parents[2] / "Sources/Gateway/Page/Site"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8"}
EMPTY = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>tests</title><link rel="icon" href="data:,">'
    b'<link rel="stylesheet" href="/page/base.css"><link rel="stylesheet" href="/page/answer.css">'
    b'<body><div id="live"></div><div id="toast" hidden></div>'
)


def event_stream(seed):
    """A stream with all that the standard allows, and ends that complete no event."""
    draw = random.Random(seed)
    lines = []
    for _ in range(draw.randrange(4, 30)):
        kind = draw.randrange(8)
        text = "".join(
            draw.choice(["a", ":", " ", "ü", "🙂", '{"x":1}', "data", "\t"]) for _ in range(draw.randrange(6))
        )
        if kind < 3:
            lines.append(draw.choice(["data: ", "data:", "data:  "]) + text)
        elif kind == 3:
            lines.append(draw.choice([": ", ":"]) + text)
        elif kind == 4:
            lines.append("event: " + draw.choice(["tick", "message", ""]))
        elif kind == 5:
            lines.append(
                draw.choice(["data", "id: 7", "retry: 100000", "unknown: 1", "Data: no", " data: no", "event"])
            )
        else:
            lines.append("")
    return "".join(line + draw.choice(["\n", "\r\n", "\r"]) for line in lines)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            return self.answer(EMPTY, "text/html")
        if self.path == "/logic.js":
            return self.answer((pathlib.Path(__file__).parent / "logic.js").read_bytes(), TYPES[".js"])
        if self.path.startswith("/stream/"):
            return self.answer(event_stream(int(self.path.split("/")[2])).encode(), "text/event-stream")
        file = SITE / self.path.removeprefix("/page/")
        if file.parent == SITE and file.is_file():
            return self.answer(file.read_bytes(), TYPES[file.suffix])
        return self.send_error(404)

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Fixtures:
    def __enter__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
