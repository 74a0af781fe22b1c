"""A configuration file as it is written: YAML whose keys are each given once."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import yaml

from benchmark.running.faults import InvalidStudyError


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a key that is given twice is a fault, not the end of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{key!r} is given twice, in lines {seen[key]} and {line}",
                    key_node.start_mark,
                )
            seen[key] = line
        return super().construct_mapping(node, deep)


def read_configuration(path: Path) -> dict[str, object]:
    """The mapping that the YAML file at ``path`` holds; empty where it holds nothing.

    Raises InvalidStudyError, naming the file and the line, where it cannot be read, is not YAML,
    gives a key twice or holds something else than a mapping with texts as keys.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise InvalidStudyError([f"{path}: {error.strerror}: expected a YAML file"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InvalidStudyError([f"{path}{where}: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = str(error).strip() or "it is nested too deeply"
        raise InvalidStudyError([f"{path}: not YAML ({what})"]) from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidStudyError([f"{path}: expected a mapping of options, such as 'solver: [JFB]'"])
    return found
