"""Compilers, make and git at work."""

from __future__ import annotations

import textwrap

import pytest

from tests.harness import Sandbox

C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <math.h>
static void *work(void *p) { double s = 0; for (int i = 1; i < 100000; i++) s += sin(i); *(double *)p = s; return NULL; }
int main(int argc, char **argv) {
    pthread_t t[4]; double r[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, &r[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    printf("%d %.6f %.6f\n", argc, r[0], r[3]);
    return argc == 2 ? atoi(argv[1]) : 1;
}
"""
CXX = r"""
#include <algorithm>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
int main() {
    std::vector<int> v(1000); int n = 0; for (auto &x : v) x = (n = (n * 7919 + 13) % 10007);
    std::sort(v.begin(), v.end());
    std::map<std::string, int> m; for (int x : v) m[std::to_string(x % 10)]++;
    for (auto &[k, c] : m) std::cout << k << "=" << c << " ";
    std::thread t([] { std::cout << "thread" << std::endl; }); t.join();
    try { throw std::runtime_error("thrown"); } catch (const std::exception &e) { std::cout << e.what() << std::endl; }
}
"""
MAKEFILE = """
OBJECTS := $(patsubst %.c,%.o,$(wildcard m*.c))
all: program
program: main.o $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c all.h
\t$(CC) -O1 -c -o $@ $<
clean:
\trm -f *.o program
"""


@pytest.mark.needs("gcc", "g++")
@pytest.mark.parametrize("flags", ["", "-static", "-O2 -flto", "-g -fsanitize=undefined"])
def test_c(sandbox: Sandbox, flags: str) -> None:
    (sandbox.cwd / "p.c").write_text(C)
    done = sandbox.script(f"gcc {flags} -pthread -Wall -o p p.c -lm && ./p 7; echo $?; size p | tail -1 | cut -f1-3; rm p")
    assert done.out.splitlines()[1] == "7"


@pytest.mark.needs("g++")
def test_cxx(sandbox: Sandbox) -> None:
    (sandbox.cwd / "p.cc").write_text(CXX)
    done = sandbox.script("g++ -std=c++17 -O1 -o p p.cc -pthread && ./p; rm -f p", timeout=200)
    assert "thrown" in done.out


@pytest.mark.needs("gcc")
def test_compile_errors(sandbox: Sandbox) -> None:
    (sandbox.cwd / "p.c").write_text("int main(void) { return x; }\n")
    assert sandbox.script("gcc p.c; echo $?").out == "1\n"


@pytest.mark.needs("make", "gcc")
def test_make(sandbox: Sandbox) -> None:
    project = sandbox.cwd / "project"
    project.mkdir()
    (project / "Makefile").write_text(MAKEFILE)
    (project / "all.h").write_text("".join(f"int f{i}(void);\n" for i in range(20)))
    for i in range(20):
        (project / f"m{i}.c").write_text(f'#include "all.h"\n#include <stdio.h>\nint f{i}(void) {{ return {i}; }}\n')
    calls = " + ".join(f"f{i}()" for i in range(20))
    (project / "main.c").write_text(
        f'#include <stdio.h>\n#include "all.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    script = "cd project && make -s -j2 && ./program && make -q; echo $?; touch all.h; make -j2 | sort | tail -3; make -s clean; ls | wc -l"
    assert sandbox.script(script, timeout=200).out.startswith("190\n0\n")


@pytest.mark.needs("git")
def test_git(sandbox: Sandbox) -> None:
    script = textwrap.dedent("""
        export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' HOME=$PWD
        git config --global user.name n; git config --global user.email e@x; git config --global init.defaultBranch main
        git init -q r && cd r
        for i in $(seq 500); do mkdir -p d$((i%20)); seq $i > d$((i%20))/f$i; done
        git add . && git commit -qm first && git log --format='%H %s' && git status --short | wc -l
        sed -i s/1/one/ d1/*; git diff --stat | tail -1; git commit -qam second; git checkout -qb side HEAD~; echo x >new; git add new
        git commit -qm third; git merge -q -m merge main; git log --oneline --graph | wc -l; git gc -q; git fsck 2>&1 | tail -3
        git clone -q . ../c && cd ../c && git log --format=%H -1 && git ls-files | wc -l && git rev-parse HEAD^{tree}
        git stash list; git tag v1; git describe; git archive HEAD | tar t | wc -l; git blame d1/f1 | cut -c1-8; cd ..; rm -rf r c .gitconfig
        """)
    done = sandbox.script(script, timeout=250)
    assert done.status == 0, done.err
    assert "521" in done.out or "501" in done.out


@pytest.mark.needs("strace")
def test_strace_inside(sandbox: Sandbox) -> None:
    """Tracing inside the sandbox works or fails with an error; it never hangs."""
    done = sandbox.run(["timeout", "20", "strace", "-o", "/dev/null", "true"])
    assert done.status in (0, 1)
