"""Writable mounts: an untrusted converter reads one directory and may write to another, and to nothing else of the host."""

import tempfile
from pathlib import Path

import cordon

CONVERTER = """\
for f in /in/*.txt; do tr a-z A-Z <"$f" >"/out/$(basename "$f")"; done
echo "in the sandbox only" >/etc/motd && cat /etc/motd
echo spoiled 2>/dev/null >/in/a.txt || echo "cannot write to /in"
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in", Path(folder) / "out"
        source.mkdir()
        target.mkdir()
        (source / "a.txt").write_text("first\n")
        (source / "b.txt").write_text("second\n")
        mounts = [f"{source}:/in", f"{target}:/out:rw"]
        result = cordon.run(["sh", "-c", CONVERTER], mounts=mounts, cwd="/", capture_output=True, text=True)
        print((result.stdout or "").strip())
        for path in sorted(target.iterdir()):
            print(path.name, path.read_text().strip())
        print("source", (source / "a.txt").read_text().strip())


if __name__ == "__main__":
    main()
