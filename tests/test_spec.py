"""Objects named by text: what is understood, and what a user who mistypes is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.options.spec import build, choose


def blur(image, *, width=1.0, padding="circular"):
    return image, width, padding


def mask(image, *, keep):
    return image, keep


def nothing():
    return "nothing"


TABLE = {"blur": blur, "mask": mask, "nothing": nothing}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("blur", ("x", 1.0, "circular")),
        ("blur()", ("x", 1.0, "circular")),
        ("blur(width=2)", ("x", 2, "circular")),
        (" blur( width = 0.5 , padding='reflect' ) ".strip(), ("x", 0.5, "reflect")),
        ("mask(keep=(0.1,-2,None))", ("x", (0.1, -2, None))),
        # benchopt's command line turns every "=" into ":"
        ("blur(width:2,padding:'valid')", ("x", 2, "valid")),
        ("blur( width : 2 , padding : 'valid')", ("x", 2, "valid")),
        ("mask(keep={'a':1})", ("x", {"a": 1})),
    ],
)
def test_what_is_understood(spec, found):
    assert build(spec, TABLE, kind="degradation", image="x") == found
    assert choose(spec, TABLE, kind="degradation", given=["image"])("x") == found


@given(st.floats(allow_nan=False), st.text(alphabet="abc xyz.-_/"))
def test_any_literal_passes_unchanged(width, padding):
    spec = f"blur(width={width!r},padding={padding!r})" if abs(width) < 1e300 else "blur"
    found = build(spec, TABLE, kind="degradation", image=None)
    assert found == ((None, width, padding) if abs(width) < 1e300 else (None, 1.0, "circular"))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "blur(",
        "blur(2)",
        "blur(width)",
        "blur(width=x)",
        "a.b",
        "blur.c(width=1)",
        "3",
        None,
        0.5,
        "blur(width=1)(padding=2)",
        "blur(**{'width': 1})",
        "blur; mask",
        "blur(width=1+y)",
    ],
)
def test_what_is_not_of_that_form(spec):
    with pytest.raises(ValueError, match=r"a degradation is written name or name\(option=value"):
        choose(spec, TABLE, kind="degradation")


def test_what_is_unknown():
    with pytest.raises(
        ValueError, match=r"unknown degradation 'blurr': expected one of blur, mask, nothing"
    ):
        choose("blurr(width=1)", TABLE, kind="degradation")
    with pytest.raises(
        ValueError,
        match=r"degradation 'blur' has no option 'size' \(in 'blur\(size=1\)'\): "
        "expected one of width, padding",
    ):
        choose("blur(size=1)", TABLE, kind="degradation", given=["image"])
    with pytest.raises(ValueError, match=r"has no option 'image'.*expected one of keep"):
        build("mask(image=1)", TABLE, kind="degradation", image="x")
    with pytest.raises(ValueError, match="expected one of none"):
        choose("nothing(keep=1)", TABLE, kind="degradation")


def test_errors_of_the_entry_are_its_own():
    with pytest.raises(TypeError, match="keep"):
        build("mask", TABLE, kind="degradation", image="x")
