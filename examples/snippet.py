"""Values of untrusted Python expressions: code and data go in as JSON, a value comes out, or the reason why not."""

import json
from typing import Any

import cordon

#: Runs in the sandbox. What it prints is as untrusted as the snippet: JSON, nothing that could be executed.
RUNNER = """\
import json, sys
request = json.load(sys.stdin)
print(json.dumps(eval(request["code"], {"data": request["data"]})))
"""


class SnippetError(Exception):
    """The snippet has no value."""


def evaluate(code: str, data: Any, timeout: float = 5) -> Any:
    result = cordon.run(
        ["python3", "-I", "-c", RUNNER],
        input=json.dumps({"code": code, "data": data}),
        text=True,
        capture_output=True,
        timeout=timeout,
        memory="128M",
        cwd="/",
    )
    if result.verdict != "ok":
        last = (result.stderr or "").strip().splitlines()[-1:]
        raise SnippetError(last[0] if last and result.verdict == "exit" else result.verdict)
    return json.loads(result.stdout or "null")


def main() -> None:
    snippets = ["sum(data)", "sorted(data)[-2:]", "data[10]", "[0] * 10**10", "all(True for _ in iter(int, 1))"]
    for code in snippets:
        try:
            print(f"{code}: {evaluate(code, [3, 1, 2], timeout=3)}")
        except SnippetError as e:
            print(f"{code}: {e}")


if __name__ == "__main__":
    main()
