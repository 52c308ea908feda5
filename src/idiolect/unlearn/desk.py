"""Where unlearning is asked for: a target, two sets, a method; an adapter (or merged weights) with lineage in return.

    target                        frozen while it acquires             result
    the base                      the base                             an adapter for it, as a PEFT folder
    a task adapter                base + task adapter                  a new task adapter in its place
    a person's, trained or        base + task adapter + theirs         a new version of theirs
    assembled adapter

The forget set is the anchor; a share of the retain set's groups is kept from training where λ is to be chosen. A run that is
cut off goes on from its checkpoint in the folder that it writes to. The acquired vector is gone when the result is written,
unless it was asked for: it holds what was to be forgotten.

Of an adapter's result the store knows the folders, as it knows those of an export: who is forgotten later is told of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from idiolect.data.files import replace_file
from idiolect.data.pairs import Pair, check_apart, split
from idiolect.errors import EmptyHistory, FileFormatError, InputError
from idiolect.model.adapter import Layout
from idiolect.model.algebra import concat
from idiolect.model.base import Base
from idiolect.model.files import to_record, write_peft
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import AdapterManifest, digest_of
from idiolect.unlearn.acquire import Acquired, Told, acquire
from idiolect.unlearn.config import Unlearning
from idiolect.unlearn.material import Entry, Material
from idiolect.unlearn.negate import merge_into_weights, together, weighted
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.select import Choice, Selection, choose, mean_probability
from idiolect.unlearn.variants import Variant

CHECKPOINT = ".acquiring.safetensors"
RESULT = "unlearning.json"
ADAPTER, VECTOR = "adapter", "vector"
"""Folders of a result: the adapter that unlearns, and what was acquired, where it is kept."""


@dataclass(frozen=True)
class Target:
    """What is to forget.

    Attributes:
        frozen: the base with everything merged in that the change goes on top of.
        digest, manifest: of the adapter; None where the base itself is the target.
        under: that adapter as numbers, (layout, row (P,)).
        beneath: the task adapter under a person's adapter, as numbers.
    """

    frozen: Base
    digest: str | None = None
    manifest: AdapterManifest | None = None
    under: tuple[Layout, Tensor] | None = None
    beneath: tuple[Layout, Tensor] | None = None

    @property
    def name(self) -> str:
        if self.manifest is None:
            return f"the base {self.frozen.name!r}"
        return f"{self.manifest.kind} adapter {(self.digest or '')[:12]}"


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        runs: settings, one after the other where there are several: with `selection`, the best of them is the result.
        holdout: pairs like the forget set that nothing was trained on: what they cost is aimed at.
        made_of: what the forget set consists of, where that is in the store: items of people.
        selection: choose λ (and the run); None: the only run's own strength.
        merge: a folder for merged weights, a base of their own.
        keep_vector: keep what was acquired.
        use: put the result into the target's place, where the target is an adapter.
    """

    forget: Sequence[Pair]
    retain: Sequence[Pair]
    runs: Sequence[Unlearning]
    holdout: Sequence[Pair] = ()
    made_of: Sequence[Parent] = ()
    selection: Selection | None = None
    merge: Path | None = None
    keep_vector: bool = False
    use: bool = True
    every: int = 20


@dataclass
class Unlearned:
    """What came of it.

    Attributes:
        config: of the run that was taken, with the λ that was taken.
        digest: of the new adapter in the store; None where the base was the target.
        choices: the sweep of every run, in their order; empty without a selection.
        downstream: adapters in the store that stand on the target as it was, and go on doing so.
        left_out: pairs whose answer does not fit.
    """

    config: Unlearning
    target: str
    steps: int
    stopped_at: int | None
    digest: str | None = None
    choices: list[Choice] = field(default_factory=list)
    downstream: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Unlearn:
    """Unlearn on a store and a base.

    Args:
        based: the base with a task adapter merged in, by digest; None: the bare base.
        plain: a stored adapter as numbers, by digest.
    """

    def __init__(
        self, store: Store, based: Callable[[str | None], Base], plain: Callable[[str], tuple[Layout, Tensor]]
    ) -> None:
        self.store, self._based, self._plain = store, based, plain

    def target(self, digest: str | None) -> Target:
        """What is to forget: an adapter, by digest or how it begins; None: the base.

        Raises:
            AdapterNotFound, BaseMismatch: there is no such adapter, or it is another base's.
            InputError: an evaluation's control, which nobody uses.
        """
        if digest is None:
            return Target(self._based(None))
        digest = self.store.resolve(digest)
        manifest = self.store.manifest(digest)
        if manifest.kind == "pooled":
            raise InputError(f"adapter {digest[:12]} is the pooled control of an evaluation; nothing is gained by changing it")
        under_all = self._based(None if manifest.kind == "task" else manifest.task_adapter)
        under_all.accept(manifest, digest)
        under = self._plain(digest)
        frozen = replace(under_all, model=under_all.model.merged(*under))
        beneath = None if manifest.kind == "task" or manifest.task_adapter is None else self._plain(manifest.task_adapter)
        return Target(frozen, digest, manifest, under, beneath)

    def run(self, target: Target, order: Order, out: Path, on_step: Callable[[Told], None] | None = None) -> Unlearned:
        """Unlearn, and write the result to `out`: whole, or (cut off) with a checkpoint to go on from.

        Raises:
            EmptyHistory, InputError: nothing to forget, or sets that overlap, or of which nothing fits.
            FileFormatError: `out` holds a result already, or another run's checkpoint, or cannot be made.
            ConfigError: the first step is not finite.
        """
        check(order, out)
        base, left_out = target.frozen, []
        kept, judged = _split(order)
        sets = {"forget": order.forget, "kept": kept, "judged": judged, "holdout": order.holdout}
        rows = {name: rendered(base, pairs, order.runs[0], left_out) for name, pairs in sets.items()}
        _check_fit(sets, rows)
        material = Material(entries_of(order.forget, rows["forget"]), entries_of(kept, rows["kept"]))
        _make_folder(out)
        done = acquire(
            base, material, order.runs, checkpoint=out / CHECKPOINT, every=order.every, on_step=on_step,
            merged=target.digest or "",
        )  # fmt: skip
        choices: list[Choice] = []
        if order.selection is not None:
            aim = mean_probability(Variant("original", base), rows["holdout"]) if rows["holdout"] else None
            choices = [choose(base, one, rows["forget"], rows["judged"], order.selection, aim=aim) for one in done]
        best, config = _best(done, choices)
        result = Unlearned(config, target.name, best.steps, best.stopped_at, choices=choices, left_out=left_out)
        self._write(target, order, best, result, out, material)
        return result

    def _write(self, target: Target, order: Order, best: Acquired, result: Unlearned, out: Path, material: Material) -> None:
        base, weight = self._based(None), result.config.weight
        if target.under is None:
            layout, row = best.layout, weighted(best.layout, best.row, weight)
        else:
            layout, row = together(base.model.sites(), target.under, best.layout, best.row, weight)
        note = note_of(target, order, result, material)
        if target.manifest is not None:
            result.digest = self._publish(target, layout, row, note, order.made_of)
            result.downstream = self._downstream(target)
            note |= {"digest": result.digest, "downstream": result.downstream}
        for left in (VECTOR, ADAPTER):  # of a run that was cut off: the note, which is written last, is not there
            shutil.rmtree(out / left, ignore_errors=True)
        if order.keep_vector:
            self._outside(result, out / VECTOR, lambda place: write_peft(place, best.layout, best.row, base.name))
        self._outside(result, out / ADAPTER, lambda place: write_peft(place, layout, row, base.name))
        if order.merge is not None:
            whole = (layout, row) if target.beneath is None else _stacked(base, target.beneath, layout, row)
            self._outside(result, order.merge, lambda place: merge_into_weights(base, *whole, 1.0, place))
            write_result(order.merge / RESULT, note)
        if result.digest is not None and order.use:
            self.store.set_head(result.digest)
        write_result(out / RESULT, note | {"log": [asdict(step) for step in best.log]})

    def _outside(self, result: Unlearned, place: Path, write: Callable[[Path], None]) -> None:
        """Write a folder for its owner only; of what came from a stored adapter the store notes that it lies there."""
        if result.digest is None:
            write(place)
        else:
            cited = [int(parent.id) for parent in self.store.parents(result.digest) if parent.kind == "piece"]
            self.store.export(result.digest, str(place.absolute()), "adapter", cited, lambda: write(place))
        place.chmod(0o700)

    def _publish(self, target: Target, layout: Layout, row: Tensor, note: Mapping[str, Any], made_of: Sequence[Parent]) -> str:
        """The result in the store, with everything recorded that its target came from."""
        before, old = target.manifest, target.digest
        assert before is not None
        assert old is not None
        settings = {key: value for key, value in before.settings.items() if key != "start"}
        said = {key: note[key] for key in ("method", "strength", "settings", "forget", "retain")}
        manifest = replace(
            before,
            kind="user" if before.user_id is not None else "task",
            rank=layout.rank,
            alpha=layout.alpha,
            targets=layout.targets,
            settings=settings | {"unlearned": said | {"from": old}},
        )
        kinds = ("person", "piece", "item", "adapter")
        inherited = [parent for parent in self.store.parents(old) if parent.kind in kinds]
        record = to_record(layout, row, {**target.frozen.origin, "task_adapter": before.task_adapter or ""})
        return self.store.publish(manifest, record, head=False, parents=[*inherited, *made_of, Parent("adapter", old)])

    def _downstream(self, target: Target) -> list[str]:
        """Adapters that were made on the target as it was."""
        assert target.digest is not None
        found = dict.fromkeys(
            digest for kind in ("task_adapter", "adapter") for digest in self.store.derived_from(kind, target.digest)
        )
        # Other results of unlearning from it take its place as this one does; they do not stand on it.
        said = {digest: self.store.manifest(digest).settings.get("unlearned") or {} for digest in found}
        return [digest for digest in found if said[digest].get("from") != target.digest]


def check(order: Order, out: Path) -> None:
    """Refuse what cannot be done, before anything is."""
    if not order.forget:
        raise EmptyHistory("the forget set is empty, so there is nothing to unlearn; give --forget FILE with pairs")
    if order.retain:
        check_apart(order.forget, order.retain)
    if order.holdout:
        check_apart(order.forget, order.holdout, ("forget set", "holdout"))
        if order.retain:
            check_apart(order.retain, order.holdout, ("retain set", "holdout"))
        if order.selection is None:
            raise InputError("a holdout is what λ is chosen by; add --select, or leave --holdout out")
    if len(order.runs) != 1 and order.selection is None:
        raise InputError(f"{len(order.runs)} runs were asked for, and nothing to choose one of them by; add --select")
    if order.selection is not None and not order.retain:
        raise EmptyHistory("λ is chosen by what is left of the retain set; give --retain FILE, or a --strength")
    if (out / RESULT).exists():
        raise FileFormatError(f"{str(out)!r} holds a result already; choose another --out")
    if order.merge is not None and order.merge.absolute() == out.absolute():
        raise InputError(f"{str(out)!r} cannot be --out and --merge; merged weights are a base, and need a folder of their own")
    if order.merge is not None and order.merge.exists() and (not order.merge.is_dir() or any(order.merge.iterdir())):
        raise FileFormatError(f"{str(order.merge)!r} is there already; choose another folder for the merged weights")


def _check_fit(sets: Mapping[str, Sequence[Pair]], rows: Mapping[str, Sequence[Any]]) -> None:
    for name, pairs in sets.items():
        if pairs and not rows[name]:
            raise InputError(f"none of {len(pairs)} pairs ({name}) has an answer that fits; raise max_tokens")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(f"the folder {str(out)!r} cannot be made ({error.strerror}); choose another --out") from None


def _split(order: Order) -> tuple[list[Pair], list[Pair]]:
    """The retain set for training, and the part that λ is judged on."""
    if order.selection is None or not order.retain:
        return list(order.retain), []
    share = order.selection.held_out
    kept, judged = split(order.retain, (1 - share, share), order.runs[0].seed)
    if not judged or not kept:
        raise InputError(
            f"{len(order.retain)} retained pairs are in too few groups to keep {share:.0%} of them from training; "
            "give more of them, or a --strength in place of --select"
        )
    return kept, judged


def rendered(base: Base, pairs: Sequence[Pair], config: Unlearning, left_out: list[str]) -> list[Any]:
    """Pairs as tokens; ids of those that do not fit are added to `left_out`."""
    return render_pairs(base, pairs, max_tokens=min(config.max_tokens, base.context), left_out=left_out) if pairs else []


def entries_of(pairs: Sequence[Pair], rows: Sequence[Any]) -> tuple[Entry, ...]:
    """Rows with what tells equal questions and answers."""
    by_id = {pair.id: pair for pair in pairs}
    return tuple(Entry.of(by_id[row.id], row) for row in rows)


def _best(done: Sequence[Acquired], choices: Sequence[Choice]) -> tuple[Acquired, Unlearning]:
    """The run nearest to its aim, ties to the earlier one, and its settings with the λ that was chosen."""
    if not choices:
        return done[0], done[0].config
    at = min(range(len(done)), key=lambda i: (choices[i].distance, i))
    return done[at], done[at].config.but(strength=choices[at].chosen.strength)


def _stacked(base: Base, beneath: tuple[Layout, Tensor], layout: Layout, row: Tensor) -> tuple[Layout, Tensor]:
    return concat(base.model.sites(), [(*beneath, 1.0), (layout, row, 1.0)])


def note_of(target: Target, order: Order, result: Unlearned, material: Material) -> dict[str, Any]:
    """What is written beside the result; digests of the sets, none of their words."""
    config = result.config
    return {
        "method": config.method,
        "strength": config.strength,
        "settings": config.model_dump(mode="json"),
        "target": target.digest or "base",
        "base": target.frozen.fingerprint,
        "base_name": target.frozen.name,
        "task_adapter": None if target.manifest is None else target.manifest.task_adapter,
        "forget": _set_digest(material.forget),
        "retain": _set_digest(material.retain),
        "n_forget": len(material.forget),
        "n_retain": len(material.retain),
        "left_out": len(result.left_out),
        "steps": result.steps,
        "stopped_at": result.stopped_at,
        "choices": [choice.to_dict() for choice in result.choices],
        "runs": [run.model_dump(mode="json") for run in order.runs],
    }


def _set_digest(entries: Sequence[Entry]) -> str:
    return digest_of([[list(entry.example.ids), entry.example.n_prompt] for entry in entries])


def write_result(path: Path, note: Mapping[str, Any]) -> None:
    """Last of all: where it is, the result is whole."""
    replace_file(path, [(json.dumps(note, indent=1) + "\n").encode()])
