"""What shared pieces betray of the items they were trained on, measured on real people.

    a sharer's items ─ by lot ─┬─ members ─▶ adapter, gates ─▶ pieces ─▶ pool ─▶ targets' assembled adapters
                               └─ held out ──────────────────────────────────▶ can they be told from members?

Every attack is run by what an attacker could hold: a sharer's pieces, with their gates or the gates' directions alone; a
target's assembled adapter; gates alone. Beside them stand two that know nothing and must be at 0.5: the base and random gates.
Items are held out by lot, not the newest: those are about other things than older ones, and would be told apart for that.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from idiolect.errors import ConfigError, DependencyMissing
from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.evals.harness import prepared
from idiolect.evals.plan import OnStage, Plan, said_of, silent
from idiolect.evals.pooling import newcomers
from idiolect.model.adapter import GateLayout, GateStack, Layout, Stack
from idiolect.model.base import Base
from idiolect.model.lora import Adapters, Applied, Gates
from idiolect.model.pieces import Cited, Entries, Pool, PoolKey, cut, directions
from idiolect.pieces.assemble import assemble
from idiolect.pieces.gates import train_gates
from idiolect.pieces.privacy import attack, probe
from idiolect.pieces.scoring import example_losses
from idiolect.store.store import Store
from idiolect.train.stages import Recipe, newest, rendered_items
from idiolect.train.trainer import Finished, Job, train
from idiolect.types import Item, Person, Rendered, seed_of

HeldOut = Literal["random", "newest"]


@dataclass(frozen=True)
class Split:
    """One sharer's items as tokens: trained on, held out, and as many of other sharers' held-out ones."""

    members: Sequence[Rendered]
    held_out: Sequence[Rendered]
    foreign: Sequence[Rendered] = ()


def split_items(person: Person, share: float, how: HeldOut, seed: int) -> tuple[list[Item], list[Item]]:
    """(members, held out), both oldest first; at least one of each. Drawn by (seed, person)."""
    n = len(person.history)
    out = min(n - 1, max(1, round(share * n)))
    places = range(n - out, n) if how == "newest" else random.Random(seed_of("held out", seed, person.id)).sample(range(n), out)
    held = set(places)
    return (
        [item for i, item in enumerate(person.history) if i not in held],
        [item for i, item in enumerate(person.history) if i in held],
    )


@dataclass(frozen=True)
class _Held:
    """What an attacker may hold, and the texts that are asked about."""

    base: Base
    layout: Layout
    rows: Tensor
    gates: Tensor
    pool: Pool
    mine: Mapping[int, Entries]
    splits: Sequence[Split]
    assembled: Sequence[Entries]

    def candidates(self, against: str) -> tuple[list[tuple[int, Rendered]], np.ndarray, np.ndarray]:
        """(texts with the sharer they are held against, whether each is a member, the sharer)."""
        texts, member = [], []
        for i, split in enumerate(self.splits):
            others = split.held_out if against == "held out" else split.foreign
            texts += [(i, example) for example in (*split.members, *others)]
            member += [True] * len(split.members) + [False] * len(others)
        return texts, np.array(member), np.array([i for i, _ in texts])


def measure(
    base: Base,
    store: Store,
    plan: Plan,
    *,
    held_out: float = 0.2,
    how: HeldOut = "random",
    seed: int = 0,
    n_resamples: int = 1000,
    on_stage: OnStage = silent,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train sharers on part of their items and attack what they share: the content of `results.json`.

    Args:
        held_out: share of each sharer's items that is not trained on.
        how: which: drawn by lot, or the newest.

    Raises:
        ConfigError: fewer than two sharers.
        EmptyHistory: nobody has items enough to share.
    """
    if not 0 < held_out < 1:
        raise ConfigError(f"the share held out is {held_out}; it must be between 0 and 1")
    began = time.monotonic()
    with_task, sharers = prepared(base, store, plan, on_stage=on_stage)
    if len(sharers.ids) < 2:
        raise ConfigError(f"{len(sharers.ids)} sharer cannot be told from others; lower --min-items, or raise --sharers")
    recipe = plan.recipe("k0", plan.stage_2)
    step = on_stage("sharers", 2 * len(sharers.ids))
    held = _held(with_task, store, recipe, plan, sharers.ids, held_out, how, seed, lambda n: step(n, "", None))
    step = on_stage("attacks", 2)
    attacks = []
    for done, against in enumerate(("held out", "other people's")):
        texts, member, owner = held.candidates(against)
        for (name, gates), scores in _scores(held, texts, seed).items():
            found = asdict(attack(scores, member, owner, seed, n_resamples))
            attacks.append({"attack": name, "gates": gates, "against": against, **found})
        step(done + 1, "", None)
    made = {"attacks": attacks, "sharers": len(sharers.ids), "held_out": held_out, "how": how, "seed": seed}
    return said_of(base, plan, about or {}, time.monotonic() - began) | made


def _held(
    base: Base,
    store: Store,
    recipe: Recipe,
    plan: Plan,
    sharers: Sequence[str],
    share: float,
    how: HeldOut,
    seed: int,
    on_done: Any,
) -> _Held:
    """Adapters and gates of the sharers' members alone, their pool, and what targets assemble from it."""
    layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
    splits = [_split(base, recipe, plan, store.person(user), share, how, seed) for user in sharers]
    splits = _with_foreign(splits, seed)
    rows: dict[str, Tensor] = {}

    def keep(done: Finished) -> None:
        rows[done.person] = done.row
        on_done(len(rows))

    train(base, [Job(user, split.members) for user, split in zip(sharers, splits, strict=True)], recipe.config, keep)
    jobs = [Job(user, split.members, rows[user]) for user, split in zip(sharers, splits, strict=True)]
    gates = train_gates(base, layout, jobs, plan.pieces.gates)
    on_done(2 * len(rows))
    bodies, mine = [], {}
    for i, user in enumerate(sharers):
        shared = plan.pieces.consent.chosen(user, GateLayout(layout).vectors(gates[user]))
        whole = cut(layout, rows[user], gates[user])
        _keep_back(layout, rows[user], gates[user], shared)
        named = {module: seed_of("piece", seed, user, module) for module in shared}
        bodies += [(piece, module, whole[module]) for module, piece in named.items()]
        mine[i] = {module: ((piece, 1.0),) for module, piece in named.items()}
    key = PoolKey(recipe.task.name, base.fingerprint, base.task_adapter, layout.rank, layout.alpha, layout.targets)
    pool = Pool(key, base.model.sites(), bodies, base.device)
    people, _, _ = newcomers(base, recipe, [store.person(user) for user in plan.targets])
    records = assemble(base, pool, people, plan.pieces.assembly)
    stacked = torch.stack([rows[user] for user in sharers]), torch.stack([gates[user] for user in sharers])
    return _Held(base, layout, *stacked, pool, mine, splits, _closest(mine, [r.entries for r in records.values()]))


def _keep_back(layout: Layout, row: Tensor, gates: Tensor, shared: Sequence[str]) -> None:
    """Empty what is not shared, in place: no attacker has it."""
    vectors = GateLayout(layout).vectors(gates)
    for module, (a, b) in layout.matrices(row).items():
        if module not in shared:
            for kept_back in (a, b, vectors[module]):
                kept_back.zero_()


def _split(base: Base, recipe: Recipe, plan: Plan, person: Person, share: float, how: HeldOut, seed: int) -> Split:
    kept = Person(person.id, newest(person, plan.pieces.max_history))
    members, held = (
        [e for e in rendered_items(base, recipe, Person(person.id, tuple(items)), items) if e.n_answer > 0]
        for items in split_items(kept, share, how, seed)
    )
    return Split(members, held)


def _with_foreign(splits: Sequence[Split], seed: int) -> list[Split]:
    """Beside each sharer's own, as many held-out items of the others, by lot."""
    found = []
    for i, split in enumerate(splits):
        others = [example for j, other in enumerate(splits) if j != i for example in other.held_out]
        drawn = random.Random(seed_of("foreign", seed, i)).sample(others, min(len(others), len(split.held_out)))
        found.append(Split(split.members, split.held_out, drawn))
    return found


def _closest(mine: Mapping[int, Entries], records: Sequence[Entries]) -> list[Entries]:
    """For each sharer, the assembled adapter that leans on their pieces the most: the attacker's best case."""
    owner = {piece: i for i, entries in mine.items() for cited in entries.values() for piece, _ in cited}
    leans: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(records))
    for j, entries in enumerate(records):
        for cited in entries.values():
            for piece, weight in cited:
                leans[owner[piece]][j] += weight
    return [records[int(np.argmax(leans[i]))] for i in mine]


def _scores(held: _Held, texts: Sequence[tuple[int, Rendered]], seed: int) -> dict[tuple[str, str], np.ndarray]:
    """Every attack's score of every text, by (attack, what is published of gates)."""
    base, layout = held.base, held.layout
    plain = example_losses(base, None, texts)
    dtype = torch.promote_types(base.dtype, torch.float32)
    pieces = Cited.of(held.pool, [held.mine[i] for i in range(len(held.splits))], dtype)
    noise = torch.randn(held.gates.shape, generator=torch.Generator().manual_seed(seed_of("random gates", seed)))
    turned = directions(layout, held.gates)
    under: dict[tuple[str, str], Applied] = {
        ("pieces", "not used"): pieces,
        ("pieces, gated", "raw"): _gated(held, held.gates, dtype),
        ("pieces, gated", "direction only"): _gated(held, turned, dtype),
        # Scores do not change with the length of a gate, so what is assembled is the same with either.
        ("assembled adapter", "either"): Cited.of(held.pool, held.assembled, dtype),
    }
    found: dict[tuple[str, str], np.ndarray] = {("base alone (control)", "not used"): -plain}
    for (name, gates), adapters in under.items():
        losses = example_losses(base, adapters, texts)
        found[f"loss · {name}", gates] = -losses
        found[f"loss less the base's · {name}", gates] = plain - losses
    found["gate probe", "raw"] = probe(base, layout, held.gates, texts, raw=True)
    found["gate probe", "direction only"] = probe(base, layout, turned, texts, raw=False)
    found["gate probe (control)", "random"] = probe(base, layout, noise, texts, raw=False)
    return found


def _gated(held: _Held, gates: Tensor, dtype: torch.dtype) -> Adapters:
    """The sharers' whole adapters behind their gates, as gates are trained."""
    rows, gates = held.rows.to(held.base.device, dtype), gates.to(held.base.device, dtype)
    places = GateLayout(held.layout)
    scale = torch.full((len(rows),), held.layout.scale, dtype=dtype, device=held.base.device)
    stacks = Gates(GateStack(places, gates), GateStack(places, torch.zeros_like(gates)))
    return Adapters(Stack(held.layout, rows), scale, gates=stacks)


# ------------------------------------------------------------------------------------------------------------- report


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Leave results.json, report.md and plot.png in the folder.

    Raises:
        StoreError: the folder cannot be written.
        DependencyMissing: matplotlib is not installed.
    """

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [markdown(results)])
        _plot(results, staged / "plot.png")
        write_results(staged, results)

    publish(folder, fill)


def markdown(results: Mapping[str, Any]) -> str:
    """The text of `report.md`."""
    rows = [
        [
            a["attack"], a["gates"], a["against"], f"{a['auc']:.3f}", f"{a['low']:.3f} – {a['high']:.3f}",
            f"{a['n_members']:,}", f"{a['n_others']:,}", f"{a['n_people']}",
        ]
        for a in results["attacks"]
    ]  # fmt: skip
    header = ["attack", "gates", "against", "AUC", "95 %", "members", "others", "people"]
    parts = [
        f"# Membership inference on shared pieces: {results['task']} on {results['base']}",
        f"{results['sharers']} sharers, {100 * results['held_out']:g} % of each history held out "
        f"({'by lot' if results['how'] == 'random' else 'the newest'}); {results['n_people']} assembled adapters; seed "
        f"{results['seed']}; {seconds_text(results['seconds'])}.",
        pipe_table(header, rows, n_text=3),
        "![The same as dots](plot.png)",
        _READING,
        *doing_it_again(results),
    ]
    return "\n\n".join(parts) + "\n"


_READING = "\n".join(
    (
        "* AUC: how often a member scores higher than another item; 0.5 is a guess. Intervals resample sharers.",
        "* *pieces*: a sharer's shared pieces put together again, without gates or behind them. *assembled adapter*: the "
        "target's that leans on the sharer the most. *gate probe*: gates and the base alone.",
        "* *held out*: items of the same sharers; telling them from members is membership inference. *other people's*: telling "
        "whose text it is, which every adapter that personalises anything allows.",
        "* Controls know nothing of membership. Where one is not at 0.5 against held-out items, the split itself can be told.",
        "* An assembled adapter does not change with the length of gates, so publishing directions only costs nothing there.",
    )
)


def _plot(results: Mapping[str, Any], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("the plot needs matplotlib: pip install 'idiolect[local]'") from None
    attacks = [a for a in results["attacks"] if a["against"] == "held out"][::-1]
    figure = Figure(figsize=(9, 1.5 + 0.4 * len(attacks)), layout="constrained")
    axes = figure.subplots()
    for row, a in enumerate(attacks):
        color = "#777777" if "control" in a["attack"] else "#0072B2"
        axes.plot([a["low"], a["high"]], [row, row], color=color, linewidth=2)
        axes.plot([a["auc"]], [row], "o", color=color, markersize=7)
    axes.axvline(0.5, color="black", linewidth=0.8)
    axes.set_yticks(range(len(attacks)), [f"{a['attack']} ({a['gates']})" for a in attacks])
    axes.set_xlabel("AUC of members against held-out items, 95 % interval over sharers")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, format="png")
