"""A WSGI application that is configured by its environment.

GREETING and APP_VERSION (a number) must be there, or it does not start.
"""

import os

GREETING = os.environ["GREETING"]
VERSION = int(os.environ["APP_VERSION"])
GENERATION = os.environ.get("HOLDFAST_GENERATION", "0")


def app(environ, start_response):
    healthy = environ.get("PATH_INFO") == "/healthz"
    body = b"ok\n" if healthy else f"{GREETING}, version={VERSION}\n".encode()
    start_response("200 OK", [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("X-Generation", GENERATION),
    ])
    return [body]
