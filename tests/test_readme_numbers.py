"""The numbers of a text are those of its table, and a stale text is told."""

from __future__ import annotations

import math
import re
from functools import cache

import pandas as pd
import pytest
from conftest import ROOT
from made_up import cli
from test_headline import frame

from benchmark.report import headline, tables
from benchmark.report.numbers import FINDINGS, findings, sentences

TEXT = """# Title

Before.

<!-- numbers: results/headline.csv -->
old
<!-- /numbers -->

After: 12.34 dB.
"""


@cache
def made() -> tables.Table:
    return headline.headline(frame())


@pytest.fixture
def text(tmp_path):
    """A README beside a results folder with a headline."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "headline.csv").write_text(
        tables.to_csv(made().numbers), encoding="utf-8"
    )
    path = tmp_path / "README.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_block_becomes_the_table(text):
    assert cli("numbers", text, "--check")[0] == 1
    assert text.read_text(encoding="utf-8") == TEXT
    code, printed, _ = cli("numbers", text)
    assert (code, printed) == (0, f"{text}: numbers written\n")
    new = text.read_text(encoding="utf-8")
    table = made()
    assert table.bold and tables.to_markdown(table.text, table.bold) in new
    assert new.startswith("# Title\n\nBefore.\n\n<!-- numbers: results/headline.csv -->\n\n- ")
    assert new.endswith("\n<!-- /numbers -->\n\nAfter: 12.34 dB.\n")
    assert "\nold\n" not in new
    assert cli("numbers", text, "--check")[:2] == (0, f"{text}: up to date\n")


def test_another_table_is_taken_as_it_is(text):
    table = "| method | solved |\n| --- | --- |\n| DEQ | 8/8 |\n"
    (text.parent / "results" / "ranking.md").write_text(table, encoding="utf-8")
    path = text.with_name("OTHER.md")
    path.write_text("<!-- numbers: results/ranking.md -->\n<!-- /numbers -->\n", encoding="utf-8")
    assert cli("numbers", path)[0] == 0
    marked = f"<!-- numbers: results/ranking.md -->\n\n{table}\n<!-- /numbers -->\n"
    assert path.read_text(encoding="utf-8") == marked
    assert cli("numbers", path, "--check")[0] == 0


def test_a_block_can_be_the_sentences_alone(text):
    path = text.with_name("OTHER.md")
    marker = "<!-- numbers: results/headline.csv{} -->"
    path.write_text(f"{marker.format('#sentences')}\n<!-- /numbers -->\n", encoding="utf-8")
    cli("numbers", path), cli("numbers", text)
    said = [f"- {sentence}" for sentence in sentences(headline.headline(frame()).numbers)]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == [marker.format("#sentences"), "", *said, "", "<!-- /numbers -->"]
    assert all(line in text.read_text(encoding="utf-8") for line in said)


def test_verdicts_are_counted(text):
    rows = [
        ("HOLDS", "it is so", "a, b; c, d"),
        ("FAILS", "it is so", "e, f"),
        ("NOT TESTED", "it | too", "a, b; c, d; e, f"),
        ("NOT TESTED", "nowhere", tables.MISSING),
    ]
    claims = pd.DataFrame(rows, columns=["verdict", "statement", "task"])
    claims.to_csv(text.parent / "results" / "claims.csv", index=False)
    path = text.with_name("OTHER.md")
    path.write_text("<!-- numbers: results/claims.csv -->\n<!-- /numbers -->\n", encoding="utf-8")
    assert cli("numbers", path)[0] == 0
    assert path.read_text(encoding="utf-8").splitlines()[2:5] == [
        "- it is so: HOLDS in 2, FAILS in 1.",
        "- it \\| too: NOT TESTED in 3.",
        "- nowhere: no task of this kind.",
    ]
    claims.assign(verdict="HOLDS").to_csv(text.parent / "results" / "claims.csv", index=False)
    assert cli("numbers", path, "--check")[0] == 1


def test_findings_are_sentences(text):
    """Of the tasks on which a statement was tested, BETTER and WORSE being verdicts too."""
    statements = FINDINGS["statement"].tolist()
    rate, close, norms, pnp, _, limits = statements
    rows = [
        ("HOLDS", f"{rate}, of one kind", "a; b"),
        ("NOT TESTED", rate, "c; d; e"),
        ("UNDECIDED", rate, "f"),
        ("NOT TESTED", close, "a"),
        ("BETTER", norms, "a"),
        ("HOLDS", norms, "b"),
        ("WORSE", norms, "c"),
        ("FAILS", pnp, "d"),
        ("FAILS", limits, "a; b"),
        ("HOLDS", "another statement", "a"),
    ]
    claims = pd.DataFrame(rows, columns=["verdict", "statement", "task"])
    claims.to_csv(text.parent / "results" / "claims.csv", index=False)
    path = text.with_name("OTHER.md")
    marker = "<!-- numbers: results/claims.csv#findings -->"
    path.write_text(f"{marker}\n<!-- /numbers -->\n", encoding="utf-8")
    assert cli("numbers", path)[0] == 0
    first, second, third, fourth = (said.rpartition(": ")[2] for said in findings(claims))
    assert first == "found on 2 of 3 tasks, undecided on 1."
    assert second == "not tested."
    assert fourth == "found on 0 of 2 tasks, refuted on 2."
    assert third == (
        "weighted norms, found on 2 of 3 tasks, refuted on 1; "
        "Plug-and-Play, found on 0 of 1 task, refuted on 1; DRUNet, not tested."
    )
    paragraph = path.read_text(encoding="utf-8").splitlines()[2]
    assert paragraph == " ".join(findings(claims))


def test_the_findings_are_of_statements_that_there_are():
    claims = pd.read_csv(ROOT / "results" / "claims.csv")
    for start in FINDINGS["statement"]:
        assert claims["statement"].str.startswith(start).any(), start


def test_the_texts_of_the_repository_have_their_numbers(monkeypatch):
    """By the command of the Makefile."""
    monkeypatch.chdir(ROOT)
    texts = re.search(r"report numbers (.*)", (ROOT / "Makefile").read_text())[1].split()
    assert cli("numbers", *texts, "--check")[0] == 0


def test_the_sentence_names_the_best(text):
    cli("numbers", text)
    numbers = headline.headline(frame()).numbers.set_index("configuration")
    best = numbers.loc[numbers.index != "start", "test_psnr"].idxmax()
    (said,) = [
        line
        for line in text.read_text(encoding="utf-8").splitlines()
        if line.startswith("- wavelet_l1, inpainting: ")
    ]
    row = numbers.loc[best]
    assert f"{row['test_psnr']:.2f} dB (95 % interval {row['low']:.2f} to" in said
    assert f"with {best}, {row['gain']:+.2f} dB from the start" in said
    others = set(numbers.index[numbers["best"]]) - {best}
    best, *_ = said.partition(". ")
    assert all(name in best for name in others)
    assert "Unrolling" not in best


def test_a_changed_table_makes_the_text_stale(text):
    cli("numbers", text)
    csv = text.parent / "results" / "headline.csv"
    numbers = headline.read(csv).numbers
    csv.write_text(tables.to_csv(numbers.assign(test_psnr=numbers["test_psnr"] + 0.01)))
    code, printed, _ = cli("numbers", text, "--check")
    assert code == 1 and printed == f"{text}: its numbers are not those of the tables\n"


def test_a_changed_number_in_the_text_is_stale(text):
    cli("numbers", text)
    new = text.read_text(encoding="utf-8")
    text.write_text(new.replace("dB from the start", "dB more"), encoding="utf-8")
    assert cli("numbers", text, "--check")[0] == 1
    cli("numbers", text)
    assert text.read_text(encoding="utf-8") == new


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "no markers", "expected pairs of lines"),
        (lambda text: text.replace("<!-- /numbers -->", ""), "expected pairs of lines"),
        (lambda text: text + "<!-- numbers: b.csv -->\n", "expected pairs of lines"),
        (lambda text: text.replace("headline.csv", "other.csv"), "not a readable table"),
        (
            lambda text: text.replace("results/headline.csv", "bad.csv"),
            "bad.csv: no columns task, configuration",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(text, change, said):
    (text.parent / "bad.csv").write_text("a,b\n1,2\n")
    changed = change(TEXT)
    text.write_text(changed, encoding="utf-8")
    code, _, complaint = cli("numbers", text)
    assert code == 2 and complaint.count("\n") == 1 and said in complaint
    assert text.read_text(encoding="utf-8") == changed


def told(method: str, *, psnr: float, f: float, best: bool = False, **more) -> dict:
    """A row of the headline's numbers."""
    row = dict.fromkeys(headline.ORDER, math.nan) | dict.fromkeys(headline.VERDICTS, "")
    row |= {"task": "a task", "configuration": method, "method": method, "fell": 0.0}
    return row | {"test_psnr": psnr, "value": f, "gain": psnr - 25, "best": best} | more


def test_the_sentence_says_what_is_inconvenient():
    rows = [
        told("start", psnr=25, f=0.02),
        told("Grid-Search", psnr=27, f=0.012, best=True),
        told("DEQ", psnr=26, f=0.01, to_search="worse", fell=0.31, moved=0.001),
        told("JFB", psnr=24.5, f=0.015, to_start="worse", to_search="worse", moved=0.0011),
        told("HOAG", psnr=26.9, f=0.01, best=True, to_search="not told"),
    ]
    (said,) = sentences(pd.DataFrame(rows))
    for sentence in (
        "not told from it: HOAG.",
        "No method with a gradient is above Grid-Search, a search without.",
        "Significantly worse than the start: JFB.",
        "Significantly worse than Grid-Search: DEQ, JFB.",
        "F is lower than at the start and the test PSNR too (over-fitting): JFB (-0.50 dB).",
        "While F fell on, the test PSNR fell from its highest along training: DEQ (−0.31 dB).",
        "F had not come to rest when training ended: JFB.",
    ):
        assert sentence in said, said
    rows = [told("start", psnr=25, f=0.02), told("Grid-Search", psnr=26, f=0.012)]
    rows.append(told("DEQ", psnr=27, f=0.01, best=True, to_search="better"))
    (said,) = sentences(pd.DataFrame(rows))
    assert said.endswith("from the start. Significantly better than Grid-Search: DEQ.")


def test_verdicts_and_over_fitting_are_found_in_the_rows():
    """Paired over images: Unrolling is 1 dB behind, and ends below its own middle while F falls."""
    found = frame(images=16, repetitions=2)
    found["method"] = found["method"].replace("JFB", "Grid-Search")
    own = found["method"] == "Unrolling"
    found.loc[own & (found["outer_step"] == 30), "test_psnr"] += 3
    numbers = headline.headline(found).numbers.set_index("method")
    assert numbers["to_start"].drop("").tolist() == ["better"] * 4
    verdicts = numbers["to_search"].to_dict()
    assert verdicts["Unrolling"] == "worse" and verdicts["DEQ"] == "better"
    assert verdicts["Grid-Search"] == "" and numbers["fell"].drop("").tolist() == [3, 0, 0, 0]
