"""Puts the last measurement into docs/performance.md, between its marks.

    python bench/report.py FILE.json     results that `cordon bench --json` has written
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cordon.bench import text
from cordon.bench.results import Results

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- measured: begin (make bench-report) -->\n"
END = "<!-- measured: end -->\n"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    table = text.markdown(Results.from_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        print(f"{PAGE}: the marks are not there", file=sys.stderr)
        return 1
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
