"""Runtimes of other languages, each with a program that does a bit of everything."""

from __future__ import annotations

import textwrap

import pytest

from tests.harness import Sandbox

PERL = r"""
use strict; use POSIX; use Socket; use IO::Handle;
my %h = map { $_ => $_ ** 2 } 1 .. 1000; my $s = 0; $s += $h{$_} for sort { $a <=> $b } keys %h; print "$s\n";
pipe(my $r, my $w); if (!fork) { close $r; print $w "child ", join(",", grep { $_ % 7 == 0 } 1 .. 50), "\n"; exit 3 } close $w;
print <$r>; wait; print $? >> 8, "\n"; open(my $f, ">", "t") or die; print $f "line $_\n" for 1 .. 1000; close $f;
open($f, "<", "t"); my @l = <$f>; print scalar(@l), " $l[-1]"; $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; POSIX::pause();
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0); $a->autoflush; print $a "hi\n"; print scalar <$b>; print `echo back | tr a-z A-Z`;
"""
NODE = """
const fs = require('fs'), cp = require('child_process'), net = require('net'), { Worker, isMainThread } = require('worker_threads');
fs.writeFileSync('t', 'x'.repeat(100000)); console.log(fs.statSync('t').size, fs.readdirSync('.').length);
console.log(cp.execSync('echo from child').toString().trim());
const s = net.createServer(c => c.on('data', d => c.end(d.toString().toUpperCase()))).listen('sock', () => {
  const c = net.connect('sock', () => c.write('hello')); c.on('data', d => console.log(d.toString())); c.on('close', () => s.close()); });
const w = new Worker("require('worker_threads').parentPort.postMessage([...Array(1000).keys()].reduce((a, b) => a + b))", { eval: true });
w.on('message', m => console.log('worker', m)); w.on('exit', () => setTimeout(() => console.log('late'), 50));
Promise.all([1, 2, 3].map(async n => n * 2)).then(r => console.log(r));
process.on('SIGUSR2', () => console.log('signal')); process.kill(process.pid, 'SIGUSR2');
"""
JAVA = """
import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class Main {
    public static void main(String[] a) throws Exception {
        var pool = Executors.newFixedThreadPool(8); var fs = new ArrayList<Future<Integer>>();
        for (int i = 0; i < 100; i++) { int n = i; fs.add(pool.submit(() -> IntStream.range(0, n * 100).sum())); }
        long s = 0; for (var f : fs) s += f.get(); System.out.println(s); pool.shutdown();
        Files.writeString(Path.of("t"), "line\\n".repeat(1000)); System.out.println(Files.lines(Path.of("t")).count());
        var p = new ProcessBuilder("sh", "-c", "echo child; exit 4").redirectErrorStream(true).start();
        System.out.print(new String(p.getInputStream().readAllBytes())); System.out.println(p.waitFor());
        byte[][] keep = new byte[50][]; for (int i = 0; i < 2000; i++) keep[i % 50] = new byte[100000]; System.gc();
        try { Object o = null; o.hashCode(); } catch (NullPointerException e) { System.out.println("npe"); }
        System.exit(6);
    }
}
"""
GO = """
package main
import ("fmt"; "os"; "os/exec"; "sync"; "net"; "io"; "time"; "sort")
func main() {
    var wg sync.WaitGroup; ch := make(chan int, 10); var mu sync.Mutex; total := 0
    for i := 0; i < 200; i++ { wg.Add(1); go func(n int) { defer wg.Done(); ch <- n }(i) }
    go func() { wg.Wait(); close(ch) }()
    for n := range ch { mu.Lock(); total += n; mu.Unlock() }
    fmt.Println(total)
    out, err := exec.Command("sh", "-c", "echo child; exit 2").Output(); fmt.Printf("%s%v\\n", out, err)
    l, _ := net.Listen("unix", "sock"); go func() { c, _ := l.Accept(); io.Copy(c, c); c.Close() }()
    c, _ := net.Dial("unix", "sock"); c.Write([]byte("echoed")); b := make([]byte, 6); io.ReadFull(c, b); fmt.Println(string(b))
    select { case <-time.After(50 * time.Millisecond): fmt.Println("timer") }
    os.WriteFile("t", make([]byte, 12345), 0600); st, _ := os.Stat("t"); fmt.Println(st.Size(), st.Mode())
    es, _ := os.ReadDir("/usr/share/perl5"); ns := []string{}; for _, e := range es { ns = append(ns, e.Name()) }; sort.Strings(ns); fmt.Println(len(ns), ns[0])
    defer func() { fmt.Println("recovered", recover() != nil); os.Exit(5) }(); var p *int; fmt.Println(*p)
}
"""


@pytest.mark.needs("perl")
def test_perl(sandbox: Sandbox) -> None:
    (sandbox.cwd / "p.pl").write_text(PERL)
    assert sandbox.same(["perl", "p.pl"]).status == 0


@pytest.mark.needs("node")
def test_node(sandbox: Sandbox) -> None:
    sandbox.same(["node", "-e", "console.log(process.version, 6*7)"])
    (sandbox.cwd / "p.js").write_text(NODE)
    ours = sandbox.run(["node", "p.js"])
    assert ours.status == 0, ours.err
    words = ["100000 2", "from child", "HELLO", "worker 499500", "late", "[ 2, 4, 6 ]", "signal"]
    assert sorted(ours.out.splitlines()) == sorted(words)


@pytest.mark.needs("javac")
@pytest.mark.timeout(900)
def test_java(sandbox: Sandbox) -> None:
    sandbox.same(["java", "-version"], timeout=200)
    (sandbox.cwd / "Main.java").write_text(JAVA)
    done = sandbox.script("javac Main.java && java Main; echo $?; rm *.class", timeout=400)
    assert done.out.endswith("npe\n6\n")


@pytest.mark.needs("busybox")
@pytest.mark.parametrize(
    "script",
    [
        "busybox | head -1; busybox ls /usr | head -5; busybox seq 5 | busybox awk '{s+=$1} END {print s}'",
        "busybox sh -c 'for i in 1 2 3; do (echo $i) & wait; done; echo $((2**10))'",
        "busybox find /usr/share/perl5 -type f | busybox sort | busybox md5sum; busybox tar c /etc/passwd 2>/dev/null | busybox tar t",
    ],
)
def test_busybox(sandbox: Sandbox, script: str) -> None:
    sandbox.script(script)


@pytest.mark.needs("go")
@pytest.mark.timeout(900)
def test_go(sandbox: Sandbox) -> None:
    """A Go program, built natively (its toolchain is run in the sandbox by the full suite)."""
    from tests.harness import native

    (sandbox.cwd / "p.go").write_text(textwrap.dedent(GO))
    built = native(["go", "build", "-o", "p", "p.go"], sandbox.cwd, GOCACHE=str(sandbox.cwd / "cache"), GOFLAGS="-mod=mod", timeout=300)
    assert built.status == 0, built.err
    (sandbox.cwd / "only").mkdir()
    (sandbox.cwd / "p").rename(sandbox.cwd / "only" / "p")
    sandbox.cwd = sandbox.cwd / "only"
    assert sandbox.script("./p; echo $?; rm -f t sock").out.endswith("recovered true\n5\n")


@pytest.mark.slow
@pytest.mark.needs("go")
@pytest.mark.timeout(1800)
def test_go_toolchain(sandbox: Sandbox) -> None:
    (sandbox.cwd / "p.go").write_text(textwrap.dedent(GO))
    done = sandbox.run(["sh", "-c", "go build -o p p.go && ./p"], timeout=1500, GOCACHE="/tmp/cache", GOFLAGS="-mod=mod")
    assert done.status == 5, done.err
