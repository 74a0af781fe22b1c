"""What a run says of itself while it lasts: its share of the outer steps, and the time left."""

from __future__ import annotations

from typing import final

from benchopt.stopping_criterion import NoCriterion

from benchmark.measure import timing


@final
class ShareOfSteps(NoCriterion):
    """Never stops a run, and shows how far it is: benchopt's own counts rows up to ``max-runs``."""

    def get_runner_instance(self, **options: object) -> ShareOfSteps:
        made = super().get_runner_instance(**options)
        made.pace = timing.Pace()
        return made

    def check_convergence(self, rows: list[dict]) -> tuple[bool, float]:
        return False, rows[-1].get("objective_outer_step", 0) / max(1, self.solver.steps)

    def shown(self, step: int) -> None:
        """Show that ``step`` is done, and what the next one brings."""
        steps, every = self.solver.steps, getattr(self.solver, "evaluate_every", 1)
        end = min(steps, self.max_runs * every)
        share = step / steps if steps else 1.0
        text = f"{share:.0%} of {steps} outer steps{_left(self.pace.left(share))}"
        if step < steps and ((step + 1) % every == 0 or step + 1 == steps):
            last = ", costs and pictures" if step + 1 == end else ""
            text += f"; the next is evaluated: F, PSNR and gradient{last}"
        self.progress(text)


def show(callback: object, step: int) -> None:
    """``ShareOfSteps.shown`` of the run that benchopt's ``callback`` belongs to, if it has one."""
    criterion = getattr(callback, "stopping_criterion", None)
    if isinstance(criterion, ShareOfSteps):
        criterion.shown(step)


def most_rows(callback: object) -> int | None:
    """The rows after the first at which benchopt ends the run; None where it does not."""
    return getattr(getattr(callback, "stopping_criterion", None), "max_runs", None)


def _left(seconds: float) -> str:
    if not seconds < float("inf"):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f", about {minutes}:{rest:02} min left" if minutes else f", about {rest} s left"
