"""A checkpoint holds what was put there, bit for bit, or the one before."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.running import checkpoint

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.integers(0, 3).map(lambda n: torch.rand(n, 2, dtype=torch.float64)),
    st.integers(0, 3).map(lambda n: np.arange(n, dtype=np.uint8)),
    st.just(torch.tensor(float("nan"))),
    st.just(torch.zeros((), dtype=torch.bfloat16)),
)
keys = st.one_of(st.text(max_size=5), st.integers(), st.tuples(st.text(max_size=3), st.integers()))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


@given(trees)
def test_what_is_read_is_what_was_written(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "run.safetensors"
    checkpoint.write(path, tree)
    assert same(tree, checkpoint.read(path))


def test_an_interrupted_write_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "run.safetensors"
    checkpoint.write(path, {"step": 1})

    def die(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(path, {"step": 2})
    assert checkpoint.read(path) == {"step": 1}
    assert os.listdir(path.parent) == [path.name]


def test_what_is_none_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*absent"):
        checkpoint.read(tmp_path / "absent")
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"other is no checkpoint: "):
        checkpoint.read(tmp_path / "other")
    with pytest.raises(TypeError, match="a checkpoint holds no function"):
        checkpoint.write(tmp_path / "f", {"f": die_hard})


def die_hard():
    pass
