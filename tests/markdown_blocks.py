"""What tests read out of Markdown files."""

from __future__ import annotations

import re


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, as README and pages have them."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run(code: str, name: str) -> None:
    """Run a Python block by itself, as a reader would who copies it."""
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


def first_line(code: str) -> str:
    return code.splitlines()[0]
