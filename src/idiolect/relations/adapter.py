"""Tier 4: a LoRA adapter on the platform's base that answers with a label. Trained by the fused trainer, as any task adapter.

    what joins hand and finger                                        What joins the two words? Choose: part, antonym, none, …
    relation: ▶ part                               or, with a list    hand, finger
                                                                      relation: ▶ part

The whole label set is scored either way, so a list tells the base nothing that it cannot learn, and makes prompts three times
as long. Where there is one, its order is drawn anew for every pair. The adapter is a task adapter in all respects: it is merged
into the base, and personal adapters may stand on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from idiolect.config import TrainConfig, preset
from idiolect.data.prompts import answer_ids, render, render_many
from idiolect.engine.local import Engine, Request
from idiolect.errors import ConfigError, EmptyHistory
from idiolect.model.adapter import Layout, modules_of
from idiolect.model.base import Base
from idiolect.relations.classifier import SHARED, Arm, RelationModel, Words, mirrored_mean, prepared
from idiolect.relations.head import Floats, softmax, temperature_of
from idiolect.relations.links import Link
from idiolect.train.trainer import Finished, Job, Progress, train
from idiolect.types import Example, digest_of, seed_of

NAMES: Mapping[str, str] = {
    "syn": "synonym", "ant": "antonym", "hypo": "kind", "hyper": "class", "mero": "part", "holo": "whole", "none": "none",
    "IsA": "class", "HasA": "part", "PartOf": "whole", "MadeOf": "material", "HasProperty": "property",
    "attri": "property", "coord": "peer",
}  # fmt: skip
"""What a label is called in the prompt; any other is called by its own name in lower case."""

TRAINING: TrainConfig = preset("default", "task").but(epochs=3, learning_rate=3e-3, max_tokens=128)


@dataclass(frozen=True)
class AdapterModel(RelationModel):
    """Tier 4: a base, and the adapter's row on it.

    Attributes:
        base: the bare one, which the adapter was trained on.
        listed: the prompt lists the labels, in an order drawn by `seed`.
    """

    labels: tuple[str, ...]
    base: Base
    layout: Layout
    row: Tensor
    temperature: float = 1.0
    seed: int = 0
    listed: bool = False
    arm: Arm = "adapter"

    def probabilities(self, pairs: Words) -> Floats:
        if not pairs:
            return np.zeros((0, len(self.labels)))
        engine = Engine(self.merged())
        said = lambda words: softmax(self._log_probabilities(engine, words) / self.temperature)  # noqa: E731
        return mirrored_mean(said, pairs) if self.labels == SHARED else said(pairs)

    def merged(self) -> Base:
        """The base with the adapter in it."""
        return self.base.with_task(digest_of(self.row.numpy().tobytes()), self.layout, self.row)

    def _log_probabilities(self, engine: Engine, pairs: Words) -> Floats:
        """(N, L): log-probability of every label, end of sequence included."""
        tokenizer, names = self.base.tokenizer, [name_of(label) for label in self.labels]
        reserve = max(len(answer_ids(name, tokenizer)) for name in names)
        room = min(TRAINING.max_tokens, self.base.context)
        requests = []
        for number, pair in enumerate(pairs):
            prompt = render(self._question(pair), tokenizer, room, reserve=reserve, answer=False)
            requests.append(Request(str(number), prompt.ids))
        done = engine.choose(requests, names, [answer_ids(name, tokenizer) for name in names])
        return np.array([completion.scores for completion in done])

    def _question(self, pair: tuple[str, str]) -> Example:
        return example(pair, self.labels, None, self.seed, self.listed)

    def calibrated(self, links: Sequence[Link]) -> AdapterModel:
        """The same with the temperature that makes these links likeliest."""
        rows = prepared(links, self.labels)
        if not rows:
            return self
        said = self._log_probabilities(Engine(self.merged()), [pair for pair, _, _ in rows])
        return replace(self, temperature=temperature_of(said, [self.labels.index(label) for _, label, _ in rows]))


def name_of(label: str) -> str:
    """What a label is called in the prompt."""
    return NAMES.get(label, label.casefold())


def example(pair: tuple[str, str], labels: Sequence[str], target: str | None, seed: int, listed: bool = False) -> Example:
    """The question about one pair; where labels are listed, their order hangs on the pair and the seed alone."""
    answer = None if target is None else name_of(target)
    if not listed:
        return Example("", "", f"what joins {pair[0]} and {pair[1]}", "relation:", answer)
    names = [name_of(label) for label in labels]
    random.Random(seed_of(seed, "relations", "options", *pair)).shuffle(names)
    return Example("", f"What joins the two words? Choose: {', '.join(names)}.\n", ", ".join(pair), "relation:", answer)


def fit_adapter(
    base: Base,
    train_links: Sequence[Link],
    val: Sequence[Link],
    labels: Sequence[str],
    seed: int,
    config: TrainConfig = TRAINING,
    listed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> AdapterModel:
    """Train tier 4 on links, and set its temperature on others. Weights below 1 are met by lot, keyed by pair.

    Raises:
        EmptyHistory: nothing to learn from.
        ConfigError: training diverged.
    """
    config = config.but(targets=modules_of(base.model.sites(), config.targets), slots=1, seed=seed)
    rows = [(pair, label) for pair, label, weight in prepared(train_links, labels) if _kept(pair, label, weight, seed)]
    if not rows:
        raise EmptyHistory("a relation classifier needs pairs to learn from; give more data")
    tokenizer = base.tokenizer
    reserve = max(len(answer_ids(name_of(label), tokenizer)) for label in labels)
    examples = (example(pair, labels, label, seed, listed) for pair, label in rows)
    dropped: list[str] = []
    rendered = list(render_many(examples, tokenizer, min(config.max_tokens, base.context), reserve=reserve, dropped=dropped))
    done: list[Finished] = []
    train(base, [Job("", rendered)], config, done.append, on_progress)
    if not bool(done[0].row.isfinite().all()):
        raise ConfigError("training diverged (numbers that are not finite); choose a smaller learning rate")
    layout = base.layout(config.rank, config.alpha, config.targets)
    return AdapterModel(tuple(labels), base, layout, done[0].row, seed=seed, listed=listed).calibrated(val)


def _kept(pair: tuple[str, str], label: str, weight: float, seed: int) -> bool:
    return weight >= 1 or seed_of(seed, "relations", "lot", *pair, label) / 2**63 < weight
