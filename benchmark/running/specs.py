"""What the text of the package tells of "name(option=value)": names, options, values out of range.

Nothing is imported. Of a function or class that a spec names, the checks are made that its text
makes of its arguments whatever they are: calls of ``benchmark.options.checks``, those of what it
calls in turn among them. What the text does not tell passes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

from benchmark.options import checks
from benchmark.options.brought import placed
from benchmark.options.spec import Kind, no_option
from benchmark.problems import LOWER_LEVELS
from benchmark.running.faults import one_line, unknown
from benchmark.running.texts import Defined, Module, UnknownError, defined, module_of, pairs

#: of functions that call each other, and of specs within specs
DEEPEST = 6


@final
@dataclass(frozen=True)
class Table:
    """What a spec can name.

    what : an entry is, in words; entries : by name, None where the text does not tell; given : the
    options that the caller supplies; also : those of any entry; nothing : whether None passes.
    """

    what: str
    entries: Callable[[], Mapping[str, tuple[Defined, Module] | None]]
    given: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    nothing: bool = False


def _written(place: str) -> dict[str, tuple[Defined, Module] | None]:
    """The entries of the mapping at "module.NAME"."""
    dotted, _, name = place.rpartition(".")
    home, found = module_of(dotted), {}
    for key, value, where in pairs(*defined(name, home)):
        found[key] = _entry(value, where)
    return found


def _entry(value: ast.expr, where: Module) -> tuple[Defined, Module] | None:
    found: tuple[Defined, Module] = (value, where)
    try:
        while isinstance(found[0], ast.Name):
            found = defined(found[0].id, found[1])
    except UnknownError:
        return None
    return found


def _families() -> dict[str, tuple[Defined, Module] | None]:
    places = {name: module_of(f"benchmark.problems.{name}") for name in LOWER_LEVELS}
    return {name: _entry(ast.Name("FAMILY"), place) for name, place in places.items()}


def _of_torch(dotted: str, base: str, **shorter: str) -> dict[str, tuple[Defined, Module] | None]:
    """The classes that a module of torch lists, but ``base`` of them all, and ``shorter`` names."""
    home = module_of(dotted)
    public, _ = defined("__all__", home)
    names = [n for n in ast.literal_eval(public) if n[0].isupper() and n != base]
    found = {short: _entry(ast.Name(name), home) for short, name in shorter.items()}
    return found | {n: _entry(ast.Name(n), home) for n in names if n.lower() not in shorter}


_ADJOINT = Table(
    "adjoint solver",
    partial(_written, "benchmark.solve.linear.ADJOINT_SOLVERS"),
    given=("matvec", "b", "x0", "tol", "max_steps"),
)
#: by the name of a parameter, or of an option of another spec
TABLES = {
    "lower": Table("lower level", _families, given=("physics", "lipschitz", "image_shape")),
    "degradation": Table(
        "degradation",
        partial(_written, "benchmark.imaging.degradations.DEGRADATIONS"),
        given=("image_shape", "img_size", "dtype"),
        also=("noise",),
    ),
    "denoiser": Table(
        "denoiser",
        partial(_written, "benchmark.imaging.denoisers.table.DENOISERS"),
        given=("image_shape", "in_channels", "out_channels"),
    ),
    "loss": Table("upper loss", partial(_written, "benchmark.imaging.losses.UPPER_LOSSES")),
    "equilibrium_solver": Table(
        "equilibrium solver",
        partial(_written, "benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS"),
        given=("T", "x0", "tol", "max_layers"),
    ),
    "adjoint_solver": _ADJOINT,
    "tangent_solver": _ADJOINT,
    "solver": _ADJOINT,
    "gradient": Table(
        "gradient rule",
        partial(_written, "benchmark.gradients.named.GRADIENT_RULES"),
        given=("T", "x"),
    ),
    "optimizer": Table(
        "optimizer",
        partial(_of_torch, "torch.optim", "Optimizer", adam="Adam", gradient_descent="SGD"),
        given=("params", "lr"),
    ),
    "schedule": Table(
        "schedule",
        partial(_of_torch, "torch.optim.lr_scheduler", "LRScheduler"),
        given=("optimizer",),
        nothing=True,
    ),
}


def rule(parameter: str, value: object) -> None:
    """Raise ValueError where ``value`` of one of ``TABLES`` cannot be what it names."""
    table = TABLES[parameter]
    if value is None and table.nothing:
        return
    checks.text(parameter, value)
    for fault in faults_of_spec(table, str(value)):
        raise ValueError(fault)


def faults_of_spec(table: Table, spec: str, depth: int = 0) -> Iterator[str]:
    """A line for each fault of ``spec`` that the text tells."""
    name, options = Kind(table.what, {}).parsed(spec)
    try:
        entries = table.entries()
    except UnknownError:
        return
    # torch's names are taken whatever the letter case
    by_case = {known.lower(): known for known in entries}
    known = by_case.get(name.lower(), name) if table.what in ("optimizer", "schedule") else name
    if known not in entries:
        brought = placed(Kind(table.what, {}).folder, f"{name}.py")
        if name.isidentifier() and brought is None:
            yield f"{unknown(table.what, name, entries)} (in {checks.shown(spec)})"
        return
    try:
        keywords, any_other = signature(*(entries[known] or _not_told()))
    except UnknownError:
        return
    accepted = [k for k in (*keywords, *table.also) if k not in table.given]
    for key, value in options.items():
        if key not in accepted and (key in table.given or not any_other):
            yield no_option(table.what, name, key, spec, accepted)
        elif key in TABLES and isinstance(value, str) and depth < DEEPEST:
            yield from faults_of_spec(TABLES[key], value, depth + 1)
    for fault in _refused(*entries[known], options, depth=0):
        yield f"{fault} (in {checks.shown(spec)})"


def _not_told() -> tuple[Defined, Module]:
    raise UnknownError


# --- functions and classes ------------------------------------------------------------------------


def signature(node: Defined, home: Module) -> tuple[tuple[str, ...], bool]:
    """The keywords that a function or class takes, and whether it takes any other."""
    made = _maker(node, home)
    if isinstance(made[0], ast.ClassDef):
        return _fields(made[0]), False
    arguments = made[0].args
    names = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
    return tuple(names[isinstance(node, ast.ClassDef) :]), arguments.kwarg is not None


def _maker(node: Defined, home: Module) -> tuple[ast.FunctionDef | ast.ClassDef, Module]:
    """What is called where ``node`` is: a function, a class's ``__init__``, or a dataclass."""
    if isinstance(node, ast.FunctionDef):
        return node, home
    if not isinstance(node, ast.ClassDef):
        raise UnknownError
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        return node, home
    own = _method(node, "__init__")
    return (own, home) if own else _maker(*_base(node, home))


def _base(node: ast.ClassDef, home: Module) -> tuple[Defined, Module]:
    for base in node.bases:
        if isinstance(base, ast.Name):
            return defined(base.id, home)
    raise UnknownError


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    methods = (one for one in node.body if isinstance(one, ast.FunctionDef))
    return next((one for one in methods if one.name == name), None)


def _fields(node: ast.ClassDef) -> tuple[str, ...]:
    fields = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
    return tuple(field.id for field in fields if isinstance(field, ast.Name))


def _refused(
    node: Defined, home: Module, values: Mapping[str, object], depth: int
) -> Iterator[str]:
    """What the checks say that a call of ``node`` makes of ``values``, by the arguments' names."""
    made, there = _maker(node, home)
    owner, prefix = (node, home), ""
    if isinstance(made, ast.ClassDef):
        made, prefix = _method(made, "__post_init__"), "self."
        if made is None:
            return
    while isinstance(node, ast.ClassDef) and not prefix and made not in node.body:
        node, home = owner = _base(node, home)
    known = {f"{prefix}{name}": value for name, value in values.items()}
    for statement in made.body:
        if isinstance(statement, (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)):
            for call in _calls(statement):
                yield from _refused_by(call, there, known, owner, depth)
        elif any(isinstance(part, (ast.Return, ast.Yield)) for part in ast.walk(statement)):
            return  # what follows is not always done
        for name in [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and _stored(n)]:
            known.pop(name, None)


def _stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in ``node`` that are made whatever its values are."""
    if isinstance(node, (ast.Lambda, ast.IfExp, ast.BoolOp, ast.ListComp, ast.GeneratorExp)):
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)
    if isinstance(node, ast.Call):
        yield node


def _refused_by(
    call: ast.Call,
    home: Module,
    known: Mapping[str, object],
    owner: tuple[Defined, Module],
    depth: int,
) -> Iterator[str]:
    try:
        if ast.unparse(call.func) == "super().__init__":
            target, there = _base(*owner)
        elif isinstance(call.func, ast.Name):
            target, there = defined(call.func.id, home)
        else:
            return
        if there is module_of("benchmark.options.checks"):
            listed = [_value(argument, home, known) for argument in call.args]
            named = {k.arg: _value(k.value, home, known) for k in call.keywords}
            try:
                getattr(checks, target.name)(*listed, **named)
            except ValueError as error:
                yield one_line(error)
        elif depth < DEEPEST and there.path.is_relative_to(module_of("benchmark").path.parent):
            yield from _refused(target, there, _bound(call, target, there, known), depth + 1)
    except UnknownError:
        return


def _bound(
    call: ast.Call, target: Defined, there: Module, known: Mapping[str, object]
) -> dict[str, object]:
    """The arguments of a call that are known, by their names in what it calls."""
    names, _ = signature(target, there)
    arguments = [*zip(names, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
    texts = {name: ast.unparse(argument) for name, argument in arguments if name}
    return {name: known[text] for name, text in texts.items() if text in known}


def _value(node: ast.expr, home: Module, known: Mapping[str, object]) -> object:
    """What an argument is: a known one, a literal, a constant of the package, or a table's keys."""
    if ast.unparse(node) in known:
        return known[ast.unparse(node)]
    try:
        if isinstance(node, ast.Name):
            found, there = defined(node.id, home)
            if isinstance(found, ast.Dict):
                return dict.fromkeys(key for key, *_ in pairs(found, there))
            return _value(found, there, {}) if isinstance(found, ast.expr) else _not_told()
        return ast.literal_eval(node)
    except (ValueError, RecursionError) as error:
        raise UnknownError from error


#: rules as those of ``benchmark.plugins.plain_rules``
RULES = dict.fromkeys(TABLES, rule)
