"""An ASGI application that answers with its generation.

    uvicorn --app-dir DIR --fd 3 app:app

    /           "generation=N pid=P"
    /slow?ms=M  the same after M milliseconds
    /healthz    "ok"
"""

import asyncio
import os
from urllib.parse import parse_qs

GENERATION = os.environ.get("HOLDFAST_GENERATION", "0")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return  # no lifespan, no websockets
    if scope["path"] == "/slow":
        query = parse_qs(scope["query_string"].decode())
        await asyncio.sleep(min(int(query.get("ms", ["0"])[0]), 60_000) / 1000)
    body = b"ok\n" if scope["path"] == "/healthz" else f"generation={GENERATION} pid={os.getpid()}\n".encode()
    await send({
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(body)).encode()),
            (b"x-generation", GENERATION.encode()),
        ],
    })
    await send({"type": "http.response.body", "body": body})
