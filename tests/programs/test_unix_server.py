"""A multi-process server on an AF_UNIX socket under load: no byte lost or out of order."""

from __future__ import annotations

import textwrap

import pytest

from tests.harness import FULL, Sandbox

MEGABYTES = 100
SERVER = """
    import hashlib, os, random, socket, struct, sys
    clients, total = 8, int(sys.argv[1]) << 20
    listener = socket.socket(socket.AF_UNIX); listener.bind("sock"); listener.listen(16)
    def serve():
        for _ in range(clients // 4):
            c, _ = listener.accept()
            with c:
                while True:  # echoes what comes, in pieces of its own size
                    data = c.recv(random.randrange(1, 65536))
                    if not data: break
                    c.sendall(data)
    def client(seed):
        r = random.Random(seed); size = total // clients; s = socket.socket(socket.AF_UNIX); s.connect("sock")
        if os.fork() == 0:
            left, sent = size, hashlib.sha256()
            while left:
                data = r.randbytes(min(left, r.randrange(1, 200000))); s.sendall(data); left -= len(data)
            s.shutdown(socket.SHUT_WR); os._exit(0)
        r, left = random.Random(seed), size
        want = b""
        while left:
            want = r.randbytes(min(left, r.randrange(1, 200000))); got = b""
            while len(got) < len(want):
                piece = s.recv(len(want) - len(got))
                assert piece, "closed early"
                got += piece
            assert got == want, "bytes differ"
            left -= len(want)
        assert s.recv(1) == b""; _, status = os.wait(); assert status == 0; os._exit(0)
    pids = []
    for job in [serve] * 4 + [lambda n=n: client(n) for n in range(clients)]:
        if (pid := os.fork()) == 0:
            code = 1
            try: job(); code = 0
            finally: os._exit(code)
        pids.append(pid)
    print([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids], total)
"""


@pytest.mark.timeout(900)
def test_server_under_load(sandbox: Sandbox) -> None:
    (sandbox.cwd / "server.py").write_text(textwrap.dedent(SERVER))
    done = sandbox.same(["python3", "server.py", str(MEGABYTES * (4 if FULL else 1))], timeout=400)
    assert done.out == f"{[0] * 12} {MEGABYTES * (4 if FULL else 1) << 20}\n"
