"""The WSGI application behind gunicorn. SUBJECT_FAULT names a file with what is wrong with the next generation."""

import os
import threading
import time

BODY = None
WEDGED = threading.Event()


def begin():
    try:
        with open(os.environ.get("SUBJECT_FAULT", "")) as f:
            fault = f.read().strip()
    except OSError:
        fault = ""
    if fault == "exit":
        os._exit(3)
    if fault == "crash":
        threading.Timer(1.5, os._exit, [70]).start()
    if fault == "never":
        time.sleep(3600)
    if fault == "wedge":
        threading.Timer(1.5, WEDGED.set).start()
    if fault == "slow":
        time.sleep(0.25)


begin()


def app(environ, start_response):
    if WEDGED.is_set():
        time.sleep(3600)
    body = b"pid=%d\n" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
