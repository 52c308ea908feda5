"""Any causal language model that transformers knows, behind the same interface as the lean decoder.

The general path: rows are padded, adapters are added by hooks on the model's own linear modules, and labels are scored as
whole sequences. Slower than the lean decoder, and right for every family: Gemma, GPT-NeoX, Phi, SmolLM3 … A family whose logits
are not its hidden states times its head, times a constant, capped, is refused when it is loaded.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from idiolect.data.batch import Batch
from idiolect.errors import BaseNotFound
from idiolect.model.adapter import Layout, Site
from idiolect.model.decoder import Forest
from idiolect.model.lora import Applied, Rows, Segments, update_only

_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")
"""What configs call the constant that logits are multiplied with, or divided by: Cohere's, Granite's, Falcon-H1's."""
_AGREES = 0.02
"""Logits may differ from transformers' by this share of the largest: rounding of half precision, and no other constant."""


@dataclass(frozen=True)
class Padded:
    """A batch as (B, T) rows, padded on the right (training) or on the left (answering)."""

    ids: Tensor
    mask: Tensor
    segments: Segments
    predict: Tensor


@dataclass
class State:
    """Rows in the middle of being answered."""

    past: Any
    mask: Tensor
    positions: Tensor
    prompts: list[Tensor]
    adapters: Rows | None


class GeneralModel:
    """transformers' own model, its linear modules hooked. scale: what its logits are multiplied with before the cap."""

    def __init__(self, model: Any, names: list[str], scale: float = 1.0) -> None:
        self._model, self._names, self._scale = model, names, scale
        self._active: tuple[Applied, Segments] | None = None
        output = model.get_output_embeddings()
        # A bias (Phi's) is one more column of the head, and hidden states get a one to meet it.
        self._biased = output.bias is not None
        self.head: Tensor = torch.cat((output.weight, output.bias.unsqueeze(1)), 1) if self._biased else output.weight
        self.softcap: float | None = getattr(model.config, "final_logit_softcapping", None)
        # transformers calls it `cache` since 5.24, family by family.
        self._past = "cache" if "cache" in inspect.signature(model.base_model.forward).parameters else "past_key_values"
        for name in names:
            model.get_submodule(name).register_forward_hook(self._hook(name))

    @classmethod
    def load(cls, path: Path, device: torch.device, dtype: torch.dtype) -> GeneralModel:
        from transformers import AutoModelForCausalLM

        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
            model, report = loaded
        except (ValueError, OSError, RuntimeError, SafetensorError) as error:
            raise BaseNotFound(f"base {path.name!r} cannot be loaded by transformers: {type(error).__name__}") from None
        if report["missing_keys"]:  # transformers would go on with random numbers
            raise BaseNotFound(f"base {path.name!r} lacks the weights {min(report['missing_keys'])}; fetch it again")
        torch.nn.Module.to(model, device).eval().requires_grad_(False)
        return cls(model, linear_names(model), _scale_of(model, path.name))

    def _hook(self, name: str) -> Any:
        def add_update(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._active is None or not self._active[0].has(name):
                return output
            adapters, segments = self._active
            flat = args[0].reshape(-1, args[0].shape[-1])
            return output + update_only(flat, name, adapters, segments, output.shape[-1]).view_as(output)

        return add_update

    @contextmanager
    def _adapted(self, adapters: Applied | None, segments: Segments) -> Iterator[None]:
        self._active = (adapters, segments) if adapters is not None else None
        try:
            yield
        finally:
            self._active = None

    @property
    def module(self) -> Any:
        """transformers' own model, for whoever trains its weights."""
        return self._model

    # -- what can be adapted ---------------------------------------------------------------------------------------

    def sites(self) -> list[Site]:
        """Every linear module inside the layers; each is a group of its own."""
        found = []
        for name in self._names:
            module = self._model.get_submodule(name)
            found.append(Site(name, name, module.in_features, module.out_features))
        return found

    def merged(self, layout: Layout, row: Tensor) -> GeneralModel:
        """A copy with one adapter added into its weights; every untouched parameter is shared."""
        matrices = layout.matrices(row)
        targets = {id(self._model.get_submodule(name).weight) for name in matrices}
        shared = {id(p): p for p in (*self._model.parameters(), *self._model.buffers()) if id(p) not in targets}
        for name in self._names:
            self._model.get_submodule(name)._forward_hooks.clear()
        twin = copy.deepcopy(self._model, shared)
        for name, (a, b) in matrices.items():
            weight = twin.get_submodule(name).weight
            update = (a.double() @ b.double()).t().to(weight.device) * layout.scale
            weight.data = (weight.data.double() + update).to(weight.dtype)
        for name in self._names:
            self._model.get_submodule(name).register_forward_hook(self._hook(name))
        return GeneralModel(twin, self._names, self._scale)

    # -- a whole batch ---------------------------------------------------------------------------------------------

    def plan(self, batch: Batch, *, prefix_once: bool = False) -> Padded:
        return padded(batch, self.head.device)

    def hidden(self, plan: Padded, adapters: Applied | None = None) -> Tensor:
        """Normed last hidden states at the asked-for positions, (M, D), such that times the head they are the logits."""
        with self._adapted(adapters, plan.segments):
            out = self._model.base_model(input_ids=plan.ids, attention_mask=plan.mask, use_cache=False)
        hidden = out.last_hidden_state.flatten(0, 1).index_select(0, plan.predict)
        hidden = torch.cat((hidden, hidden.new_ones(len(hidden), 1)), 1) if self._biased else hidden
        return hidden if self._scale == 1 else hidden * self._scale

    def to_logits(self, hidden: Tensor) -> Tensor:
        logits = self._model.get_output_embeddings()(hidden)
        return _capped(logits if self._scale == 1 else logits * self._scale, self.softcap)

    # -- token by token --------------------------------------------------------------------------------------------

    def begin(self, batch: Batch, adapters: Rows | None, room: int) -> tuple[Tensor, State]:
        from transformers import DynamicCache

        plan = padded(batch, self.head.device, left=True)
        positions = (plan.mask.cumsum(1) - 1).clamp_(min=0)
        past = DynamicCache(config=self._model.config)
        with self._adapted(adapters, plan.segments):
            out = self._model.base_model(
                input_ids=plan.ids, attention_mask=plan.mask, position_ids=positions, use_cache=True, **{self._past: past}
            )
        starts = np.cumsum(batch.lengths) - batch.lengths
        prompts = [torch.from_numpy(batch.ids[s : s + n]) for s, n in zip(starts, batch.lengths, strict=True)]
        state = State(past, plan.mask, positions[:, -1], prompts, adapters)
        return self.to_logits(out.last_hidden_state[:, -1]), state

    def advance(self, state: State, tokens: Tensor) -> Tensor:
        rows = len(tokens)
        state.mask = torch.cat((state.mask, state.mask.new_ones(rows, 1)), 1)
        state.positions = state.positions + 1
        segments = Segments.rows(torch.arange(rows, device=tokens.device), 1, identity=True)
        with self._adapted(state.adapters, segments):
            out = self._model.base_model(
                input_ids=tokens.unsqueeze(1),
                attention_mask=state.mask,
                position_ids=state.positions.unsqueeze(1),
                use_cache=True,
                **{self._past: state.past},
            )
        return self.to_logits(out.last_hidden_state[:, -1])

    def drop(self, state: State, keep: Tensor) -> None:
        state.past.batch_select_indices(keep)
        state.mask, state.positions = state.mask[keep], state.positions[keep]
        state.prompts = [state.prompts[i] for i in keep.tolist()]
        if state.adapters is not None:
            state.adapters = state.adapters.select(keep)

    def score(self, state: State, first: Tensor, forest: Forest) -> Tensor:
        """Every label as a whole sequence after every prompt, one label at a time: C passes over the prompts."""
        columns = []
        for c in range(len(forest.first)):
            mine = forest.label == c
            tokens = torch.cat((forest.first[c : c + 1], forest.next[mine])).cpu()
            columns.append(self._score_one(state, tokens))
        return torch.stack(columns, 1)

    def _score_one(self, state: State, tokens: Tensor) -> Tensor:
        rows = [torch.cat((prompt, tokens)) for prompt in state.prompts]
        n, device = len(tokens), self.head.device
        longest = max(len(row) for row in rows)
        ids = torch.stack([nn.functional.pad(row, (longest - len(row), 0)) for row in rows]).to(device)
        mask = torch.stack([nn.functional.pad(torch.ones_like(row), (longest - len(row), 0)) for row in rows]).to(device)
        segments = Segments.rows(torch.arange(len(rows), device=device), longest, identity=True)
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
        with self._adapted(state.adapters, segments):
            out = self._model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        log_p = self.to_logits(out.last_hidden_state[:, -n - 1 : -1]).float().log_softmax(-1)
        return log_p.gather(-1, tokens.to(device).view(1, n, 1).expand(len(rows), n, 1)).sum((1, 2))


def _capped(logits: Tensor, softcap: float | None) -> Tensor:
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


@torch.no_grad()
def _scale_of(model: Any, name: str) -> float:
    """What this family multiplies its logits with.

    Configs name such a constant in many ways, and do not say whether it multiplies or divides; so those that could be meant
    are held against the logits of a few tokens.

    Raises:
        BaseNotFound: with none of them do the logits become transformers' own.
    """
    config, output = model.config, model.get_output_embeddings()
    named = [float(value) for key in _SCALES if (value := getattr(config, key, None))]
    candidates = dict.fromkeys([1.0, *named, *(1 / value for value in named)])
    ids = torch.arange(1, 9, device=model.device).remainder(len(output.weight)).unsqueeze(0)
    theirs = model(input_ids=ids, use_cache=False).logits.float()
    plain = output(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    softcap = getattr(config, "final_logit_softcapping", None)
    off = {scale: float((_capped(plain * scale, softcap).float() - theirs).abs().max()) for scale in candidates}
    best = min(off, key=lambda scale: off[scale])
    if not off[best] <= _AGREES * float(theirs.abs().max()):  # and not where either is no number
        raise BaseNotFound(
            f"base {name!r} (model type {config.model_type!r}) does something of its own to its logits, which is not "
            "computed here; choose a base of another family"
        )
    return best


def linear_names(model: Any) -> list[str]:
    """Full names of all nn.Linear modules but the output head."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]


def padded(batch: Batch, device: torch.device, *, left: bool = False) -> Padded:
    """(B, T) rows of a batch."""
    rows, longest = len(batch.lengths), int(batch.lengths.max())
    starts = np.cumsum(batch.lengths) - batch.lengths
    row = np.repeat(np.arange(rows), batch.lengths)
    within = np.arange(batch.n_tokens) - np.repeat(starts, batch.lengths)
    column = within + np.repeat(longest - batch.lengths, batch.lengths) if left else within
    flat = row * longest + column
    ids, mask = np.zeros(rows * longest, dtype=np.int64), np.zeros(rows * longest, dtype=np.int64)
    ids[flat], mask[flat] = batch.ids, 1
    place = np.zeros(rows * longest, dtype=np.int64)
    place[flat] = np.repeat(batch.offset, batch.lengths) + within
    segments = Segments.rows(torch.from_numpy(batch.owner).to(device), longest, identity=False)
    to = lambda array: torch.from_numpy(array).to(device)  # noqa: E731
    return Padded(
        to(ids.reshape(rows, longest)),
        to(mask.reshape(rows, longest)),
        replace(segments, place=to(place)),
        to(flat[batch.predict]),
    )
