"""coreutils and friends over the host's own tree."""

from __future__ import annotations

import pytest

from tests.harness import Sandbox

SCRIPTS = {
    "find": "find /usr | sort | sha256sum",
    "find_types": "find /usr/bin /usr/lib/python3 -printf '%y %m %s %n %p\\n' | sort | sha256sum",
    "ls_recursive": "ls -laR /usr/lib/python3 | sha256sum",
    "ls_usr_bin": "ls -li --time-style=full-iso /usr/bin | awk '{$1=\"\"; print}' | sha256sum",
    "du": "du -s --apparent-size /usr/share/doc /usr/lib/python3; du -s /usr/lib/python3",
    "cp_archive": "cp -a /usr/share/perl5 copy && diff -r /usr/share/perl5 copy && find copy -printf '%P %m %T@ %y\\n' | sort | sha256sum; rm -rf copy; ls",
    "tar": "tar c -C /usr/share perl5 | gzip -1 | tar tz | sha256sum",
    "tar_extract": "tar c -C /usr/share perl5 | tar x && (cd perl5 && find . -type f | sort | xargs sha256sum) | sha256sum; rm -rf perl5",
    "sort_parallel": "seq 300000 | sort -R --random-source=<(yes) | sort --parallel=2 -n | sha256sum",
    "sort_spill": "seq 400000 | sort -S 1M -T . -r | sha256sum",
    "dd": "dd if=/dev/zero bs=64k count=200 status=none | sha256sum; dd if=/usr/bin/bash bs=1000 skip=7 count=50 status=none | sha256sum; dd if=/dev/zero of=s bs=1 count=1 seek=1M status=none; stat -c '%s %b' s; rm s",
    "stat_types": "mkfifo p; ln -s p l; mkdir d; touch f; ln f h; stat -c '%n %F %a %h %s' f /dev/null /bin/sh; stat -c '%n %F %a %h' d; stat -c '%n %F %a %h' p l h; stat -Lc %F /dev/fd/0 < f; rm -r p l d f h",
    "stat_socket": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; stat -c '%F' s; rm s",
    "chmod_touch": "touch -d '2001-02-03 04:05:06.789' f; chmod 4751 f; stat -c '%a %y' f; touch -h -d @1 f; stat -c %Y f; rm f",
    "links": "mkdir -p a/b; ln -s ../x a/l; readlink a/l; readlink -f a/b/../b; realpath /bin/sh; ln -s loop loop; cat loop; rm -r a loop",
    "mv_rename": "mkdir a b; echo 1 >a/f; mv a/f b/g; mv b c; cat c/g; mv -n c/g a; mv a c/; find c | sort; rm -r c",
    "head_tail_wc": "wc /etc/services; head -c 100 /etc/services | od -c | tail -3; tail -n 3 /etc/passwd; tac /etc/passwd | head -1",
    "text": "cut -d: -f1,3 /etc/passwd | sort -t: -k2n | paste -sd, ; tr a-z A-Z </etc/group | sha256sum; comm -12 <(cut -d: -f1 /etc/passwd | sort) <(cut -d: -f1 /etc/group | sort)",
    "xargs": "seq 100 | xargs -n 7 -P 2 echo | sort | sha256sum; find /etc -maxdepth 1 -name 'p*' -print0 | sort -z | xargs -0 ls -d",
    "split_cat": "split -b 30000 /usr/bin/bash part.; cat part.* | cmp - /usr/bin/bash && ls part.* | wc -l; rm part.*",
    "truncate_sparse": "truncate -s 10G big; stat -c %s big; truncate -s 5 big; od -An -tx1 big; fallocate -l 1M big; stat -c %s big; rm big",
    "df_ends": "df / >/dev/null; echo $?",
    "date_timezone": "TZ=UTC date -d @1000000000; TZ=Europe/Berlin date -d @1000000000",
    "tee_mkdir_p": "echo x | tee a b c >/dev/null; mkdir -p d/e/f; cp a b c d/e/f; find d | sort; rm -r d a b c",
    "install_rmdir": "install -D -m 640 /etc/passwd x/y/z; stat -c %a x/y/z; rmdir x 2>&1; rm -r x",
    "mktemp_timeout": "timeout 0.2 sleep 5; echo $?; f=$(mktemp); test -f $f && echo made; rm $f; nice -n 5 nice; nohup true 2>/dev/null; echo $?",
    "env_seq_factor": "factor 1000000007 600851475143; seq -s+ 10; env -u HOME sh -c 'echo ${HOME-none}'; printf '%s\\n' b a | sort -u; nproc --ignore=100",
    "sha_md5": "md5sum /usr/bin/bash; sha1sum </usr/bin/bash; cksum /etc/passwd; b2sum /etc/group",
    "grep_sed_awk": "grep -rl ISC /usr/share/perl5 2>/dev/null | sort | sha256sum; sed -n '/^[r-s]/p' /etc/passwd; awk -F: '{s+=$3} END {print s}' /etc/passwd",
    "flock": "flock f sh -c 'flock -n f true; echo $?'; flock -s f flock -s -n f echo shared; rm f",
    "gzip_xz": "gzip -c /usr/bin/bash | gunzip | cmp - /usr/bin/bash && xz -0 -c /usr/bin/bash | xz -d | cmp - /usr/bin/bash && echo same",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(sandbox: Sandbox, name: str) -> None:
    # The whole tree, because natively root sees what the default view hides.
    sandbox.script(SCRIPTS[name], ["--root", "/"])


@pytest.mark.parametrize("name", ["find_types", "tar", "stat_types", "links"])
def test_script_in_default_view(sandbox: Sandbox, name: str) -> None:
    sandbox.script(SCRIPTS[name])
