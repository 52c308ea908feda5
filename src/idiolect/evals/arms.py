"""The arms of an evaluation: what each one needs trained, and what it is compared with.

An arm is a task adapter (stage 1), with or without a user adapter (stage 2) on top. An arm with a user adapter and the
arm with the same task adapter and none are an exact pair: they differ in nothing but the adapter.

    nonpers ──┬── oppu            task adapter k0: nothing retrieved
              ├── stranger        … with somebody else's user adapter
              └── pooled          … with one adapter made from everybody's history
    rag ───────── oppu+rag        task adapter rag: the k most relevant earlier items
    random                        task adapter random: k random earlier items
    majority                      no model

Arms of pieces give the targets nothing trained: other people, the sharers, share the pieces of theirs.

    nonpers ──┬── perpcs          pieces chosen by their gates; perpcs+rag: the same on rag
              ├── peft-retrieval  the nearest sharer's whole adapter
              ├── uniform         all sharers' adapters, merged
              ├── random-pieces   as many pieces, drawn by lot
              ├── random-gates    pieces chosen by gates that know nothing
              └── perpcs+search, perpcs+residual, perpcs+subspace     perpcs with an option

Sources: Tan et al. 2024 (OPPU), arXiv:2402.04401; Tan et al. 2024 (Per-Pcs), arXiv:2406.10471; controls of our own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from idiolect.errors import ConfigError
from idiolect.types import seed_of

TaskVariant = Literal["k0", "rag", "random"]
PieceVariant = Literal["pieces", "nearest", "uniform", "random-pieces", "random-gates", "search", "residual", "subspace"]
UserVariant = Literal["none", "own", "stranger", "pooled"] | PieceVariant

OF_PIECES: frozenset[str] = frozenset(get_args(PieceVariant))
"""User adapters that are made from sharers' pieces (or are a sharer's)."""

BY_LOT: frozenset[str] = frozenset({"random-pieces", "random-gates"})
"""Arms whose answers hang on a lot: they are run with several seeds, and averaged."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer.

    Attributes:
        title: what tables and plots call it.
        task_adapter: the stage-1 adapter under it, and the retrieval at training and at test; None: no model at all.
        user_adapter: what is put on top of the task adapter.
        control: the arm that differs only in the user adapter; always run along.
        versus: arms it is compared with, where they are run.
    """

    name: str
    title: str
    task_adapter: TaskVariant | None
    user_adapter: UserVariant = "none"
    control: str | None = None
    versus: tuple[str, ...] = ()


NONPERS, OPPU, PERPCS, RANDOM_GATES = "nonpers", "oppu", "perpcs", "random-gates"

_CONTROLS = (RANDOM_GATES, "random-pieces", "uniform", "peft-retrieval")

ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("majority", "own majority / mean", None, versus=(NONPERS,)),
        Arm(NONPERS, "non-personalised", "k0"),
        Arm("random", "random history", "random", versus=(NONPERS,)),
        Arm("rag", "RAG", "rag", versus=(NONPERS,)),
        Arm(OPPU, "OPPU", "k0", "own", NONPERS, (NONPERS, "stranger", "pooled", "majority")),
        Arm("oppu+rag", "OPPU + RAG", "rag", "own", "rag", ("rag", NONPERS)),
        Arm("stranger", "a stranger's adapter", "k0", "stranger", NONPERS, (NONPERS,)),
        Arm("pooled", "all pooled in one", "k0", "pooled", NONPERS, (NONPERS,)),
        Arm(PERPCS, "Per-Pcs", "k0", "pieces", NONPERS, (NONPERS, OPPU, *_CONTROLS, "majority")),
        Arm("perpcs+rag", "Per-Pcs + RAG", "rag", "pieces", "rag", ("rag", NONPERS, "oppu+rag")),
        Arm("peft-retrieval", "the nearest sharer's adapter", "k0", "nearest", NONPERS, (NONPERS,)),
        Arm("uniform", "all sharers merged", "k0", "uniform", NONPERS, (NONPERS,)),
        Arm("random-pieces", "random pieces", "k0", "random-pieces", NONPERS, (NONPERS,)),
        Arm(RANDOM_GATES, "random gates", "k0", "random-gates", NONPERS, (NONPERS,)),
        Arm("perpcs+search", "Per-Pcs + search", "k0", "search", NONPERS, (NONPERS, PERPCS)),
        Arm("perpcs+residual", "Per-Pcs + residual", "k0", "residual", NONPERS, (NONPERS, PERPCS, OPPU)),
        Arm("perpcs+subspace", "Per-Pcs in a subspace", "k0", "subspace", NONPERS, (NONPERS, PERPCS)),
    )
}
"""Every arm, in the order of tables."""

DEFAULT_ARMS: tuple[str, ...] = tuple(name for name, arm in ARMS.items() if arm.user_adapter not in OF_PIECES)
"""Those that need no sharers."""


def title(name: str) -> str:
    """What tables call an arm; a name that is not in the registry stands for itself."""
    return ARMS[name].title if name in ARMS else name


def parse_arms(text: str) -> tuple[str, ...]:
    """Read `--arms oppu,rag`: the arms named and the exact control of each, once each, in the order of tables.

    Raises:
        ConfigError: if a name is not known, or none is given.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ARMS]
    if unknown or not names:
        problem = f"not known: {', '.join(unknown)}" if unknown else "none given"
        raise ConfigError(f"arms {problem}; choose from: {', '.join(ARMS)}")
    wanted = {*names, *(ARMS[name].control for name in names)}
    return tuple(name for name in ARMS if name in wanted)


def comparisons(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The arms that each of these is compared with, among these; an arm of another name is compared with non-personalised."""
    run = tuple(names)
    free = Arm("", "", None, versus=(NONPERS,))
    return {name: tuple(other for other in ARMS.get(name, free).versus if other in run and other != name) for name in run}


def task_adapters(names: Iterable[str]) -> tuple[TaskVariant, ...]:
    """The stage-1 adapters that these arms need."""
    needed = {ARMS[name].task_adapter for name in names}
    variants: tuple[TaskVariant, ...] = ("k0", "random", "rag")
    return tuple(variant for variant in variants if variant in needed)


def user_adapters(names: Iterable[str]) -> tuple[tuple[TaskVariant, Literal["own", "pooled"]], ...]:
    """The targets' adapters that these arms need, as (task adapter, whose): a stranger's adapter is that person's own."""
    needed: dict[tuple[TaskVariant, Literal["own", "pooled"]], None] = {}
    for arm in (ARMS[name] for name in names):
        if arm.task_adapter and arm.user_adapter != "none" and arm.user_adapter not in OF_PIECES:
            needed[arm.task_adapter, "pooled" if arm.user_adapter == "pooled" else "own"] = None
    return tuple(needed)


def piece_variants(names: Iterable[str]) -> tuple[TaskVariant, ...]:
    """The stage-1 adapters on which these arms need sharers' pieces."""
    return task_adapters(name for name in names if ARMS[name].user_adapter in OF_PIECES)


def derangement(ids: Sequence[str], seed: int) -> dict[str, str]:
    """A stranger for each person: everybody's adapter is used once, nobody's own. Does not depend on the order of ids.

    People in a random ring, each with the adapter of the next one.

    Raises:
        ConfigError: if there are fewer than two people, or an id occurs twice.
    """
    ring = sorted(set(ids))
    if len(ring) != len(ids):
        raise ConfigError(f"{len(ids) - len(ring)} people are named twice; name each once")
    if len(ring) < 2:
        raise ConfigError("the arm 'stranger' needs at least two people; add targets or leave the arm out")
    random.Random(seed_of("stranger", seed)).shuffle(ring)
    return dict(zip(ring, ring[1:] + ring[:1], strict=True))
