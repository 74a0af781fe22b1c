"""benchopt's own ``publish`` takes the result files: what it sends, seen by a stand-in."""

from __future__ import annotations

import json
import shutil
import sys
import types

import pytest
from benchopt.cli.process_results import publish
from conftest import ROOT

PARQUET = ROOT / "results" / "quick" / "quick.parquet"


class MissingError(Exception):
    """What PyGithub raises where there is no such branch or file."""


class Fork:
    """A fork of the repository of results: holds what is sent to it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | str] = {}

    def get_branch(self, name):
        raise MissingError(name)

    def create_git_ref(self, ref, sha):
        self.branch = ref

    def get_contents(self, path, ref):
        raise MissingError(path)

    def create_file(self, path, message, content, branch):
        self.files[path] = content


@pytest.fixture
def fork(monkeypatch):
    """PyGithub replaced by the little of it that benchopt calls."""
    fork = Fork()
    branch = types.SimpleNamespace(commit=types.SimpleNamespace(sha="0"))
    pull = types.SimpleNamespace(html_url="https://github.com/benchopt/results/pull/1")
    origin = types.SimpleNamespace(
        create_fork=lambda: fork,
        default_branch="main",
        get_branch=lambda name: branch,
        get_pulls=lambda **_: [],
        create_pull=lambda **_: pull,
    )
    user = types.SimpleNamespace(login="someone")
    client = types.SimpleNamespace(get_repo=lambda name: origin, get_user=lambda: user)
    module = types.ModuleType("github")
    module.Github, module.GithubException = lambda login_or_token: client, MissingError
    monkeypatch.setitem(sys.modules, "github", module)
    monkeypatch.delitem(sys.modules, "benchopt.results.github", raising=False)
    yield fork
    sys.modules.pop("benchopt.results.github", None)


def test_a_result_file_is_published(fork, tmp_path, capsys):
    """From a copy, whose outputs hold that file: benchopt looks for others nowhere else."""
    shutil.copy(ROOT / "objective.py", tmp_path)
    for folder in ("solvers", "datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "outputs").mkdir()
    shutil.copy(PARQUET, tmp_path / "outputs")
    file = str(tmp_path / "outputs" / PARQUET.name)
    publish([str(tmp_path), "-f", file, "-t", "token"], standalone_mode=False)
    (sent,) = [path for path in fork.files if path.endswith(".parquet")]
    assert sent.endswith("/outputs/quick.parquet")
    assert fork.files[sent] == PARQUET.read_bytes()
    (about,) = [json.loads(text) for path, text in fork.files.items() if path.endswith(".json")]
    assert about["pretty_name"] == "Learning at equilibrium"
    assert about["url"].startswith("https://github.com/")
    assert "Created PR" in capsys.readouterr().out
