"""All of a base's weights, trained where they stand, and put back afterwards: one model is in memory, never a second.

    files ──▶ the base's own modules, float32, with gradients ──▶ θ ──▶ θ_o + weight · (θ - θ_o) ──▶ files of a new base
      └──────────────────────── θ_o, read again, tensor by tensor ───────────────┘

θ_o is not kept: the base's files are there. Every weight of the model must be found in them by its name and with its shape, or
nothing is begun; a part that was left out would pass for unlearned. Tied weights are one parameter under two names.

Source: Liu et al. 2024 (SKU), arXiv:2402.10058, knowledge negation; Ilharco et al. 2022, arXiv:2212.04089.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import Parameter

from idiolect.errors import BaseMismatch, ConfigError, FileFormatError, MismatchError, ShapeError
from idiolect.model.base import Base
from idiolect.model.general import GeneralModel
from idiolect.unlearn.negate import new_base, write_changed


@dataclass(frozen=True)
class Weights:
    """A base's weights while they may be changed.

    Attributes:
        named: every name in the base's files → the parameter; the same one twice where weights are tied.
    """

    base: Base
    model: GeneralModel
    named: Mapping[str, Parameter]

    @property
    def each(self) -> list[Parameter]:
        """Every parameter once."""
        return list({id(p): p for p in self.named.values()}.values())

    def head(self) -> Tensor:
        """The output embedding as it is now, (V, D), in the form that `hidden` is made for."""
        output = self.model.module.get_output_embeddings()
        return output.weight if output.bias is None else torch.cat((output.weight, output.bias.unsqueeze(1)), 1)

    def write(self, weight: float, folder: Path) -> None:
        """θ_o + weight · (θ - θ_o) as a base of its own, whole or not at all.

        Raises:
            FileFormatError: the folder is there already, or cannot be written.
            ConfigError: a number of the result is not finite in the base's own format.
        """

        def change(key: str, frozen: Tensor) -> Tensor:
            return moved(key, frozen, self.named[key].detach().cpu(), weight) if key in self.named else frozen

        with new_base(self.base, folder) as staged:
            for file in sorted(self.base.path.glob("*.safetensors")):
                write_changed(file, staged / file.name, change)


def moved(key: str, frozen: Tensor, trained: Tensor, weight: float) -> Tensor:
    """θ_o + weight · (θ - θ_o) in θ_o's dtype: summed in float64, rounded once. 0 is θ_o bit for bit, and 1 is θ.

    Raises:
        ConfigError: what comes out is not finite.
    """
    if weight == 0:
        return frozen
    wide = trained if weight == 1 else frozen.double() + weight * (trained.double() - frozen.double())
    result = wide.to(frozen.dtype).contiguous()
    if not bool(result.isfinite().all()):
        raise ConfigError(f"{key}: the result has numbers that are not finite; choose a smaller --lr or --strength")
    return result


@contextmanager
def opened(base: Base) -> Iterator[Weights]:
    """The base's modules with every floating-point parameter in float32 at least, ready for gradients; then as they were.

    Raises:
        ConfigError: the base is not computed by transformers' own modules.
        BaseMismatch: a task adapter is merged in, which the files do not have.
        MismatchError, ShapeError: the base's files do not have the model's weights, by name and shape.
    """
    if not isinstance(base.model, GeneralModel):
        raise ConfigError("all weights are trained in transformers' own modules; load the base with lean=False")
    if base.task_adapter is not None:
        raise BaseMismatch(f"task adapter {base.task_adapter[:12]} is merged in here; load the bare base {base.name!r}")
    weights = Weights(base, base.model, _places(base, base.model))
    before = {id(p): p.dtype for p in weights.each}
    try:
        _read(weights, {key: torch.promote_types(kind, torch.float32) for key, kind in before.items()})
        for parameter in weights.each:
            parameter.requires_grad_(True)
        yield weights
    finally:
        for parameter in weights.each:
            parameter.requires_grad_(False)
            parameter.grad = None
        _read(weights, before)


@torch.no_grad()
def _read(weights: Weights, kinds: Mapping[int, torch.dtype]) -> None:
    """Every parameter from the files, one tensor at a time; a tied one by the first of its names."""
    first: dict[int, str] = {}
    for key, parameter in weights.named.items():
        first.setdefault(id(parameter), key)
    for file in sorted(weights.base.path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as held:
            for key in held.keys():  # noqa: SIM118
                parameter = weights.named.get(key)
                if parameter is None or first[id(parameter)] != key:
                    continue
                kind = kinds[id(parameter)]
                if parameter.dtype != kind:
                    parameter.data = torch.empty_like(parameter.data, dtype=kind)
                parameter.copy_(held.get_tensor(key))


def _places(base: Base, model: GeneralModel) -> dict[str, Parameter]:
    """Every name of a parameter in the base's files, in the model's order."""
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(base.path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as held:
                for key in held.keys():  # noqa: SIM118
                    files[key], shapes[key] = file, tuple(held.get_slice(key).get_shape())
        except SafetensorError as error:
            raise FileFormatError(f"base weights {file.name} cannot be read: {str(error)[:120]}") from None
    known: dict[str, Parameter] = dict(model.module.named_parameters(remove_duplicate=False))
    # Old files hold tables, such as rotary frequencies, that are computed now.
    computed = {name.rpartition(".")[2] for name, _ in model.module.named_buffers()}
    spare = {key: files[key] for key in shapes if key not in known and key.rpartition(".")[2] not in computed}
    named = {name: p for name, p in known.items() if name in shapes}
    there = {id(p) for p in named.values()}
    for name, parameter in known.items():
        if id(parameter) not in there:
            named[_renamed(name, parameter, spare)] = parameter
            there.add(id(parameter))
    if spare:
        raise MismatchError(
            f"{len(spare)} tensors in the base's files are none of the model's (the first: {next(iter(spare))!r}); "
            "save the base again with transformers' save_pretrained"
        )
    for key, parameter in named.items():
        if shapes[key] != tuple(parameter.shape):
            raise ShapeError(f"{key}: {shapes[key]} in the base's files, {tuple(parameter.shape)} in the model")
        if not parameter.is_floating_point():
            raise MismatchError(f"{key}: {parameter.dtype} weights cannot be trained; unquantise them first")
    return named


def _renamed(name: str, parameter: Parameter, spare: dict[str, Path]) -> str:
    """What the files call a parameter that transformers renames on loading (GPT-NeoX's head): the tensor that it is.

    Taken off `spare`. Where several are equal, as norms of ones are, the one whose name ends alike.
    """

    def alike(key: str) -> int:
        pairs = zip(reversed(name.split(".")), reversed(key.split(".")), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    for key in sorted(spare, key=alike, reverse=True):
        with safe_open(spare[key], framework="pt") as held:
            if tuple(held.get_slice(key).get_shape()) != tuple(parameter.shape):
                continue
            if torch.equal(held.get_tensor(key).to(parameter.dtype), parameter.detach().cpu()):
                del spare[key]
                return key
    raise MismatchError(
        f"the model's weight {name!r} is not in the base's files; save the base again with transformers' save_pretrained"
    )
