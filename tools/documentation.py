"""The hook of mkdocs.yml: pages that are made, links that leave docs/, formulas, pictures.

Pages are made for each file of ``solvers/``, ``benchmark/problems/`` and ``examples/``, so that a
new one has its page; the site of results is laid beside them. In docs/ a link to a file of the
repository is written as on disk, ``../results/quick/table.md``: here it becomes one of the site.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from posixpath import relpath

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import documentation_pages  # noqa: E402

from benchmark.report import site  # noqa: E402

LINK = re.compile(r"(\]\(|\]: )((?:\.\./)+[^)#\s]+)(#[^)\s]*)?")
_draft = tempfile.TemporaryDirectory(prefix="documentation-")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """In nav, what ends in a slash is a folder: its index, then its pages by name.

    The project's address is that of objective.py, none while that says #ORG.
    """
    address = re.search(r'url = "([^"]+)"', (ROOT / "objective.py").read_text(encoding="utf-8"))[1]
    config.repo_url = None if "#ORG" in address else address
    made = [*pages(config), *(f"bring/{path.name}" for path in sorted(ROOT.glob("docs/bring/*")))]
    for entry in (*config.nav, *next(e["Measurement"] for e in config.nav if "Measurement" in e)):
        for title, folder in list(entry.items()):
            if isinstance(folder, str) and folder.endswith("/"):
                inside = sorted(uri for uri in dict.fromkeys(made) if uri.startswith(folder))
                inside.sort(key=lambda uri: not uri.endswith("/index.md"))
                entry[title] = inside
    return config


def pages(config: MkDocsConfig) -> dict[str, str | bytes]:
    """The text of each page that is made, and the gallery's pictures, by their places in docs/."""
    if not hasattr(pages, "made"):
        gallery = documentation_pages.gallery(ROOT / config.extra["examples"])
        pages.made = documentation_pages.pages(ROOT / config.extra["results"]) | gallery
    return pages.made


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, the site of results, and what of the repository is linked."""
    for uri, text in pages(config).items():
        files.append(File.generated(config, uri, content=text))
    results = Path(_draft.name, "results")
    if not results.exists():
        site.report(ROOT / config.extra["results"], results, documentation="../index.html")
    for path in sorted(results.rglob("*")):
        if path.is_file() and path.suffix != ".md":
            uri = f"results/{path.relative_to(results).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for file in list(files.documentation_pages()):
        for _, link, _ in LINK.findall(file.content_string):
            path = (ROOT / "docs" / file.src_uri).parent.joinpath(link).resolve()
            uri = place(path)
            beside = uri.startswith(("source/", "evidence/")) and uri not in files.src_uris
            if path.is_file() and beside:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def place(path: Path) -> str:
    """Where a file of the repository is in the site."""
    name = path.relative_to(ROOT).as_posix()
    folder, _, rest = name.partition("/")
    if folder == "docs":
        return rest
    if folder != "results":
        return "evidence/model_card.md" if path.suffix == ".md" else f"source/{name}"
    if rest == "claims.md":
        return "results/index.html"
    if path.parent == ROOT / "results":
        return f"evidence/{path.name}"
    if path.suffix == ".md":
        return f"results/studies/{Path(rest).parent.as_posix()}.html"
    return f"results/files/{rest}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/, as links of the site."""
    here = Path(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        path = (ROOT / "docs" / here / link[2]).resolve()
        return f"{link[1]}{relpath(place(path), here.as_posix())}{link[3] or ''}"

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, which needs no script; each picture leads to itself at full size."""

    def formula(found: re.Match[str]) -> str:
        tex = found[3].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        display = "block" if found[1] == "div" else "inline"
        made = latex2mathml.converter.convert(tex, display=display)
        return f'<div class="formula">{made}</div>' if display == "block" else made

    written = r'(?s)<(div|span) class="arithmatex">\\(\(|\[)(.*?)\\[)\]]</\1>'
    html = re.sub(written, formula, html)
    return re.sub(r'(<img [^>]*?src="([^"]+)"[^>]*?>)(?!</a>)', r'<a href="\2">\1</a>', html)


def on_post_build(config: MkDocsConfig) -> None:
    """The Markdown files of the site of results, which are no pages here."""
    results = Path(_draft.name, "results")
    for path in results.rglob("*.md"):
        target = Path(config.site_dir, "results", path.relative_to(results))
        target.write_bytes(path.read_bytes())
