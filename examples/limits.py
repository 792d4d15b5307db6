"""Limits and verdicts: what cordon.run says about commands that end in different ways."""

import cordon

COMMANDS = {
    "ends well": ["sh", "-c", "exit 0"],
    "says that it failed": ["sh", "-c", "exit 3"],
    "crashes": ["sh", "-c", "kill -SEGV $$"],
    "does not end": ["sleep", "100"],
    "takes all memory": ["python3", "-c", "a = []\nwhile True: a.append(bytearray(1 << 20))"],
    "forks for ever": ["python3", "-c", "import os\nwhile True: os.fork()"],
}


def main() -> None:
    for what, command in COMMANDS.items():
        result = cordon.run(command, timeout=3, memory="64M", pids=20, capture_output=True)
        limits = ", reached: " + ", ".join(result.exceeded) if result.exceeded else ""
        print(f"{what:20} {result.verdict:8} status {result.returncode}{limits}")


if __name__ == "__main__":
    main()
