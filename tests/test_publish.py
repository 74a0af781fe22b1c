"""benchopt's own ``publish`` takes the result files: what it sends, seen by a stand-in."""

from __future__ import annotations

import json
import shutil
import sys
import types

import pytest
from benchopt.cli.process_results import publish
from benchopt.results import read_results
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


@pytest.fixture
def copy(tmp_path):
    """The file of results in a copy, whose outputs hold it: benchopt looks for it nowhere else."""
    shutil.copy(ROOT / "objective.py", tmp_path)
    for folder in ("solvers", "datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "outputs").mkdir()
    shutil.copy(PARQUET, tmp_path / "outputs")
    return tmp_path / "outputs" / PARQUET.name


def test_a_result_file_is_published(fork, copy, capsys):
    publish([str(copy.parents[1]), "-f", str(copy), "-t", "token"], standalone_mode=False)
    (sent,) = [path for path in fork.files if path.endswith(".parquet")]
    assert sent.endswith("/outputs/quick.parquet")
    assert fork.files[sent] == PARQUET.read_bytes()
    (about,) = [json.loads(text) for path, text in fork.files.items() if path.endswith(".json")]
    assert about["pretty_name"] == "Learning at equilibrium"
    assert about["url"].startswith("https://github.com/")
    assert "Created PR" in capsys.readouterr().out


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """huggingface_hub replaced by what benchopt calls of it: the files of one repository."""
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token):
            assert token == "token"

        def whoami(self):
            pass

        def repo_info(self, repo_id, repo_type):
            if not hub.exists():
                raise MissingError(repo_id)

        def create_repo(self, repo_id, repo_type, exist_ok):
            hub.mkdir()

        def upload_file(self, path_or_fileobj, path_in_repo, **_):
            shutil.copy(path_or_fileobj, hub / path_in_repo)

    def download(repo_id, filename, repo_type, local_dir, token):
        if not (hub / filename).exists():
            raise MissingError(filename)
        return shutil.copy(hub / filename, local_dir)

    errors = types.ModuleType("huggingface_hub.errors")
    errors.EntryNotFoundError = errors.RepositoryNotFoundError = MissingError
    errors.LocalTokenNotFoundError = type("LocalTokenNotFoundError", (Exception,), {})
    module = types.ModuleType("huggingface_hub")
    module.HfApi, module.hf_hub_download, module.errors = Api, download, errors
    for name, one in {"huggingface_hub": module, "huggingface_hub.errors": errors}.items():
        monkeypatch.setitem(sys.modules, name, one)
    monkeypatch.delitem(sys.modules, "benchopt.results.hugging_face", raising=False)
    yield hub
    sys.modules.pop("benchopt.results.hugging_face", None)


def test_a_result_file_is_published_on_hugging_face_and_joined_to_what_is_there(hub, copy):
    """A CSV: numbers come back as they were; published again, no row is there twice."""
    command = [str(copy.parents[1]), "-f", str(copy), "--hub", "huggingface", "-t", "token"]
    rows = read_results(copy)
    for _ in range(2):
        publish([*command, "--repo", "someone/results"], standalone_mode=False)
        (sent,) = hub.iterdir()
        found = read_results(sent)
        assert sent.suffix == ".csv" and len(found) == len(rows)
        for name in ("objective_value", "objective_test_psnr"):
            assert sorted(found[name]) == pytest.approx(sorted(rows[name]), rel=1e-12)
