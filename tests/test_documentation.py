"""README and docs/: their code runs, their commands and links are there, each method has a page."""

from __future__ import annotations

import re
import sys
from importlib import import_module

import pytest
from conftest import ROOT
from mktestdocs import grab_code_blocks

from benchmark.__main__ import COMMANDS
from benchmark.problems import LOWER_LEVELS

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "```python" in text])
def test_the_code_of_a_page_runs(name):
    """All its blocks in one scope, as one reads them."""
    scope: dict[str, object] = {"__name__": "page"}
    for block in grab_code_blocks(TEXTS[name], lang="python"):
        exec(compile(block, name, "exec"), scope)


def test_the_links_between_pages_lead_somewhere():
    missing = [
        f"{name}: {link}"
        for name, text in TEXTS.items()
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
        if not (ROOT / name).parent.joinpath(link).exists() and not made(link)
    ]
    assert not missing


def made(link: str) -> bool:
    """Whether a page of that name is made as the documentation is built."""
    return link == "gallery.md" or link.startswith(("methods/index", "problems/"))


def test_the_commands_of_the_pages_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for name, text in TEXTS.items():
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE):
            assert target in targets, f"{name}: make {target}"
        for command in re.findall(r"python -m benchmark ([a-z]+)", text):
            assert command in COMMANDS, f"{name}: python -m benchmark {command}"
        for config in re.findall(
            r"(?:--config |[` ])((?:configs/[\w/]+|example_config)\.yml)", text
        ):
            assert (ROOT / config).is_file(), f"{name}: {config}"


@pytest.fixture
def documentation_pages(monkeypatch):
    """The module of tools/."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    yield import_module("documentation_pages")
    del sys.modules["documentation_pages"]


def test_the_gallery_shows_what_its_scripts_print_and_draw(documentation_pages, tmp_path):
    """Each in a folder of its own; one that fails is an error."""
    script = tmp_path / "a_script.py"
    script.write_text('''"""Draw x_i."""

from pathlib import Path

assert not list(Path().iterdir())
Path("drawn.png").write_bytes(b"a picture")
print(1 + 1)
''')
    made = documentation_pages.gallery(tmp_path)
    assert made.keys() == {"gallery.md", "gallery/drawn.png"}
    assert made["gallery/drawn.png"] == b"a picture"
    page = made["gallery.md"]
    for part in ("## a script", "Draw x\\_i.", "](gallery/drawn.png)", script.read_text().rstrip()):
        assert part in page
    assert page.endswith("It prints:\n\n```text\n2\n```")
    script.with_name("b.py").write_text('"""Fail."""\nassert False')
    with pytest.raises(AssertionError):
        documentation_pages.gallery(tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_each_method_and_lower_level_has_a_page(documentation_pages):
    """Made of docstrings, as Markdown: code as code, no emphasis where a star was meant."""
    made = documentation_pages.pages(ROOT / "results")
    for name in LOWER_LEVELS:
        assert f"# {name}\n" in made[f"problems/{name}.md"]
    methods = documentation_pages.solvers()
    assert len(methods) >= 20
    for method in methods:
        page = made[f"methods/{method.name}.md"]
        assert "Cost" in page and "Use it" in page and "``" not in page.replace("```", "")
    text = documentation_pages.prose(
        "x* = T(x*), ``a_b``.\n\nParameters\n----------\nn : of x_i\n  < 3"
    )
    assert text == "x\\* = T(x\\*), `a_b`.\n\n**Parameters**\n\n- `n`: of x\\_i &lt; 3"
    assert documentation_pages.prose("a *relative* x* of y*z") == "a *relative* x\\* of y\\*z"
