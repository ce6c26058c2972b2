"""The documentation site: it builds, needs no other host, and its statements hold."""

from __future__ import annotations

import ast
import functools
import html.parser
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import markdown_blocks
import pytest

import resnet_gp

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
TEXTS = {page: (DOCS / page).read_text() for page in PAGES}
BLOCKS = [
    pytest.param(page, code, id=f"{page}: {markdown_blocks.first_line(code)}")
    for page, text in TEXTS.items()
    for code in markdown_blocks.blocks(text, "python")
]
MESSAGES = markdown_blocks.blocks(TEXTS["troubleshooting.md"], "text")
ERRORS = ("c", "gap", "slope", "blocks", "naive")
EXTERNAL = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. Any warning of the build is an error."""
    for module in ("material", "mkdocstrings", "mkdocstrings_handlers"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f'{module} is not installed: pip install "resnet-gp[docs]"')
    out = tmp_path_factory.mktemp("site")
    # Not --quiet: --strict counts the warnings that are shown.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Assets(html.parser.HTMLParser):
    """The files that a browser loads to show a page, and the number of formulas in it."""

    def __init__(self, text):
        super().__init__()
        self.found, self.formulas = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.formulas += "arithmatex" in (values.get("class") or "").split()
        if tag == "link" and values["rel"] not in ("next", "prev"):
            self.found.append(values["href"])
        if tag != "link":
            fetched = ("src", "srcset", "poster", "data")
            self.found += [values[name] for name in fetched if name in values]


def test_every_page_of_the_navigation_is_built(site):
    assert len(PAGES) > 15
    for page in PAGES:
        assert (site / page).with_suffix(".html").exists(), page


def test_pages_ask_nothing_of_other_hosts(site):
    for path in site.rglob("*.html"):
        assets = Assets(path.read_text()).found
        assert assets
        for asset in assets:
            assert not EXTERNAL.match(asset), f"{path.name}: {asset}"
            if path.name != "404.html" and not asset.startswith("data:"):
                assert (path.parent / asset.partition("?")[0]).exists(), f"{path.name}: {asset}"
    for path in site.rglob("*.css"):
        for asset in re.findall(r"url\(\s*[\"']?([^)\"']+)", path.read_text()):
            assert not EXTERNAL.match(asset), f"{path.name}: {asset}"
            if not asset.startswith(("data:", "#")):
                assert (path.parent / asset).exists(), f"{path.name}: {asset}"
        assert "@import" not in path.read_text()


def test_search_works_in_pages_opened_as_files(site):
    """Browsers refuse to fetch files or to start workers from them: both need a script."""
    index = (site / "search" / "search_index.js").read_text()
    entries = json.loads(index.removeprefix("var __index = "))["docs"]
    found = {entry["location"] for entry in entries}
    assert {page.removesuffix(".md") + ".html" for page in PAGES} <= found
    for page in PAGES:
        scripts = Assets((site / page).with_suffix(".html").read_text()).found
        assert any(script.endswith("javascripts/iframe-worker/shim.js") for script in scripts), page


def test_formulas_of_pages_and_of_docstrings_are_marked(site):
    theory = Assets((site / "theory.html").read_text())
    assert theory.formulas > 100
    assert "$$" not in (site / "theory.html").read_text()
    kernels = (site / "api" / "kernels.html").read_text()
    assert Assets(kernels).formulas >= 8
    assert ":math:" not in kernels
    assert ".. math::" not in kernels


def test_docstrings_are_understood(site):
    """A section in another style than the page's would become a paragraph or a heading."""
    for path in (site / "api").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<p>(Args|Attributes|Returns|Raises|Example):", text), path.name
        assert not re.search(r"<h\d[^>]*>(Parameters|Attributes|Returns|Raises)<", text), path.name
        assert "doc-section-title" in text or path.stem == "index", path.name


@pytest.mark.parametrize(("page", "code"), BLOCKS)
def test_python_block(page, code, capsys):
    markdown_blocks.run(code, page)


def test_sketches_that_cannot_be_run_here_are_at_least_python():
    """Blocks marked "py" need a Dask scheduler, or skpro."""
    sketches = {page: markdown_blocks.blocks(text, "py") for page, text in TEXTS.items()}
    assert {page for page, found in sketches.items() if found} == {"distributed.md", "intervals.md"}
    for page, found in sketches.items():
        for code in found:
            compile(code, page, "exec")


@functools.cache
def messages_of_the_source():
    """The string literals of the package, with "…" in place of fields."""
    found = []
    for path in Path(resnet_gp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[:50].strip())
def test_quoted_message_is_in_the_source(message):
    quoted = message.strip()
    assert any(quoted in text for text in messages_of_the_source()), quoted


def test_tables_of_errors_are_those_of_the_script():
    """docs/numerics.md has the results of the last full run of benchmarks/accuracy.py."""
    results = json.loads((ROOT / "benchmarks" / "results" / "accuracy.json").read_text())
    rows = [
        f"| {horizon} | " + " | ".join(f"{errors[name]:.1e}" for name in ERRORS) + " |"
        for by_horizon in results["largest errors"].values()
        for horizon, errors in by_horizon.items()
    ]
    for horizon, count in results["terms"].items():
        cells = (count[name] or "thousands" for name in ("table", "theta", "c"))
        rows.append(f"| {horizon} | " + " | ".join(map(str, cells)) + " |")
    assert len(rows) == 25
    for row in rows:
        assert row in TEXTS["numerics.md"], row


def test_numbers_name_scripts_that_exist():
    for page, text in TEXTS.items():
        for script in re.findall(r"\b((?:benchmarks|examples)/\w+\.py)", text):
            assert (ROOT / script).exists(), f"{page}: {script}"
        for name in re.findall(r"`(resnet_gp/[\w/]+\.py)`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"
        for name in re.findall(r"`(benchmarks/results/\w+\.json)`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"


LISTED = re.compile(r"^::: (\S+)\n(?:    .*\n)*?      members: \[(.+)\]", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "members"),
    [
        found
        for page, text in TEXTS.items()
        if page.startswith("api/")
        for found in LISTED.findall(text)
    ],
)
def test_listed_members_exist(name, members):
    """The site leaves out those that do not, without a warning."""
    there = pkgutil.resolve_name(name)
    fields = getattr(there, "__annotations__", {})
    assert all(hasattr(there, one) or one in fields for one in members.split(", "))
