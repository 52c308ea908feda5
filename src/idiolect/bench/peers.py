"""The peers that training is measured against: PEFT with transformers' Trainer, and PEFT with a plain loop.

`train_with_trainer` is the paper's way: one person after another, each with a fresh PEFT model on the resident base.
It is a mended form of the paper's code: data is per person (the released code lets person i train on persons 0…i−1 as
well) and there is no gradient checkpointing, which that code asks for and small bases do not need. Both would slow the
peer down. Dropout is 0, so that results can be compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idiolect.bench.bases import State
from idiolect.config import TrainConfig
from idiolect.types import Rendered

Jobs = Mapping[str, Sequence[Rendered]]
Batches = Sequence[Sequence[int]]
"""The example indices of each step, over all epochs."""
Order = Mapping[str, Batches]

IGNORED = -100  # what torch's cross-entropy leaves out


def load_resident(folder: Path) -> Any:
    """The base as transformers loads it: float32, on the CPU, frozen."""
    from transformers import AutoModelForCausalLM

    quieten()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # Every method generates a fixed number of tokens; random weights would otherwise stop wherever chance says so.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.requires_grad_(False)


def train_with_trainer(
    model: Any, jobs: Jobs, config: TrainConfig, order: Order, out: Path, init: Mapping[str, State] | None = None
) -> dict[str, State]:
    """One PEFT model and one Trainer per person; the adapters, also saved under `out`."""
    states = {}
    for person, examples in jobs.items():
        with _fresh_adapter(model, config, init[person] if init else None) as adapted:
            _trainer(adapted, examples, config, order[person], out / person).train()
            adapted.save_pretrained(out / person)
            states[person] = state_of(adapted)
    return states


def train_with_bare_loop(
    model: Any, jobs: Jobs, config: TrainConfig, order: Order, out: Path, init: Mapping[str, State] | None = None
) -> dict[str, State]:
    """A plain loop around one PEFT model whose weights are set anew for each person: what a careful user would write."""
    states = {}
    with _fresh_adapter(model, config, None) as adapted:
        for person, examples in jobs.items():
            if init:
                set_state(adapted, init[person])
            else:
                _reset(adapted)
            _loop(adapted, examples, config, order[person])
            adapted.save_pretrained(out / person)
            states[person] = state_of(adapted)
    return states


def collate(rows: Sequence[Rendered]) -> dict[str, Tensor]:
    """Rows padded on the right to the longest, with the loss on answers only."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n] = torch.tensor(row.ids)
        mask[i, :n] = 1
        labels[i, row.n_prompt : n] = ids[i, row.n_prompt : n]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def set_state(adapted: Any, state: State, name: str = "default") -> None:
    """Copy an adapter into PEFT's modules; PEFT keeps A as (R, D) and B as (O, R)."""
    with torch.no_grad():
        for module, a, b in _parts(adapted, name):
            a.copy_(state[module][0].T)
            b.copy_(state[module][1].T)


def state_of(adapted: Any, name: str = "default") -> State:
    """A copy of an adapter in PEFT's modules."""
    return {module: (a.detach().T.clone(), b.detach().T.clone()) for module, a, b in _parts(adapted, name)}


def lora_config(config: TrainConfig) -> Any:
    """PEFT's name for our settings."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # annotated int, used as a factor
        lora_dropout=0.0,
        target_modules=list(config.targets),
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )


def quieten() -> None:
    """No progress bars and no advice from the peers' libraries: neither belongs in a measurement."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(peft|transformers|accelerate)\b")


@contextmanager
def _fresh_adapter(model: Any, config: TrainConfig, state: State | None) -> Iterator[Any]:
    """A PEFT model on the resident base, taken off again afterwards."""
    from peft import get_peft_model

    adapted: Any = get_peft_model(model, lora_config(config))
    try:
        if state:
            set_state(adapted, state)
        yield adapted
    finally:
        adapted.unload()


def _trainer(adapted: Any, examples: Sequence[Rendered], config: TrainConfig, batches: Batches, out: Path) -> Any:
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class OrderedTrainer(Trainer):
        """Trainer that takes its batches from a list, so that every method sees the same data in the same order."""

        def get_train_dataloader(self) -> Any:
            rows: Any = list(examples)
            sampler: Any = [list(batch) for batch in batches]
            return self.accelerator.prepare(DataLoader(rows, batch_sampler=sampler, collate_fn=collate))

    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=config.batch_size,
        max_steps=len(batches),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=warm_up_steps(config, len(batches)),
        optim="adamw_torch",
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip or 0.0,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=config.seed,
    )
    rows: Any = list(examples)
    trainer = OrderedTrainer(model=adapted, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)  # takes the place of the progress bar, on stdout
    return trainer


def _loop(adapted: Any, examples: Sequence[Rendered], config: TrainConfig, batches: Batches) -> None:
    from transformers import get_scheduler

    weights = [w for w in adapted.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = get_scheduler(config.schedule, optimizer, warm_up_steps(config, len(batches)), len(batches))
    adapted.train()
    for batch in batches:
        loss = adapted(**collate([examples[i] for i in batch]), use_cache=False).loss
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(weights, config.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def warm_up_steps(config: TrainConfig, steps: int) -> int:
    """Warm-up as transformers counts it: a share of the steps, rounded up."""
    return math.ceil(steps * config.warm_up)


def _reset(adapted: Any) -> None:
    for module in adapted.modules():
        if hasattr(module, "reset_lora_parameters"):
            module.reset_lora_parameters("default", True)


def _parts(adapted: Any, name: str) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(module path in the base, A (R, D), B (O, R)) of every adapted module."""
    for path, module in adapted.get_base_model().named_modules():
        if hasattr(module, "lora_A") and name in module.lora_A:
            yield path, module.lora_A[name].weight, module.lora_B[name].weight
