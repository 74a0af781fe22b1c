"""What the figures of a report are called on a page, and what is said below each."""

from __future__ import annotations

from collections.abc import Mapping

CAPTIONS = {
    "accuracy": (
        "Accuracy along training",
        "Loss and test quality of the true equilibrium against training time, layer applications "
        "and outer steps: the median over repetitions, the quartiles as a band. The loss is shown "
        "above the least that any run of the repetition reached; that point itself is off the log "
        "axis. A cross marks the last finite point of a failed run.",
    ),
    "gradient_error": (
        "Error of the hypergradient",
        "Relative error against the float64 reference, all methods at the same θ, over the layers "
        "differentiated, time and memory. The dashed grey line falls as κᴷ, κ measured.",
    ),
    "learned": (
        "Learned parameters",
        "θ along training, a panel per parameter on the scale on which it is learned: a line per "
        "entry, or of many entries their median and, as a band, their range; entries are medians "
        "over repetitions.",
    ),
    "reconstructions": (
        "Reconstructions",
        "One test image as each method reconstructs it; close up, the dashed window in which the "
        "methods differ most; and the absolute errors, averaged over colours, on one scale. PSNRs "
        "are those of the 8-bit images shown.",
    ),
    "scaling": (
        "Scaling",
        "Cost of one hypergradient against image size, batch, depth and contraction, one of them "
        "varied in each column and the others held at the values above it; of each method the "
        "configuration of the legend. Methods without depth are level lines. Cost alone: the "
        "methods do not reach the same accuracy.",
    ),
    "time": (
        "Time of one hypergradient",
        "The median over runs and their range; on the right in applications of one layer, timed in "
        "the same rounds. Compare times within one study only.",
    ),
    "memory": (
        "Memory of one hypergradient",
        "Peak of live tensor bytes: the same on every machine.",
    ),
    "memory_over_time": (
        "Memory during training",
        "Sampled over one training run of each method, above what was held at the start.",
    ),
    "performance": (
        "Performance profiles",
        "Share of the problems on which a method reaches an accuracy within a factor τ of the best "
        "method's cost.",
    ),
    "pareto": (
        "Error against cost",
        "Each configuration's gradient error against its cost. On the front, nothing else is both "
        "cheaper and more accurate.",
    ),
}


def kind_and_task(name: str, *, tasks: Mapping[str, str]) -> tuple[str, str | None]:
    """``accuracy_wavelet_l1_inpainting`` → (``accuracy``, that task); no task: (name, None)."""
    if name not in CAPTIONS:
        for task, short in sorted(tasks.items(), key=lambda item: -len(item[1])):
            kind, found, rest = name.partition(f"_{short}")
            if found and kind and (not rest or rest.startswith("_")):
                return kind + rest, task
    return name, None


def captioned(kind: str) -> tuple[str, str]:
    """Title and caption of a kind of figure, or of the kind it is a variant of; else its name."""
    if kind in CAPTIONS:
        return CAPTIONS[kind]
    known = [name for name in CAPTIONS if kind.startswith(f"{name}_")]
    if not known:
        return kind, ""
    title, caption = CAPTIONS[max(known, key=len)]
    variant = kind.removeprefix(max(known, key=len)).strip("_").replace("_", " ")
    return f"{title} ({variant})", caption
