"""The peers that serving is measured against: PEFT's `set_adapter`, its mixed batches, and its `load_adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from idiolect.bench.bases import State
from idiolect.bench.peers import lora_config, set_state
from idiolect.config import TrainConfig

Prompts = Mapping[str, Sequence[int]]
"""For each person, the ids of one prompt."""


def attach(model: Any, states: Mapping[str, State], config: TrainConfig) -> Any:
    """A PEFT model that holds every person's adapter, each under the person's name."""
    from peft import get_peft_model

    names = list(states)
    adapted: Any = get_peft_model(model, lora_config(config), adapter_name=names[0])
    for name in names[1:]:
        adapted.add_adapter(name, lora_config(config))
    for name in names:
        set_state(adapted, states[name], name)
    return adapted.eval()


def serve_set_adapter(adapted: Any, prompts: Prompts, n_new: int) -> dict[str, list[int]]:
    """One person after another: switch to their adapter, generate greedily, exactly `n_new` tokens."""
    answers = {}
    for person, ids in prompts.items():
        adapted.set_adapter(person)
        answers[person] = _generate(adapted, [ids], n_new)[0]
    return answers


def serve_mixed(adapted: Any, prompts: Prompts, n_new: int) -> dict[str, list[int]]:
    """All people in one batch, PEFT choosing each row's adapter by its name."""
    answers = _generate(adapted, list(prompts.values()), n_new, adapter_names=list(prompts))
    return dict(zip(prompts, answers, strict=True))


def save_adapter(model: Any, state: State, config: TrainConfig, folder: Path) -> None:
    """Write one PEFT folder."""
    from peft import get_peft_model

    adapted: Any = get_peft_model(model, lora_config(config))
    set_state(adapted, state)
    adapted.save_pretrained(folder)
    adapted.unload()


def load_one(adapted: Any, folder: Path, name: str) -> None:
    """PEFT's way into memory; its time grows with the adapters that are there already."""
    adapted.load_adapter(str(folder), adapter_name=name)


def _generate(adapted: Any, prompts: Sequence[Sequence[int]], n_new: int, **options: Any) -> list[list[int]]:
    width = max(len(ids) for ids in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    with torch.inference_mode():
        out = adapted.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=n_new, **options)
    return out[:, width:].tolist()
