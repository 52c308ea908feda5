"""Evaluations, studies and the measure of privacy: people of a file, a store of their own, a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.data.tasks import Task, get_task
from idiolect.errors import ConfigError, InputError
from idiolect.house import House, TrainingOptions, further_items, need_torch
from idiolect.machine import hardware, versions

if TYPE_CHECKING:
    from idiolect.engine.sampling import Sampling
    from idiolect.evals.plan import OnStage, Plan
    from idiolect.evals.pooling import PiecePlan
    from idiolect.evals.privacy import HeldOut
    from idiolect.evals.results import Evaluation


class Evaluating(House):
    """What can be measured."""

    def evaluate(
        self,
        data: str | Path,
        task: str,
        out: str | Path,
        *,
        targets: int = 30,
        arms: Sequence[str] | None = None,
        options: TrainingOptions | None = None,
        task_overrides: tuple[tuple[str, Any], ...] = (),
        task_examples: int | None = 20_000,
        k: int = 1,
        free: bool = False,
        sampling: Sampling | None = None,
        pieces: PiecePlan | None = None,
        command: str = "",
        on_stage: OnStage | None = None,
    ) -> Evaluation:
        """Evaluate the arms on the most active people of a file, and write the report to `out`.

        This store is where people and adapters are kept; use one of its own for an evaluation, so that the same command
        can go on where it was cut off.

        Args:
            pieces: who shares, and how adapters are assembled, for the arms of pieces.
        """
        need_torch()
        from idiolect.evals.harness import evaluate
        from idiolect.evals.plan import silent

        plan = self._plan(
            data, task, targets=targets, arms=arms, options=options, task_overrides=task_overrides,
            task_examples=task_examples, k=k, free=free, sampling=sampling, pieces=pieces,
        )  # fmt: skip
        with self._alone():
            evaluation = evaluate(self.base, self.store, plan, on_stage=on_stage or silent, about=self._about(command))
        self._report(evaluation, Path(out))
        return evaluation

    def _report(self, evaluation: Evaluation, out: Path) -> None:
        """Write a report, and remember whose answers lie there."""
        from idiolect.evals.report import write

        people = dict.fromkeys(query.user_id for query in evaluation.queries)
        with self.store.evaluation(str(out.absolute()), people):
            write(evaluation, out)

    def study(
        self,
        name: str,
        data: str | Path,
        task: str,
        out: str | Path,
        *,
        values: str | None = None,
        command: str = "",
        on_stage: OnStage | None = None,
        **asked: Any,
    ) -> float:
        """Vary one thing about pieces, or count what they cost (`cost`); the report goes to `out`. Returns the seconds.

        Args:
            values: conditions, e.g. "1,3,5"; None: the study's own.
            asked: as for `evaluate`.

        Raises:
            ConfigError: an unknown study or value.
        """
        need_torch()
        from idiolect.evals import cost, studies
        from idiolect.evals.plan import silent

        if name == "cost" and values is not None:
            raise ConfigError("the study 'cost' varies nothing; leave --values out")
        chosen = None if name == "cost" else studies.get_study(name, values)
        plan = self._plan(data, task, **asked)
        more = {"on_stage": on_stage or silent, "about": self._about(command)}
        with self._alone():
            if chosen is None:
                results = cost.run(self.base, self.store, plan, **more)
                cost.write(results, Path(out))
                return results["seconds"]
            evaluation = studies.run_study(self.base, self.store, plan, *chosen, **more)
        self._report(evaluation, Path(out))
        return evaluation.seconds

    def privacy(
        self,
        data: str | Path,
        task: str,
        out: str | Path,
        *,
        held_out: float = 0.2,
        how: HeldOut = "random",
        seed: int = 0,
        command: str = "",
        on_stage: OnStage | None = None,
        **asked: Any,
    ) -> float:
        """Try to tell what shared pieces were trained on; the report goes to `out`. Returns the seconds.

        Args:
            held_out: share of each sharer's items that is not trained on, and `how` they are taken.
            asked: as for `evaluate`.
        """
        need_torch()
        from idiolect.evals import privacy
        from idiolect.evals.plan import silent

        plan, shown = self._plan(data, task, **asked), on_stage or silent
        with self._alone():
            results = privacy.measure(
                self.base, self.store, plan, held_out=held_out, how=how, seed=seed, on_stage=shown, about=self._about(command)
            )
        privacy.write(results, Path(out))
        return results["seconds"]

    def _about(self, command: str) -> dict[str, Any]:
        return {"command": command, "versions": versions(), "hardware": hardware()}

    def _plan(
        self,
        data: str | Path,
        task: str,
        *,
        targets: int = 30,
        arms: Sequence[str] | None = None,
        options: TrainingOptions | None = None,
        task_overrides: tuple[tuple[str, Any], ...] = (),
        task_examples: int | None = 20_000,
        k: int = 1,
        free: bool = False,
        sampling: Sampling | None = None,
        pieces: PiecePlan | None = None,
    ) -> Plan:
        """Import an evaluation's people, and say what to do with them."""
        from idiolect.engine.sampling import GREEDY
        from idiolect.evals.arms import DEFAULT_ARMS
        from idiolect.evals.plan import Plan, choose_targets
        from idiolect.evals.pooling import PiecePlan

        options = options or TrainingOptions()
        stage_1 = TrainingOptions(options.preset, task_overrides)
        chosen = get_task(task)
        self._import_alone(data, chosen)
        return Plan(
            task=chosen,
            targets=choose_targets(self.store, targets),
            stage_1=stage_1.config("task").but(targets=self.modules("task", stage_1)),
            stage_2=options.config("user").but(targets=self.modules("user", options)),
            arms=tuple(arms) if arms else DEFAULT_ARMS,
            k=k,
            max_history=options.max_history,
            task_examples=task_examples,
            free=free,
            sampling=sampling or GREEDY,
            base_items=tuple(further_items(data)),
            pieces=pieces or PiecePlan(),
        )

    def _import_alone(self, data: str | Path, task: Task) -> None:
        """Import an evaluation's people; refuse a store with others in it, who would become targets or base people."""
        report = self.import_history(data, task=task.name)
        if report.n_conflicts:
            raise InputError(
                f"{report.n_conflicts} items or queries of {str(data)!r} differ from what the store at {self.store.place} "
                "holds under the same id: the file was changed since; give another --out, or --store FOLDER"
            )
        given = report.n_people
        if others := len(self.people()) - given:
            raise InputError(
                f"the store at {self.store.place} holds {others} people who are not in {str(data)!r}; "
                "give this evaluation a store of its own: another --out, or --store FOLDER"
            )
