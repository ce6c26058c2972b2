"""Prepare docstrings for the site: formulas in the notation of its pages, and their style."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":math:`([^`]*)`")
_NAME = re.compile(r":(?:class|func|meth|mod):`([^`]*)`")
_BLOCK = re.compile(r"^( *)\.\. math::\n((?:(?:\1 +.*)?\n)+)", re.MULTILINE)


# Docstrings in numpydoc's style, like scikit-learn's; all others are in Google's.
_NUMPYDOC = "resnet_gp.estimators."


class Docstrings(griffe.Extension):
    """Turn ``:math:`` roles into $...$ and ``.. math::`` blocks into $$...$$."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _in_markdown(obj.docstring.value)
            if obj.path.startswith(_NUMPYDOC):
                obj.docstring.parser, obj.docstring.parser_options = griffe.Parser.numpy, {}


def _in_markdown(text: str) -> str:
    text = _BLOCK.sub(_display, text + "\n")
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = _ROLE.sub(lambda match: f"${' '.join(match[1].split())}$", text)
    return _NAME.sub(r"`\1`", text).rstrip("\n")


def _display(match: re.Match[str]) -> str:
    body = textwrap.dedent(match[2]).strip()
    if "&" in body or r"\\" in body:
        body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"
    return textwrap.indent(f"\n$$\n{body}\n$$\n\n", match[1], lambda line: line != "\n")
