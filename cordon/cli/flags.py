"""Reads the runtime commands' flags as engines write them: --flag=v, --flag v, with one dash or two, before or after the id.

A table instead of argparse: importing that takes a third of the time that a management command may take.
"""

from __future__ import annotations

import sys

from cordon.oci.errors import RuntimeFailure

#: Kinds of flags.
SWITCH = "switch"
VALUE = "value"
LIST = "list"
STATUS_USAGE = 2


class Flag:
    def __init__(self, kind: str, metavar: str = "", text: str = "", short: str = "") -> None:
        self.kind = kind
        self.metavar = metavar
        self.text = text
        self.short = short


class Usage(RuntimeFailure):
    """A wrong command line."""

    def __init__(self, text: str) -> None:
        super().__init__(text, STATUS_USAGE)


class Parsed:
    """What a command line said."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.on: set[str] = set()
        self.words: list[str] = []

    def value(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.values[name], 10) if name in self.values else default
        except ValueError:
            raise self.no_number(name) from None

    def seconds(self, name: str, default: float) -> float:
        try:
            return float(self.values[name]) if name in self.values else default
        except ValueError:
            raise self.no_number(name) from None

    def no_number(self, name: str) -> Usage:
        return Usage(f"--{name} {self.values[name]!r}: not a number")


class Command:
    """A verb's flags and words. `words`: names of the positional arguments; one in [brackets] may be left out, one with ... takes
    the rest, flags and all. `more`: what the help says below the flags."""

    def __init__(
        self, verb: str, text: str, flags: dict[str, Flag], words: tuple[str, ...] = (), more: str = ""
    ) -> None:
        self.verb = verb
        self.text = text
        self.flags = flags
        self.words = words
        self.more = more

    def parse(self, argv: list[str]) -> Parsed:
        """Usage for what the verb doesn't know. `--help` prints and exits with 0."""
        out = Parsed()
        short = {f.short: name for name, f in self.flags.items() if f.short}
        rest = next((i for i, w in enumerate(self.words) if w.endswith("...")), -1)
        i = 0
        while i < len(argv):
            word = argv[i]
            i += 1
            if word == "--":
                out.words += argv[i:]
                break
            if not word.startswith("-") or word == "-":
                out.words.append(word)
                if rest >= 0 and len(out.words) > rest:
                    out.words += argv[i:]
                    break
                continue
            name, equals, value = word.lstrip("-").partition("=")
            name = short.get(name, name)
            if name in ("help", "h"):
                print(self.usage())
                sys.exit(0)
            flag = self.flags.get(name)
            if flag is None:
                raise Usage(
                    f"{self.verb}: there is no flag {word.partition('=')[0]}; `cordon {self.verb} --help` lists them"
                )
            if flag.kind == SWITCH:
                if value.lower() in ("", "true", "1", "t"):
                    out.on.add(name)
                elif value.lower() in ("false", "0", "f"):
                    out.on.discard(name)
                else:
                    raise Usage(f"{self.verb}: --{name} {value!r}: true or false")
                continue
            if not equals:
                if i >= len(argv):
                    raise Usage(f"{self.verb}: --{name} needs a value")
                value = argv[i]
                i += 1
            if flag.kind == LIST:
                out.lists.setdefault(name, []).append(value)
            else:
                out.values[name] = value
        needed = [w for w in self.words if not w.startswith("[")]
        if len(out.words) < len(needed):
            raise Usage(f"{self.verb}: {needed[len(out.words)].rstrip('.')} is missing")
        if rest < 0 and len(out.words) > len(self.words):
            raise Usage(f"{self.verb}: unexpected argument {out.words[len(self.words)]!r}")
        return out

    def usage(self) -> str:
        lines = [f"usage: cordon {self.verb} [flag ...] {' '.join(self.words)}".rstrip(), "", self.text, ""]
        for name, f in self.flags.items():
            if not f.text:
                continue
            left = ", ".join([*([f"-{f.short}"] if f.short else []), f"--{name}"])
            lines.append(f"  {left + (' ' + f.metavar if f.metavar else ''):28}{f.text}")
        return "\n".join(lines) + (f"\n\n{self.more}" if self.more else "")
