"""How θ follows its hypergradients: torch's optimisers and schedules by name, or a user's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from benchmark.options.brought import error_line
from benchmark.options.checks import nonnegative_number
from benchmark.options.several import listed
from benchmark.options.spec import Kind

#: what each step hands over: sets ``.grad`` of all parameters and returns the loss
Gradient = Callable[[], Tensor]


def _public(module: object, base: type, *, without: tuple[type, ...]) -> dict[str, type]:
    """The classes of ``module`` that inherit from ``base``, by their names."""
    classes = (value for name, value in vars(module).items() if not name.startswith("_"))
    kept = (c for c in classes if isinstance(c, type) and issubclass(c, base))
    return {c.__name__: c for c in kept if c not in (base, *without)}


def nonnegative(value: Tensor) -> Tensor:
    """The nearest tensor without negative entries."""
    return value.clamp_min(0)


def box(value: Tensor, low: float, high: float) -> Tensor:
    """The nearest tensor with entries from ``low`` to ``high``."""
    if not low <= high:
        raise ValueError(f"low must be at most high, got {low!r} and {high!r}")
    return value.clamp(low, high)


OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "gradient_descent": torch.optim.SGD,
    **_public(torch.optim, Optimizer, without=(torch.optim.Adam,)),
}
OPTIMIZER: Kind[Optimizer] = Kind(
    "optimizer",
    OPTIMIZERS,
    {"torch": ["torch.optim"]},
    form="a subclass of torch.optim.Optimizer, made from params and lr",
)
SCHEDULE: Kind[Any] = Kind(
    "schedule",
    _public(lr_scheduler, lr_scheduler.LRScheduler, without=()),
    {"torch": ["torch.optim.lr_scheduler"]},
    form="a subclass of torch.optim.lr_scheduler.LRScheduler, made from optimizer",
)
PROJECTION: Kind[Tensor] = Kind(
    "projection",
    {"nonnegative": nonnegative, "box": box},
    form="a function (value) of a parameter, or (value, name), that returns its new value",
)
#: "PATTERN(option=value, …)"
_GROUP = re.compile(r"(?P<pattern>[^()]+?)\s*(?P<options>\(.*\))", re.DOTALL)
_GROUP_OPTIONS: Kind[dict[str, object]] = Kind("group", {"group": lambda **options: options})


def check_optimizer(_: str, spec: str) -> None:
    """Raise ValueError for a name or option that is not known, or a file that cannot be run."""
    OPTIMIZER.choose(_as_listed(OPTIMIZER, spec), given=("params", "lr"))


def check_schedule(_: str, spec: str | None) -> None:
    """As ``check_optimizer``; None is a constant learning rate."""
    if spec is not None:
        SCHEDULE.choose(_as_listed(SCHEDULE, spec), given=("optimizer",))


def check_projection(_: str, spec: str | None) -> None:
    """As ``check_optimizer``; None is no projection."""
    if spec is not None:
        PROJECTION.choose(spec, given=("value", "name"))


@final
class Descent:
    """θ ← one step of an optimizer, of a schedule, and a projection, each time that ``step`` is
    called.

    Parameters
    ----------
    theta : the parameters by name, changed in place.
    optimizer : "adam", "gradient_descent" or any of torch's by its name, letter case aside, with
        its options: "AdamW(weight_decay=0.01)"; or of a file.
    learning_rate : of what is in no group.
    schedule : None or any of torch's by name, "StepLR(step_size=5)", or of a file.
    groups : None or "PATTERN(lr=…), …": options of the parameters whose name, or the part of it up
        to a dot, matches; of the first pattern that does. ``*`` stands for any letters.
    projection : None, "nonnegative", "box(low=…, high=…)", or of a file.

    Raises ValueError for what is not known or cannot be made, naming it.
    """

    def __init__(
        self,
        theta: Mapping[str, Tensor],
        *,
        optimizer: str,
        learning_rate: float,
        schedule: str | None = None,
        groups: str | None = None,
        projection: str | None = None,
    ) -> None:
        self.theta = dict(theta)
        self.shapes = {name: parameter.shape for name, parameter in theta.items()}
        self.spec, self.scheduled_by, self.projection = optimizer, schedule, projection
        self.optimizer = OPTIMIZER.build(
            _as_listed(OPTIMIZER, optimizer), params=_grouped(theta, groups), lr=learning_rate
        )
        whole = isinstance(self.optimizer, Optimizer) and hasattr(self.optimizer, "param_groups")
        if not whole:
            raise ValueError(
                f"optimizer {optimizer!r} made a {type(self.optimizer).__name__} that is no torch "
                f"optimizer, or was not initialised as one: expected {OPTIMIZER.form}"
            )
        _check_groups(self.optimizer, optimizer)
        self.schedule = None if schedule is None else _scheduled(schedule, self.optimizer)
        self.project = None
        if projection is not None:
            self.project = PROJECTION.choose(projection, given=("value", "name"))
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        self._asks = closure is not None and closure.default is inspect.Parameter.empty

    def step(self, gradient: Gradient) -> None:
        """One step; ``gradient`` is called once, or as often as an optimizer asks that searches
        along lines (LBFGS). Its errors pass, and torch's; others name what raised them.
        """
        losses: list[Tensor] = []
        inside = False

        def closure() -> Tensor:
            nonlocal inside
            inside = True
            losses.append(gradient())
            inside = False
            return losses[-1]

        if not self._asks:
            closure()
        try:
            self.optimizer.step(closure) if self._asks else self.optimizer.step()
        except Exception as error:
            if inside or type(self.optimizer) in OPTIMIZERS.values():
                raise
            raise _named("optimizer", self.spec, error) from error
        if not losses:
            raise ValueError(f"optimizer {self.spec!r} took a step without calling its closure")
        for name, parameter in self.theta.items():
            if parameter.shape != self.shapes[name]:
                raise ValueError(
                    f"optimizer {self.spec!r} left {name} in shape {tuple(parameter.shape)}, "
                    f"expected {tuple(self.shapes[name])}"
                )
        self._follow_schedule(losses[0])
        self._project()

    def state(self) -> dict[str, object]:
        """What optimizer and schedule have come to; ``restore`` is the inverse."""
        schedule = None if self.schedule is None else self.schedule.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "schedule": schedule}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])

    def _follow_schedule(self, loss: Tensor) -> None:
        if self.schedule is None:
            return
        plateau = isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau)
        try:
            self.schedule.step(loss) if plateau else self.schedule.step()
        except Exception as error:
            raise _named("schedule", self.scheduled_by, error) from error

    @torch.no_grad()
    def _project(self) -> None:
        if self.project is None:
            return
        for name, parameter in self.theta.items():
            value = parameter.detach().clone()
            found = PROJECTION.call(self.project, self.projection, value=value, name=name)
            if not isinstance(found, Tensor) or found.shape != parameter.shape:
                got = tuple(found.shape) if isinstance(found, Tensor) else repr(found)
                raise ValueError(
                    f"projection {self.projection!r} returned {got} for {name}, "
                    f"expected a tensor of shape {tuple(parameter.shape)}"
                )
            parameter.copy_(found)


def _grouped(theta: Mapping[str, Tensor], groups: str | None) -> list[Any]:
    """What an optimizer takes as ``params``."""
    if groups is None:
        return list(theta.values())
    left, found = dict(theta), []
    for text in listed(groups):
        group = _GROUP.fullmatch(text)
        if group is None:
            raise ValueError(f"a group is written PATTERN(lr=…, …), got {text!r} in {groups!r}")
        pattern = group["pattern"]
        names = [n for n in left if fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")]
        if not names:
            raise ValueError(
                f"no parameter is left for {pattern!r} in {groups!r}: "
                f"expected a pattern of {', '.join(theta)}"
            )
        options = _GROUP_OPTIONS.build(f"group{group['options']}")
        found.append({"params": [left.pop(name) for name in names], **options})
    return [*found, {"params": list(left.values())}] if left else found


def _check_groups(optimizer: Optimizer, spec: str) -> None:
    """Raise ValueError for an option of a group that ``optimizer`` would not read."""
    for group in optimizer.param_groups:
        unknown = group.keys() - optimizer.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"groups give {', '.join(sorted(unknown))}, which optimizer {spec!r} has not: "
                f"expected some of {', '.join(optimizer.defaults)}"
            )
        if "lr" in group:
            nonnegative_number("lr of a group", float(group["lr"]))


def _scheduled(spec: str, optimizer: Optimizer) -> Any:
    try:
        made = SCHEDULE.build(_as_listed(SCHEDULE, spec), optimizer=optimizer)
    except TypeError as error:  # torch's own, of options that are missing
        raise _named("schedule", spec, error) from error
    if not callable(getattr(made, "step", None)):
        raise ValueError(f"schedule {spec!r} is {made!r}: expected {SCHEDULE.form}")
    return made


def _as_listed(kind: Kind[Any], spec: str) -> str:
    """``spec`` with its name as ``kind`` spells it, whatever the letter case."""
    head, bracket, rest = str(spec).partition("(")
    spelled = {name.lower(): name for name in kind.entries}
    return spelled.get(head.strip().lower(), head) + bracket + rest


def _named(kind: str, spec: str, error: Exception) -> ValueError:
    return ValueError(f"{kind} {spec!r}: {error_line(error)}")
