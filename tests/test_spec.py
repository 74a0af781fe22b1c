"""What a text names: entries of the package, of libraries, of files; what is wrong is said."""

import os
import subprocess
import sys
from operator import methodcaller
from pathlib import Path

import pytest
from joblib import Parallel, delayed

from benchmark.options.brought import entry_of
from benchmark.options.spec import Kind

KIND: Kind = Kind(
    "sum", {"plain": lambda x, y=1: x + y}, {"os": ["os.path"], "no": ["not_there"]}, form="(x)"
)


def test_an_entry_is_called_with_what_it_takes_of_the_context(file):
    path = file("def mine(x, *, scale=2):\n    return scale * x\n")
    assert KIND.build("plain(y=4)", x=3, unused=None) == 7
    assert KIND.build(f"{path}(scale=5)", x=3, unused=None) == 15
    assert KIND.build(f" {path} ", x=3) == 6
    assert KIND.build("os.basename", p="a/b") == "b"
    # as benchopt's command line hands it over
    assert KIND.build(f"{path}(scale:5)", x=3) == 15


def test_a_path_is_taken_from_the_working_directory(file, monkeypatch):
    path = file("def mine(x):\n    return x\n", name="with space.py")
    monkeypatch.chdir(Path(path).parent)
    assert KIND.build("with space.py", x=3) == 3


def test_a_file_in_its_place_needs_no_path(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums").mkdir()
    file("def mine(x, a=1):\n    return a * x\n", name="sums/mine.py")
    assert KIND.build("mine(a=2)", x=3) == 6
    with pytest.raises(ValueError, match=r"sum '.*sums/broken.py', line 1: SyntaxError"):
        KIND.build(Path(file("x x", name="sums/broken.py")).stem, x=3)


def test_the_entry_is_the_one_named_as_the_file_or_the_only_one(file):
    several = "from math import sqrt\ndef helper(x):\n    return 0\n"
    named = file(several + "class MyBlur:\n    pass\n", "my_blur.py")
    assert entry_of(named).__name__ == "MyBlur"
    assert entry_of(file(several)).__name__ == "helper"
    with pytest.raises(ValueError, match=r"two.py' defines helper, other, none of which is named"):
        KIND.choose(file(several + "def other():\n    pass\n", "two.py"))
    with pytest.raises(ValueError, match=r"none.py' defines no public function or class"):
        KIND.choose(str(file("from math import sqrt\n", "none.py")))


def test_a_changed_file_is_another_entry(file):
    assert KIND.build(str(file("def mine():\n    return 1\n"))) == 1
    assert KIND.build(str(file("def mine():\n    return 2\n"))) == 2


@pytest.mark.parametrize(
    ("options", "y"),
    [
        ("", 1),
        ("()", 1),
        ("(y=(0.1,-2,None))", (0.1, -2, None)),
        ("( y = 'a b' )", "a b"),
        # benchopt's command line turns every "=" into ":"
        ("(y:'valid')", "valid"),
        ("( y : {'a':1})", {"a": 1}),
    ],
)
def test_options_are_literals(options, y):
    assert Kind("pair", {"pair": lambda x, y=1: (x, y)}).build(f"pair{options}", x=0) == (0, y)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(:\n", r"sum '.*mine.py', line 1: SyntaxError"),
        ("\nraise KeyError('a')\n", r"mine.py', line 2: KeyError: 'a': expected \(x\)"),
        ("import sys\nsys.exit(0)\n", r"mine.py', line 2: SystemExit: 0"),
        ("import not_there\n", r"mine.py', line 1: ModuleNotFoundError: No module .* 'not_there'"),
        ("def mine(x):\n    return x.y\n", r"sum '.*mine.py': AttributeError: 'int' object"),
        (
            "def mine(z):\n    return z\n",
            r"sum '.*mine.py': TypeError: mine\(\) missing 1 required",
        ),
        ("def mine(x):\n    return x\n", r"no option 'scale' \(in .*\): expected one of none"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(file, text, said):
    spec = f"{file(text)}{'(scale=1)' if 'no option' in said else ''}"
    with pytest.raises(ValueError, match=said):
        KIND.build(spec, x=3)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("plane", "unknown sum 'plane': expected one of plain, os.NAME, no.NAME or FILE.py: did "),
        ("os.basenam", "unknown sum 'os.basenam': .* did you mean os.basename?"),
        ("os._get_sep", "unknown sum 'os._get_sep'"),
        ("no.thing", "sum 'no.thing' needs a package that is not there: No module named 'not_th"),
        ("plain(x=1)", r"sum 'plain' has no option 'x' \(in 'plain\(x=1\)'\): expected one of y"),
        ("plain(z=1)", "sum 'plain' has no option 'z'"),
        ("plain(1)", r"a sum is written name or name\(option=value, …\), got 'plain\(1\)'"),
        ("plain(y=open('x'))", "a sum is written"),
        (
            "absent/mine.py",
            r"sum 'absent/mine.py': No such file or directory, looked for at .*: exp",
        ),
        ("(" * 300, "a sum is written"),
        (None, "unknown sum 'None'"),
        ("", "a sum is written"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(spec, said):
    with pytest.raises(ValueError, match=said):
        KIND.build(spec, x=3)


def test_objects_of_a_file_travel_to_other_processes(file):
    made = entry_of(
        file("class Mine:\n    value = 3\n    def get(self):\n        return self.value\n")
    )()
    assert Parallel(n_jobs=2)(delayed(methodcaller("get"))(made) for _ in range(2)) == [3, 3]


def test_a_text_needs_no_torch(file):
    path = file("def mine(x):\n    return x\n")
    code = (
        "import sys\nfrom benchmark.options.spec import Kind\n"
        f"assert Kind('sum', {{}}).build({str(path)!r}, x=1) == 1\n"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
