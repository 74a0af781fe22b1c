"""The pages of the documentation that are made: of methods, lower levels, evidence, examples."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import runpy
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from benchmark.problems import LOWER_LEVELS
from benchmark.report import headline
from benchmark.report.tables import to_markdown

ROOT = Path(__file__).resolve().parents[1]
#: what of a headline table stands on the page of a method or a lower level
SHOWN = ("test PSNR (dB)", "95 % interval", "gradient error, start", "layers + products, start")
SHOWN = (*SHOWN, "peak of live tensors", "status")


def pages(results: Path) -> dict[str, str]:
    """Each page by its place in docs/."""
    found, tables = {}, dict(headlines(results))
    methods = {method.name: method for method in solvers()}
    for name, method in methods.items():
        found[f"methods/{name}.md"] = of_method(method, results, tables)
    found["methods/index.md"] = index(
        "Methods",
        "A method is a pair: a search that finds the state, and a rule that differentiates there. "
        "Each is one file in `solvers/`; a new file has a page here by itself. The symbols are "
        "those of [the mathematics](../mathematics.md).",
        {name: first_line(method) for name, method in methods.items()},
    )
    for name in LOWER_LEVELS:
        found[f"problems/{name}.md"] = of_problem(name, results, tables)
    found["problems/index.md"] = index(
        "Lower levels",
        "A lower level is a family of layers T: what is solved for an equilibrium, and whose θ is "
        "learned. Each is one file in `benchmark/problems/`; a new file has a page here by itself. "
        "[Your own](../bring/lower_level.md) is a file too.",
        {name: first_line(LOWER_LEVELS[name]) for name in LOWER_LEVELS},
    )
    for path in sorted(results.glob("*.md")):
        if path.stem != "claims":
            found[f"evidence/{path.name}"] = titled(path)
    found["evidence/model_card.md"] = titled(ROOT / "benchmark/imaging/denoisers/MODEL_CARD.md")
    written = sorted(uri for uri in found if uri.startswith("evidence/"))
    found["evidence/index.md"] = index(
        "Evidence about the code",
        "What commands of the repository have found about it: each page is written by one.",
        {Path(uri).stem: found[uri].partition("\n")[0].removeprefix("# ") for uri in written},
    )
    return found


def solvers() -> list[type]:
    """The classes of ``solvers/``, those whose library is missing aside, by name."""
    names = sorted(path.stem for path in (ROOT / "solvers").glob("*.py"))
    names = [name for name in names if not name.startswith("template_")]
    found = []
    for name in names:
        with suppress(ImportError):
            found.append(import_module(f"benchmark.solvers.{name}").Solver)
    return sorted(found, key=lambda method: method.name)


def index(title: str, introduction: str, entries: dict[str, str]) -> str:
    """A page that leads to others."""
    lines = [
        f"- [{name}]({name}.md){f': {text}' if text else ''}" for name, text in entries.items()
    ]
    return f"# {title}\n\n{introduction}\n\n" + "\n".join(lines) + "\n"


def first_line(thing: object) -> str:
    """The first sentence of a docstring, as Markdown."""
    return escaped(inspect.getdoc(thing).partition("\n\n")[0].replace("\n", " "))


def of_method(method: type, results: Path, tables: dict[str, headline.Table]) -> str:
    """The page of a plugin: its docstring, its parameters, how it is run, what it did."""
    defaults = "\n".join(
        f"| `{key}` | `{values[0]!r}` |" for key, values in method.parameters.items()
    )
    rows = [
        (name, table, (table.numbers["method"] == method.name).to_numpy())
        for name, table in tables.items()
    ]
    return "\n\n".join(
        [
            f"# {method.name}",
            prose(inspect.getdoc(method)),
            f"```sh\nbenchopt run . --config configs/quick.yml -s {method.name}\n```",
            f"## Parameters\n\n| parameter | default |\n|---|---|\n{defaults}",
            "## In the studies",
            *(shown(rows) or ["It takes part in none of the committed studies."]),
            *curves(results, [study for study, _, own in rows if own.any()]),
        ]
    )


def curves(results: Path, studies: list[str]) -> list[str]:
    """Of each kind of figure that has a curve for each method, those of the first study with it."""
    kinds = {"gradient_error": "Gradient error", "pareto": "Gradient error against cost"}
    kinds["accuracy"] = "F and accuracy along training"
    found = []
    for kind, title in kinds.items():
        drawn = [sorted((results / study).glob(f"{kind}_*.png")) for study in studies]
        for path in next(filter(None, drawn), [])[:2]:
            place = path.relative_to(results).as_posix()
            found.append(f"![{title}: {place}](../../results/{place})")
    return found


def of_problem(name: str, results: Path, tables: dict[str, headline.Table]) -> str:
    """The page of a family of layers: its docstring, its options, what was learned with it."""
    family = LOWER_LEVELS[name]
    module = inspect.getdoc(import_module(f"benchmark.problems.{name}"))
    fixed = ("self", "physics", "lipschitz", "image_shape")
    given = inspect.signature(family).parameters.values()
    options = [f"| `{one.name}` | `{one.default!r}` |" for one in given if one.name not in fixed]
    own = rf"{name}(?![a-z0-9])"
    rows = [
        (study, table, table.numbers["task"].str.match(own).to_numpy())
        for study, table in tables.items()
    ]
    pictures = sorted(
        path for path in results.rglob("accuracy_*.png") if re.match(f"accuracy_{own}", path.stem)
    )
    texts = [f"# {name}", prose(module), prose(inspect.getdoc(family))]
    if base := next(
        (c for c in getattr(family, "__mro__", ())[1:] if "Parameters\n" in (c.__doc__ or "")), None
    ):
        texts.append(prose(inspect.getdoc(base)))
    if options:
        texts.append("## Options\n\n| option | default |\n|---|---|\n" + "\n".join(options))
    texts += [
        "## In the studies",
        *(shown(rows) or ["It takes part in none of the committed studies."]),
    ]
    for path in pictures:
        place = path.relative_to(results).as_posix()
        texts.append(f"![F and accuracy along training, {place}](../../results/{place})")
    return "\n\n".join(texts)


def shown(rows: Iterable[tuple[str, headline.Table, object]]) -> list[str]:
    """A table for each study in which there are rows."""
    found = []
    for study, table, own in rows:
        if own.any():
            wanted = [
                c for c in table.text if c in ("task", "configuration") or c.startswith(SHOWN)
            ]
            text = table.text.loc[own, wanted]
            found.append(f"[{study}](../../results/{study}/headline.md):\n\n{to_markdown(text)}")
    return found


def headlines(results: Path) -> Iterable[tuple[str, headline.Table]]:
    """The headline table of each study."""
    for path in sorted(results.rglob("headline.csv")):
        yield path.parent.relative_to(results).as_posix(), headline.read(path)


def gallery(examples: Path) -> dict[str, str | bytes]:
    """The page of the scripts of a folder, with what each prints, and the pictures that it writes:
    all are run, each in an empty folder.
    """
    texts = [
        "# Gallery",
        "Each script is in `examples/`; this page was made by running them. Each asserts what it "
        "shows.",
    ]
    pictures: dict[str, str | bytes] = {}
    for path in sorted(examples.glob("*.py")):
        code = path.read_text(encoding="utf-8")
        said = inspect.cleandoc(ast.get_docstring(ast.parse(code)))
        title = path.stem.replace("_", " ")
        printed = io.StringIO()
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
                runpy.run_path(str(path), run_name="__main__")
            drawn = {one.name: one.read_bytes() for one in sorted(Path(folder).glob("*.png"))}
        texts += [f"## {title}", escaped(said)]
        texts += [f"![{title}](gallery/{name})" for name in drawn]
        texts += [f"```python\n{code.rstrip()}\n```", "It prints:"]
        texts += [f"```text\n{printed.getvalue()}```"]
        pictures |= {f"gallery/{name}": content for name, content in drawn.items()}
    return {"gallery.md": "\n\n".join(texts), **pictures}


def titled(path: Path) -> str:
    """A Markdown file as a page, with its name as title where it has none."""
    text = path.read_text(encoding="utf-8")
    return text if text.startswith("# ") else f"# {path.stem.capitalize()}\n\n{text}"


def prose(docstring: str) -> str:
    """A docstring as Markdown: its code as code, its sections as lists, all else as it reads."""
    found = []
    for block in docstring.split("\n\n"):
        lines = block.splitlines()
        if len(lines) > 1 and set(lines[1]) == {"-"}:
            items = re.split(r"\n(?=\S)", "\n".join(lines[2:]))
            split = [" ".join(item.split()).partition(" : ") for item in items]
            entries = [f"- `{name}`: {escaped(text)}" for name, _, text in split]
            found.append(f"**{lines[0]}**\n\n" + "\n".join(entries))
        elif all(line.startswith("    ") for line in lines):
            found.append(block)
        else:
            found.append(escaped(block))
    return "\n\n".join(found)


def escaped(text: str) -> str:
    """Prose of a docstring as Markdown shows it, what stands between double backticks as code, and
    a word between stars emphasised; the star of x* is one.
    """
    pieces = re.split(r"``(.+?)``", text, flags=re.DOTALL)
    for i, piece in enumerate(pieces[::2]):
        starred = re.sub(r"([*_\[\]<])", r"\\\1", piece).replace("\\<", "&lt;")
        pieces[2 * i] = re.sub(r"(?<!\w)\\\*([a-z]+)\\\*", r"*\1*", starred)
    pieces[1::2] = [f"`{' '.join(piece.split())}`" for piece in pieces[1::2]]
    linked = r"[arXiv \1](https://arxiv.org/abs/\1)"
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", linked, "".join(pieces))
