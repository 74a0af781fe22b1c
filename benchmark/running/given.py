"""What a study gives for the parameters of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from benchmark.options.checks import shown
from benchmark.running.faults import one_line, unknown

#: what a parameter of a name may be: raises ValueError for another value
Rules = Mapping[str, Callable[[str, object], None]]
#: combinations of parameters of one entry: more are a slip, and benchopt compares each with each
MOST = 5000


def faults_of_options(
    kwargs: Mapping[str, object], known: Sequence[str], rules: Rules
) -> list[str]:
    """Faults of what is given for a plugin's parameters: names, ways of listing, values."""
    faults, seen, sizes = [], set(), []
    for key, listed in kwargs.items():
        names = [name.strip() for name in key.split(",")]
        values = listed if isinstance(listed, (list, tuple)) else [listed]
        sizes.append(len(values))
        if not values:
            faults.append(f"{key}: no value is listed")
        for name in names:
            if name not in known:
                faults.append(unknown("option", name, known))
            elif name in seen:
                faults.append(f"{name} is given twice")
            seen.add(name)
        for value in values:
            if len(names) == 1:
                faults += _of_value(names[0], value, rules)
            elif not isinstance(value, (list, tuple)) or len(value) != len(names):
                faults.append(f"{key}: expected lists of {len(names)} values, got {shown(value)}")
            else:
                for name, part in zip(names, value, strict=True):
                    faults += _of_value(name, part, rules)
    if prod(sizes) > MOST:
        faults.append(f"{prod(sizes)} combinations are asked for: expected at most {MOST}")
    return list(dict.fromkeys(faults))


def _of_value(name: str, value: object, rules: Rules) -> list[str]:
    try:
        rules.get(name, _anything)(name, value)
    except ValueError as error:
        return [one_line(error)]
    return []


def _anything(name: str, value: object) -> None:
    """The rule of a parameter that only the plugin itself knows."""
