"""python3: the standard library's concurrency, files and processes."""

from __future__ import annotations

import re
import resource
import textwrap
import tomllib
from pathlib import Path

import pytest

from tests.harness import FULL, Sandbox, native

PROGRAMS = {
    "asyncio": """
        import asyncio, sys
        async def echo(reader, writer):
            while data := await reader.readline():
                writer.write(data.upper()); await writer.drain()
            writer.close()
        async def client(n):
            r, w = await asyncio.open_unix_connection("sock")
            out = []
            for i in range(50):
                w.write(f"{n} says {i}\\n".encode()); out.append(await r.readline())
            w.close(); await w.wait_closed()
            return b"".join(out)
        async def main():
            server = await asyncio.start_unix_server(echo, "sock")
            results = await asyncio.gather(*(client(n) for n in range(20)))
            print(sum(map(len, results)), results[7][-20:])
            p = await asyncio.create_subprocess_exec("sh", "-c", "read x; echo got $x; exit 3", stdin=-1, stdout=-1)
            print(await p.communicate(b"it\\n"), p.returncode)
            try:
                await asyncio.wait_for(asyncio.sleep(10), 0.1)
            except asyncio.TimeoutError:
                print("timeout")
            print(await asyncio.to_thread(sum, range(1000)))
            server.close()
        asyncio.run(main())
        """,
    "multiprocessing": """
        import multiprocessing as mp, os
        def work(n):
            return n * n
        def put(q, l, v, n):
            with l:
                v.value += n
            q.put(n)
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                ctx = mp.get_context(method)
                with ctx.Pool(4) as pool:
                    print(method, sum(pool.map(work, range(2000), 50)))
            q, l, v = mp.Queue(), mp.Lock(), mp.Value("i", 0)
            ps = [mp.Process(target=put, args=(q, l, v, i)) for i in range(4)]
            [p.start() for p in ps]; print(sorted(q.get() for _ in ps)); [p.join() for p in ps]
            print(v.value, [p.exitcode for p in ps])
            a, b = mp.Pipe(); b.send(list(range(1000))); print(len(a.recv()))
        """,
    "threading": """
        import threading, queue
        lock, total, barrier, sem = threading.Lock(), 0, threading.Barrier(50), threading.Semaphore(5)
        q = queue.Queue()
        def run(n):
            global total
            barrier.wait()
            for _ in range(200):
                with lock:
                    total += 1
            with sem:
                q.put(n)
        ts = [threading.Thread(target=run, args=(n,)) for n in range(50)]
        [t.start() for t in ts]; [t.join() for t in ts]
        print(total, sum(q.get() for _ in ts))
        cond, items = threading.Condition(), []
        def consumer(out):
            for _ in range(100):
                with cond:
                    cond.wait_for(lambda: items)
                    out.append(items.pop(0))
        out = []
        t = threading.Thread(target=consumer, args=(out,)); t.start()
        for i in range(100):
            with cond:
                items.append(i); cond.notify()
        t.join(); print(out == list(range(100)))
        e = threading.Event(); threading.Timer(0.05, e.set).start(); print(e.wait(5))
        local = threading.local(); local.x = 1; print(local.x)
        """,
    "subprocess": """
        import subprocess, sys, os, signal
        print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 5"], capture_output=True))
        tree = "import subprocess, sys; n = int(sys.argv[1]); print(n, flush=True); n and sys.exit(subprocess.run([sys.executable, '-c', sys.argv[2], str(n-1), sys.argv[2]]).returncode + 1)"
        print(subprocess.run([sys.executable, "-c", tree, "6", tree], stdout=subprocess.PIPE).stdout, flush=True)
        p = subprocess.Popen(["cat"], stdin=-1, stdout=-1); data = os.urandom(3_000_000)
        print(p.communicate(data)[0] == data)
        try:
            subprocess.run(["sleep", "10"], timeout=0.2)
        except subprocess.TimeoutExpired as e:
            print(type(e).__name__, round(e.timeout, 1))
        p = subprocess.Popen(["sleep", "10"], start_new_session=True); os.killpg(p.pid, signal.SIGTERM); print(p.wait())
        try:
            subprocess.run(["/no/such"])
        except FileNotFoundError as e:
            print(e)
        r, w = os.pipe(); subprocess.run(["sh", "-c", f"echo via fd >&{w}"], pass_fds=[w]); os.close(w); print(os.read(r, 100))
        ps = [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(20)]; print([p.wait() for p in ps])
        """,
    "sqlite": """
        import sqlite3, os
        for mode in ("delete", "wal"):
            db = sqlite3.connect(f"{mode}.db"); print(db.execute(f"pragma journal_mode={mode}").fetchone())
            db.execute("create table t (id integer primary key, name text, n real)")
            with db:
                for i in range(20000):
                    db.execute("insert into t (name, n) values (?, ?)", (f"name {i * 7919 % 20011}", i / 3))
            with db:
                db.execute("create index names on t (name)"); db.execute("delete from t where id % 3 = 0")
            for i in range(30):
                with db: db.execute("update t set n = n + 1 where id = ?", (i,))
            print(db.execute("select count(*), sum(n), min(name), max(name) from t").fetchone())
            db.execute("vacuum"); print(db.execute("pragma integrity_check").fetchone()); db.close()
            other = sqlite3.connect(f"{mode}.db"); print(other.execute("select name from t where id = 20000").fetchall())
        """,
    "tempfile": """
        import tempfile, os, shutil
        with tempfile.TemporaryDirectory() as d:
            for i in range(100):
                with tempfile.NamedTemporaryFile(dir=d, delete=i % 2 == 0) as f: f.write(b"x" * i)
            print(len(os.listdir(d)), sum(e.stat().st_size for e in os.scandir(d)))
            shutil.copytree(d, d + "/copy"); print(len(os.listdir(d + "/copy")))
        print(os.path.exists(d))
        with tempfile.TemporaryFile() as f:
            f.write(b"hello"); f.seek(0); print(f.read(), os.fstat(f.fileno()).st_nlink)
        with tempfile.SpooledTemporaryFile(10) as f:
            f.write(b"x" * 100); print(f.tell())
        """,
    "mmap": """
        import mmap, os
        with open("m", "w+b") as f:
            f.truncate(1 << 20)
            m = mmap.mmap(f.fileno(), 0); m[5:10] = b"hello"; m[-1] = 7; m.flush()
            print(os.pread(f.fileno(), 12, 0), m.find(b"llo"), m[-1]); os.pwrite(f.fileno(), b"HE", 5); print(m[5:10])
            private = mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_COPY); private[0] = 1; print(m[0], private[0])
            m.resize(1 << 21); print(len(m), os.fstat(f.fileno()).st_size)
        anon = mmap.mmap(-1, 1 << 22)
        if (pid := os.fork()) == 0:
            anon[0:5] = b"child"; os._exit(0)
        os.waitpid(pid, 0); print(anon[0:5])
        big = mmap.mmap(-1, 1 << 31, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS ); big[1 << 30] = 9; print(big[1 << 30], big[0])
        with open("/usr/bin/bash", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m: print(m[:4], len(m))
        """,
    "select": """
        import select, os, socket, selectors, threading, time
        r, w = os.pipe(); print(select.select([r], [w], [], 0)[1] == [w]); threading.Timer(0.1, os.write, (w, b"x")).start()
        print(select.select([r], [], [], 5)[0] == [r]); p = select.poll(); p.register(r, select.POLLIN); print(p.poll(0)[0][1])
        e = select.epoll(); a, b = socket.socketpair(); e.register(a, select.EPOLLIN | select.EPOLLET); b.send(b"1")
        print(e.poll(1)[0][1], e.poll(0)); b.close(); print(e.poll(1)[0][1] & select.EPOLLHUP != 0)
        os.read(r, 1); t = time.monotonic(); print(select.select([r], [], [], 0.2), time.monotonic() - t >= 0.2)
        os.close(w); print(p.poll(0)[0][1] & select.POLLHUP)
        """,
    "signals": """
        import signal, os, time
        got = []; signal.signal(signal.SIGALRM, lambda s, f: got.append(s)); signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        while len(got) < 3: signal.pause()
        signal.setitimer(signal.ITIMER_REAL, 0); print(got[:3])
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1); print(signal.sigpending())
        print(signal.sigwaitinfo([signal.SIGUSR1]).si_signo, signal.sigtimedwait([signal.SIGUSR1], 0.05))
        try:
            signal.signal(signal.SIGUSR2, lambda *_: (_ for _ in ()).throw(KeyError("in handler"))); os.kill(os.getpid(), signal.SIGUSR2); time.sleep(1)
        except KeyError as e: print(e)
        """,
    "imports": """
        import importlib, sys
        names = sorted(n for n in sys.stdlib_module_names if not n.startswith("_") and n not in ("antigravity", "this", "idlelib", "turtledemo", "msilib", "winreg", "winsound", "nt", "ntpath", "tkinter", "turtle", "lib2to3", "distutils"))
        ok = []
        for n in names:
            try: importlib.import_module(n); ok.append(n)
            except ImportError: pass
        print(len(ok), ok[-5:])
        """,
    "files": """
        import os, pathlib, shutil, fcntl, errno
        for i in range(300): pathlib.Path(f"f{i}").write_text(str(i))
        print(sum(int(p.read_text()) for p in pathlib.Path(".").glob("f*")), len(os.listdir()))
        os.makedirs("a/b/c"); os.symlink("../..", "a/b/up"); print(os.path.realpath("a/b/up") == os.getcwd(), os.readlink("a/b/up"))
        for name in ("x" * 255, "x" * 256):
            try: open(name, "w").close(); print("made")
            except OSError as e: print(errno.errorcode[e.errno])
        os.rename("f1", "f2"); print(open("f2").read()); os.replace("f3", "a/b/c/f3"); shutil.move("a", "z"); print(sorted(os.listdir("z/b")))
        fd = os.open("lock", os.O_RDWR | os.O_CREAT); fcntl.lockf(fd, fcntl.LOCK_EX)
        if (pid := os.fork()) == 0:
            try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); os._exit(0)
            except OSError: os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); os.setxattr("f5", "user.k", b"v"); print(os.listxattr("f5"), os.getxattr("f5", "user.k"))
        print(os.statvfs(".").f_namemax, os.access("f5", os.X_OK), os.sendfile(os.open("out", os.O_RDWR | os.O_CREAT), os.open("f299", 0), 0, 3))
        """,
}
CPYTHON_TESTS = (
    "test_os test_subprocess test_threading test_signal test_mmap test_select test_fcntl test_tempfile test_shutil "
    "test_httplib"
).split()


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(sandbox: Sandbox, name: str) -> None:
    (sandbox.cwd / "program.py").write_text(textwrap.dedent(PROGRAMS[name]))
    done = sandbox.same(["python3", "program.py"], timeout=200)
    assert done.status == 0, done.err


def verdicts(text: str) -> dict[str, str]:
    """test id -> ok, skipped, FAIL, ERROR of `python3 -m test -v`."""
    found = re.findall(r"^(test\w+) \(([\w.]+)\)(?:\n.*?)?? \.\.\. (ok|skipped|FAIL|ERROR|expected failure)\b", text, re.M)
    return {f"{where}": verdict for _, where, verdict in found}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CPYTHON_TESTS)
def test_cpython_suite(sandbox: Sandbox, name: str) -> None:
    """CPython's own tests: what passes natively passes, what is skipped is skipped."""
    command = ["python3", "-m", "test", "-v", name]
    if not FULL:
        command += ["-i", "test_*leak*"]
    ours = sandbox.run(command, timeout=900)
    limits = sandbox.run(["sh", "-c", "ulimit -Sn; ulimit -Hn"]).out.split()  # tests that need few are skipped where there are more
    hard = min(int(limits[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    theirs = native(["prlimit", f"--nofile={limits[0]}:{hard}", *command], sandbox.cwd, timeout=900)
    a, b = verdicts(theirs.out + theirs.err), verdicts(ours.out + ours.err)
    assert len(a) >= 5
    different = {test: (a.get(test), b.get(test)) for test in a | b if a.get(test) != b.get(test)}
    known = tomllib.loads((Path(__file__).parent / "cpython_differences.toml").read_text()).get(name, {})
    assert set(different) == set(known), f"{different}\n{ours.out[-6000:]}"
