"""bash scripts: forks, pipelines, traps, jobs."""

from __future__ import annotations

import pytest

from tests.harness import Sandbox

SCRIPTS = {
    "forks": 'n=0; for i in $(seq 200); do (exit 3); [ $? = 3 ] && n=$((n+1)); done; echo $n',
    "subshells": 'for i in $(seq 50); do x=$(echo $((i*i)) | cat); echo -n "$x "; done; echo',
    "pipeline": "seq 2000 | grep 7 | sed s/7/seven/ | sort -r | tail -40; echo ${PIPESTATUS[@]}",
    "pipefail": "set -o pipefail; false | true; echo $?; true | (exit 5) | true; echo $?",
    "here_document": "cat <<A; cat <<'B'; cat <<<three\none $((1+1)) $HOME\nA\ntwo $HOME\nB",
    "trap_exit": "trap 'echo bye $?' EXIT; trap 'echo err' ERR; false; exit 4",
    "trap_signal": "trap 'echo got usr1' USR1; kill -USR1 $$; sleep 0; echo after; trap - USR1; kill -USR1 $$; echo never",
    "trap_int_child": "(trap 'echo child; exit 9' TERM; while :; do sleep 0.05; done) & p=$!; sleep 0.3; kill $p; wait $p; echo $?",
    "wait_n": "(sleep 0.5; exit 5) & (sleep 0.1; exit 1) & (sleep 0.3; exit 3) & for i in 1 2 3; do wait -n; echo $?; done",
    "background": "sleep 0.2 & p=$!; jobs -r | wc -l; wait $p; echo $?; (sleep 0.1; echo late) & wait; echo done",
    "kill_background": "sleep 100 & p=$!; kill $p; wait $p; echo $?; kill -0 $p 2>/dev/null || echo gone",
    "stop_continue": "sleep 0.3 & p=$!; kill -STOP $p; sleep 0.1; cut -d' ' -f3 /proc/$p/stat; kill -CONT $p; wait $p; echo $?",
    "redirections": "exec 5>t; echo one >&5; exec 5>&-; echo two >>t; cat <t; { echo a; echo b >&2; } 2>&1 | sort; echo x 2>&1 >/dev/null",
    "process_substitution": "diff <(seq 3) <(seq 2 4); echo $?; echo hi | tee >(cat >t) >/dev/null; sleep 0.2; cat t",
    "coproc": "coproc cat; echo ping >&${COPROC[1]}; read -u ${COPROC[0]} x; echo $x",
    "arithmetic_and_strings": 'a=(x y z); echo ${#a[@]} ${a[@]:1} ${a[0]^^}; printf "%05d|%-5s|%x\\n" 42 ab 255; [[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}',
    "read_loop": "while read -r a b; do echo \"$b $a\"; done < <(printf '1 2\\n3 4\\n'); read -t 0.1 x < <(sleep 1); echo $?",
    "umask_and_cd": "umask 027; touch f; mkdir -p d/e; stat -c %a f d; cd d/e; pwd -P; cd ../..; ls -d */",
    "exec": "exec sh -c 'echo $0 $$ | wc -w'",
    "ulimit": "ulimit -n 64; ulimit -n; (ulimit -Sn 32; ulimit -n); ulimit -n",
    "sigpipe": "yes | head -2; echo ${PIPESTATUS[0]}",
    "fifo": "mkfifo p; (echo through >p) & cat p; wait; [ -p p ] && echo fifo",
    "set_e": "set -e; f() { false; echo no; }; (f) || echo caught; f; echo never",
    "deep_recursion": "f() { [ $1 = 0 ] && return; f $(($1-1)); }; f 500; echo ok",
    "nested_command_substitution": "echo $(echo $(echo $(echo deep)))",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(sandbox: Sandbox, name: str) -> None:
    sandbox.script(SCRIPTS[name])


@pytest.mark.parametrize("name", ["forks", "pipeline", "trap_signal", "background"])
def test_script_dash(sandbox: Sandbox, name: str) -> None:
    text = SCRIPTS[name].replace("; echo ${PIPESTATUS[@]}", "")
    sandbox.script(text, shell="dash")
