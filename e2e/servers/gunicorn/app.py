"""A WSGI application that answers with its generation.

    gunicorn --chdir DIR -w 2 app:app

Debian's gunicorn 20.1 takes the sockets of LISTEN_FDS by itself when LISTEN_PID is its own pid.

    /           "generation=N pid=P"
    /slow?ms=M  the same after M milliseconds
    /healthz    "ok"
"""

import os
import time
from urllib.parse import parse_qs

GENERATION = os.environ.get("HOLDFAST_GENERATION", "0")


def app(environ, start_response):
    path = environ.get("PATH_INFO", "/")
    if path == "/slow":
        query = parse_qs(environ.get("QUERY_STRING", ""))
        time.sleep(min(int(query.get("ms", ["0"])[0]), 60_000) / 1000)
    body = b"ok\n" if path == "/healthz" else f"generation={GENERATION} pid={os.getpid()}\n".encode()
    start_response("200 OK", [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("X-Generation", GENERATION),
    ])
    return [body]
