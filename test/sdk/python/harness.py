"""What the scenarios share: how they are registered and reported, how they wait, and the HTTP
service that HTTP tasks call."""

import json
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEADLINE = 30.0  # seconds until a condition that never holds fails its scenario

_scenarios = []


def scenario(fn):
    """Registers fn; scenarios run in the order of the file."""
    _scenarios.append(fn)
    return fn


def run_all(only=()):
    """Runs the scenarios, one line each, and returns how many failed."""
    failed = 0
    chosen = [fn for fn in _scenarios if not only or fn.__name__ in only]
    for fn in chosen:
        began = time.monotonic()
        try:
            fn()
        except Exception:
            failed += 1
            print(f"FAIL python {fn.__name__} {time.monotonic() - began:.2f}s", flush=True)
            traceback.print_exc(file=sys.stdout)
            continue
        print(f"ok   python {fn.__name__} {time.monotonic() - began:.2f}s", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return failed


def eventually(probe, what, deadline=DEADLINE):
    """Returns the first true result of probe, or fails with its last result."""
    until = time.monotonic() + deadline
    last = None
    while time.monotonic() < until:
        last = probe()
        if last:
            return last
        time.sleep(0.02)
    raise AssertionError(f"not within {deadline}s: {what} (last: {last!r})")


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def refused(call, status, what):
    """Asserts that call is refused with the HTTP status."""
    try:
        call()
    except Exception as e:
        got = getattr(e, "status", None)
        if got is None:
            got = getattr(e, "code", None)
        equal(got, status, what)
        return e
    raise AssertionError(f"{what}: not refused, want status {status}")


class _Echo(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        size = int(self.headers.get("Content-Length", "0"))
        self._answer(json.loads(self.rfile.read(size) or b"null"))

    def _answer(self, body):
        status = 503 if self.path.startswith("/broken") else 200
        answer = {"path": self.path, "body": body, "tag": self.headers.get("X-Tag")}
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def http_service():
    """Starts the service that HTTP tasks call and returns its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
