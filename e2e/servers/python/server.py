"""An HTTP server that binds its address in one of the ways that servers do, and answers with its generation.

    server.py HOST:PORT [WAY…]

    thread        binds and listens in another thread than the main one
    fork          two forked workers bind for themselves, with SO_REUSEPORT
    prefork       binds, then two forked workers accept
    drop=USER     binds, then becomes the user, as its workers do
    drop-between=U  becomes the user between bind and listen
    drop-first=U  becomes the user, then binds, without an execve(2) between
    i386          binds by the system calls of i386, from this 64-bit process
    abrupt        has no handler for SIGTERM, so that it dies of it at once
    close-on=SIG  closes its listener at the signal and stays alive

    /           "generation=N pid=P"
    /slow?ms=M  the same after M milliseconds
    /wait?for=F the same when the file F exists
    /healthz    "ok"

On SIGTERM it accepts no more, answers what it has begun, and exits.
"""

import ctypes
import mmap
import os
import pwd
import signal
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GENERATION = os.environ.get("HOLDFAST_GENERATION", "0")
stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # of a kept connection, which would hold up the end

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/slow":
            time.sleep(min(int(parse_qs(url.query)["ms"][0]), 60_000) / 1000)
        while url.path == "/wait" and not os.path.exists(parse_qs(url.query)["for"][0]):
            time.sleep(0.005)
        body = b"ok\n" if url.path == "/healthz" else f"generation={GENERATION} pid={os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Generation", GENERATION)
        if stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    disable_nagle_algorithm = True


def become(user):
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def bind_as_i386(s, host, port):
    """bind(2) by int 0x80, whose numbers and pointers are those of i386 (bind is 361 there)."""
    low = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40,  # MAP_32BIT
                    prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    at = ctypes.addressof(ctypes.c_char.from_buffer(low))
    address = struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8)
    code = (b"\x53\xb8" + struct.pack("<I", 361) +          # push rbx; mov eax, bind
            b"\xbb" + struct.pack("<I", s.fileno()) +       # mov ebx, descriptor
            b"\xb9" + struct.pack("<I", at + 1024) +        # mov ecx, address
            b"\xba" + struct.pack("<I", len(address)) +     # mov edx, its length
            b"\xcd\x80\x5b\xc3")                            # int 0x80; pop rbx; ret
    low[1024:1024 + len(address)] = address
    low[0:len(code)] = code
    failed = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    if failed:
        raise OSError(-failed, os.strerror(-failed))


def listen(host, port, ways):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "fork" in ways:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if "i386" in ways:
        bind_as_i386(s, host, port)
    else:
        s.bind((host, port))
    if "drop-between" in ways:
        become(ways["drop-between"])
    s.listen(511)
    return s


def serve(s, ways):
    server = Server(s.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = s
    if "close-on" in ways:
        signal.signal(signal.Signals["SIG" + ways["close-on"]], lambda *_: stop(server, alive=True))
    if "abrupt" not in ways:
        signal.signal(signal.SIGTERM, lambda *_: stop(server))
    server.serve_forever(poll_interval=0.05)
    while not stopping.is_set():  # closed, and alive
        signal.pause()
    server.server_close()


def stop(server, alive=False):
    def end():
        server.shutdown()
        if alive:
            server.socket.close()

    if not alive:
        stopping.set()
    threading.Thread(target=end).start()  # shutdown() waits for the loop that this handler interrupts


def workers(n, work):
    """Forks n workers and passes SIGTERM on to them."""
    children = []
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            work()
            os._exit(0)
        children.append(pid)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in children])
    for pid in children:
        os.waitpid(pid, 0)


def main(address, *words):
    ways = dict(w.partition("=")[::2] for w in words)
    host, _, port = address.rpartition(":")
    place = host.strip("[]"), int(port), ways
    if "drop-first" in ways:
        become(ways["drop-first"])
    if "fork" in ways:
        return workers(2, lambda: serve(listen(*place), ways))
    if "thread" in ways:
        made = []
        thread = threading.Thread(target=lambda: made.append(listen(*place)))
        thread.start()
        thread.join()
        s = made[0]
    else:
        s = listen(*place)
    if "drop" in ways:
        become(ways["drop"])
    if "prefork" in ways:
        s.setblocking(False)  # both workers are woken by a connection, and one gets it
        return workers(2, lambda: serve(s, ways))
    serve(s, ways)


if __name__ == "__main__":
    main(*sys.argv[1:])
