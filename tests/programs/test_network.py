"""Programs that use the network: servers and clients inside one sandbox, and across its border with host networking."""

from __future__ import annotations

import os
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Sandbox

STREAMS = """
    import asyncio, hashlib, random
    async def serve(reader, writer):
        while data := await reader.read(65536):
            writer.write(data); await writer.drain()
        writer.close()
    async def client(seed, address, size):
        reader, writer = await asyncio.open_connection(*address)
        r = random.Random(seed); sent = hashlib.sha256(); got = hashlib.sha256()
        async def send():
            left = size
            while left:
                data = r.randbytes(min(left, r.randrange(1, 100000))); sent.update(data); left -= len(data)
                writer.write(data); await writer.drain()
            writer.write_eof()
        job = asyncio.create_task(send())
        while data := await reader.read(50000): got.update(data)
        await job; writer.close()
        assert sent.digest() == got.digest()
    async def main():
        four = await asyncio.start_server(serve, "127.0.0.1", 0)
        six = await asyncio.start_server(serve, "::1", 0)
        places = [s.sockets[0].getsockname()[:2] for s in (four, six)]
        await asyncio.gather(*[client(n, places[n % 2], 700000) for n in range(10)])
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, t): self.t = t
            def datagram_received(self, data, addr): self.t.sendto(data.upper(), addr)
        class Ask(asyncio.DatagramProtocol):
            def __init__(self): self.done = asyncio.get_running_loop().create_future()
            def datagram_received(self, data, addr): self.done.set_result(data)
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        t, ask = await loop.create_datagram_endpoint(Ask, remote_addr=server.get_extra_info("sockname"))
        t.sendto(b"hello"); print(await ask.done)
    asyncio.run(main()); print("fine")
"""
HTTP = """
    import http.server, threading, urllib.request, urllib.error, ssl, os
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
        def do_POST(self):
            data = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201); self.end_headers(); self.wfile.write(data[::-1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    open("page", "wb").write(bytes(range(256)) * 4000)
    print(urllib.request.urlopen(url + "page").read() == bytes(range(256)) * 4000)
    r = urllib.request.urlopen(urllib.request.Request(url, data=b"x" * 300000 + b"y"))
    body = r.read(); print(r.status, len(body), body[:1])
    try: urllib.request.urlopen(url + "nothing")
    except urllib.error.HTTPError as e: print(e.code)
    server.shutdown(); server.server_close()
    try: urllib.request.urlopen(url)
    except urllib.error.URLError as e: print(e.reason)
"""
NGINX = """
    daemon off; master_process on; worker_processes 2; pid nginx.pid; error_log nginx.err; user root;
    events { worker_connections 256; }
    http { access_log off; sendfile on; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
      uwsgi_temp_path t4; scgi_temp_path t5;
      server { listen 127.0.0.1:%(port)d reuseport; listen [::1]:%(port)d; root %(root)s;
        location /p/ { proxy_pass http://127.0.0.1:%(port)d/; } } }
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
        return port


@contextmanager
def running(sandbox: Sandbox, command: list[str], port: int, options: list[str], where: str = "127.0.0.1") -> Iterator[None]:
    """A server in a sandbox, from when it answers on a TCP port."""
    with subprocess.Popen(
        sandbox.argv(command, options), cwd=sandbox.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        try:
            for _ in range(300):
                try:
                    socket.create_connection((where, port), 1).close()
                    break
                except OSError:
                    if p.poll() is not None:
                        break
                    time.sleep(0.1)
            if p.poll() is not None:
                raise AssertionError(f"the server ended with {p.returncode}: {p.communicate()}")
            yield
        finally:
            p.terminate()
            try:
                p.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                p.kill()
                raise


def test_asyncio_streams_and_datagrams(sandbox: Sandbox) -> None:
    (sandbox.cwd / "streams.py").write_text(textwrap.dedent(STREAMS))
    done = sandbox.same(["python3", "streams.py"], timeout=200)
    assert done.out == "b'HELLO'\nfine\n"


def test_http_server_and_client(sandbox: Sandbox) -> None:
    (sandbox.cwd / "http_test.py").write_text(textwrap.dedent(HTTP))
    done = sandbox.same(["python3", "http_test.py"], timeout=120)
    assert done.out == "True\n201 300001 b'y'\n404\n[Errno 111] Connection refused\n"


@pytest.mark.needs("nc", "socat")
def test_nc_and_socat(sandbox: Sandbox) -> None:
    script = """
    seq 1 20000 > numbers
    nc -l 127.0.0.1 7001 > got & sleep 1; nc -N 127.0.0.1 7001 < numbers; wait; cmp numbers got && echo same
    socat TCP6-LISTEN:7002,reuseaddr EXEC:'tr a-z A-Z' & sleep 1; echo hello | socat - 'TCP6:[::1]:7002'; wait
    socat -u UDP-RECV:7003 CREATE:udp & P=$!; sleep 1; echo datagram | socat - UDP:127.0.0.1:7003; sleep 1; kill $P; cat udp
    nc -z 127.0.0.1 7009 || echo refused
    """
    done = sandbox.run(["bash", "-c", script], timeout=60)
    assert (done.status, done.out) == (0, "same\nHELLO\ndatagram\nrefused\n"), done.err


@pytest.mark.needs("redis-server", "redis-cli", "redis-benchmark")
def test_redis_inside(sandbox: Sandbox) -> None:
    script = """
    redis-server --save "" --appendonly no --port 6399 --bind 127.0.0.1 ::1 > log &
    until redis-cli -p 6399 ping > /dev/null 2>&1; do sleep 0.2; done
    redis-cli -p 6399 set a hello; redis-cli -h ::1 -p 6399 get a
    redis-cli -p 6399 eval 'for i=1,5000 do redis.call("rpush","l",i) end return redis.call("llen","l")' 0
    redis-cli -p 6399 lrange l 0 -1 | md5sum
    redis-benchmark -p 6399 -n 1000 -c 20 -t get,set -q | tr '\\r' '\\n' | grep -c 'requests per second'
    redis-cli -p 6399 shutdown nosave; wait; seq 1 5000 | md5sum
    """
    done = sandbox.run(["bash", "-c", script], timeout=120)
    lines = done.out.split("\n")
    assert lines[:3] == ["OK", "hello", "5000"], done
    assert lines[3] == lines[5]
    assert lines[4] == "2"


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, int]:
    """nginx's configuration in the test's directory; its port."""
    port = free_port()
    (tmp_path / "index.html").write_text("a page\n")
    (tmp_path / "big").write_bytes(os.urandom(2_000_000))
    (tmp_path / "nginx.conf").write_text(textwrap.dedent(NGINX) % {"port": port, "root": tmp_path})
    return tmp_path, port


def nginx(folder: Path) -> list[str]:
    return ["nginx", "-p", f"{folder}/", "-c", "nginx.conf", "-e", "nginx.err"]


@pytest.mark.root
@pytest.mark.needs("nginx", "curl")
def test_nginx_inside(sandbox: Sandbox, site: tuple[Path, int]) -> None:
    folder, port = site
    script = f"""
    {" ".join(nginx(folder))} & P=$!
    until curl -s http://127.0.0.1:{port}/; do sleep 0.2; done
    curl -s -g 'http://[::1]:{port}/'; curl -s http://127.0.0.1:{port}/p/index.html
    curl -s http://127.0.0.1:{port}/big | cmp - big && echo same
    curl -s http://127.0.0.1:{port}/p/big | cmp - big && echo same
    seq 1 40 | xargs -P 8 -I N curl -s -o out.N http://127.0.0.1:{port}/big; for i in $(seq 1 40); do cmp out.$i big || echo bad; done
    kill $P; wait $P; cat nginx.err
    """
    done = sandbox.run(["bash", "-c", script], timeout=200)
    assert done.out == "a page\n" * 3 + "same\nsame\n", done


@pytest.mark.root
@pytest.mark.needs("nginx", "curl")
def test_nginx_from_outside(sandbox: Sandbox, site: tuple[Path, int]) -> None:
    folder, port = site
    with running(sandbox, nginx(folder), port, ["--network", "host"]):
        for url in (f"http://127.0.0.1:{port}/big", f"http://[::1]:{port}/big"):
            got = subprocess.run(["curl", "-s", "-g", "--max-time", "30", url], capture_output=True, check=True).stdout
            assert got == (folder / "big").read_bytes()
        jobs = [subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{port}/big"], stdout=subprocess.PIPE) for _ in range(8)]
        assert [j.communicate(timeout=60)[0] == (folder / "big").read_bytes() for j in jobs] == [True] * 8


@pytest.mark.needs("redis-server", "redis-cli", "redis-benchmark")
def test_redis_from_outside(sandbox: Sandbox) -> None:
    port = free_port()
    server = ["redis-server", "--save", "", "--appendonly", "no", "--port", str(port), "--bind", "127.0.0.1"]
    with running(sandbox, server, port, ["--network", "host"]):
        cli = ["redis-cli", "-p", str(port)]
        assert subprocess.run([*cli, "set", "x", "41"], capture_output=True, check=True).stdout == b"OK\n"
        assert subprocess.run([*cli, "incr", "x"], capture_output=True, check=True).stdout == b"42\n"
        value = os.urandom(3_000_000)
        subprocess.run([*cli, "-x", "set", "big"], input=value, capture_output=True, check=True)
        got = subprocess.run([*cli, "--no-raw", "strlen", "big"], capture_output=True, check=True).stdout
        assert got == b"(integer) 3000000\n"
        done = subprocess.run(
            ["redis-benchmark", "-p", str(port), "-n", "1000", "-c", "10", "-t", "get,set", "-q"], capture_output=True, check=True
        )
        assert done.stdout.count(b"requests per second") == 2


def test_client_to_the_host(sandbox: Sandbox) -> None:
    """A guest's client reaches a server of the host with --network host, and only then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); print(s.recv(10)); print(s.getpeername())"
        none = sandbox.run(["python3", "-c", code])
        assert none.status == 1
        assert "Connection refused" in none.err
        command = sandbox.argv(["python3", "-c", code], ["--network", "host"])
        with subprocess.Popen(command, cwd=sandbox.cwd, stdout=subprocess.PIPE) as p:
            server.settimeout(60)
            connection, _ = server.accept()
            connection.sendall(b"to guest")
            connection.close()
            assert p.communicate(timeout=60)[0].decode() == f"b'to guest'\n('127.0.0.1', {port})\n"


@pytest.fixture
def namespace() -> Iterator[tuple[str, str]]:
    """A network namespace with a veth to the host: its path, its address."""
    name = f"cordon{os.getpid()}"
    script = f"""set -e
    ip netns add {name}; ip link add c{os.getpid()} type veth peer name eth0 netns {name}
    ip addr add 198.51.100.1/30 dev c{os.getpid()}; ip link set c{os.getpid()} up
    ip -n {name} addr add 198.51.100.2/30 dev eth0; ip -n {name} link set eth0 up; ip -n {name} link set lo up
    ip -n {name} route add default via 198.51.100.1"""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        pytest.skip(f"no network namespace with veth here: {done.stderr.strip()[:200]}")
    yield f"/run/netns/{name}", "198.51.100.2"
    # The pair first: with the namespace alone it would go later, and the next platform's be skipped.
    subprocess.run(["ip", "link", "del", f"c{os.getpid()}"], check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
@pytest.mark.needs("ip")
def test_namespace_by_path(sandbox: Sandbox, namespace: tuple[str, str]) -> None:
    """As an engine's bridge: low ports, interfaces and routes of the namespace; the host's are out of sight."""
    path, ip = namespace
    option = ["--network", f"ns:{path}"]
    shown = sandbox.run(["sh", "-c", "ip -o -4 addr; ip route; ls /sys/class/net 2>/dev/null; cat /proc/net/route | wc -l"], option)
    assert f"inet {ip}/30 scope global eth0" in shown.out
    assert "default via 198.51.100.1 dev eth0" in shown.out
    assert "127.0.0.1/8" in shown.out
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert "Connection refused" in sandbox.run(["python3", "-c", code], option).err
    server_command = ["python3", "-m", "http.server", "80", "--bind", ip]
    with running(sandbox, server_command, 80, option, ip), socket.create_connection((ip, 80), 10) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.0 200")


def test_bad_networks(sandbox: Sandbox) -> None:
    done = sandbox.run(["true"], ["--network", "ns:/nowhere"])
    assert (done.status, done.err) == (125, "cordon: network namespace /nowhere: no such file or directory\n")
    done = sandbox.run(["true"], ["--network", "ns:/etc/passwd"])
    assert done.status == 125
    assert "cannot join it" in done.err
    done = sandbox.run(["true"], ["--network", "bridge"])
    assert (done.status, done.err) == (2, "cordon: network 'bridge': not none, host or ns:PATH\n")


@pytest.mark.needs("go")
def test_go_client_and_server(sandbox: Sandbox) -> None:
    source = """
    package main
    import ("fmt"; "io"; "net"; "net/http"; "time")
    func main() {
        l, err := net.Listen("tcp", "localhost:0"); if err != nil { panic(err) }
        go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s", r.URL.Path) }))
        c := http.Client{Timeout: 10 * time.Second}
        r, err := c.Get("http://" + l.Addr().String() + "/x"); if err != nil { panic(err) }
        b, _ := io.ReadAll(r.Body); fmt.Println(string(b))
        ifs, err := net.Interfaces(); fmt.Println(len(ifs), ifs[0].Name, err)
        as, err := ifs[0].Addrs(); fmt.Println(as[0], err)
        u, err := net.ListenPacket("udp", "127.0.0.1:0"); if err != nil { panic(err) }
        d, _ := net.Dial("udp", u.LocalAddr().String()); d.Write([]byte("dgram"))
        buf := make([]byte, 10); n, _, err := u.ReadFrom(buf); fmt.Println(string(buf[:n]), err)
        _, err = net.DialTimeout("tcp", "192.0.2.1:80", time.Second); fmt.Println(err)
    }
    """
    folder = sandbox.cwd / "go"
    folder.mkdir()
    (folder / "main.go").write_text(textwrap.dedent(source))
    build = ["go", "build", "-o", "../client", "main.go"]
    env = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": "-p=1", "GOCACHE": str(folder / "cache")}
    subprocess.run(build, cwd=folder, env=env, check=True, capture_output=True)
    done = sandbox.run(["./client"], timeout=60)
    assert done.out == (
        "hello /x\n1 lo <nil>\n127.0.0.1/8 <nil>\ndgram <nil>\ndial tcp 192.0.2.1:80: connect: network is unreachable\n"
    ), done
