"""A shell pipeline over data from outside: the words of a text, the commonest first."""

import cordon

TEXT = """\
the quick brown fox jumps over the lazy dog
the dog sleeps and the fox runs
"""
PIPELINE = "tr -s ' ' '\\n' | sort | uniq -c | sort -k1,1nr -k2 | head -4 | awk '{print $2, $1}'"


def main() -> None:
    result = cordon.run(["bash", "-o", "pipefail", "-c", PIPELINE], input=TEXT, text=True, capture_output=True, check=True)
    assert result.stdout is not None
    for line in result.stdout.splitlines():
        word, count = line.split()
        print(f"{word}: {count}")


if __name__ == "__main__":
    main()
