"""A base with its linear weights rounded to few bits and back: what weight-only quantisation does to a model.

    scale[o] = max over inputs of |W[:, o]| / (2^(bits-1) - 1),   W'[i, o] = scale[o] · round(W[i, o] / scale[o])

An update that is small beside the steps of the grid can be rounded away, and what was unlearned with it returns
(Zhang et al. 2024, arXiv:2410.16454). Embedding and output head stay as they are, as loaders of 8-bit models leave them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from idiolect.errors import ConfigError
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.model.decoder import Decoder
from idiolect.model.general import GeneralModel

_SCALE_BITS = 16


def quantised(base: Base, bits: int = 8) -> Base:
    """This base with every linear weight of its layers rounded. The base itself stays as it is.

    Raises:
        ConfigError: bits other than 2 to 8, or a model of an unknown kind.
    """
    if not 2 <= bits <= 8:
        raise ConfigError(f"weights of {bits} bits are not known here; choose 2 to 8")
    if isinstance(base.model, Decoder):
        return replace(base, model=_lean(base.model, bits))
    if isinstance(base.model, GeneralModel):
        return replace(base, model=_general(base.model, bits))
    raise ConfigError(f"base {base.name!r}: a {type(base.model).__name__} cannot be quantised here")


def rounded(weight: Tensor, bits: int, dim: int) -> Tensor:
    """The weight on the grid of its output channels. dim: that of the inputs. Rounding twice is rounding once."""
    most = 2 ** (bits - 1) - 1
    wide = weight.double()
    # The scale keeps few digits, so that its multiples are exact in float32, and the grid of a rounded weight is its own.
    digits, exponent = torch.frexp(wide.abs().amax(dim, keepdim=True) / most)
    scale = torch.ldexp(torch.ceil(digits * 2**_SCALE_BITS) / 2**_SCALE_BITS, exponent)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (torch.round(wide / scale).clamp_(-most, most) * scale).to(weight.dtype)


def _lean(model: Decoder, bits: int) -> Decoder:
    """Weights are (D, O) there, several modules side by side; a channel is a column whichever module it is of."""
    names = ("qkv", "o", "gate_up", "down")
    layers = tuple(replace(layer, **{name: rounded(getattr(layer, name), bits, 0) for name in names}) for layer in model.layers)
    return Decoder(model.shape, model.embedding, layers, model.norm, model.head, model.cos, model.sin)


def _general(model: GeneralModel, bits: int) -> GeneralModel:
    """Merging an adapter of zeros into every linear module gives a copy with weights of its own: (O, D) there."""
    kinds = tuple(dict.fromkeys(site.kind for site in model.sites()))
    layout = Layout.of(model.sites(), 1, 1.0, kinds)
    twin = model.merged(layout, torch.zeros(layout.size))
    for site in twin.sites():
        weight = twin._model.get_submodule(site.name).weight
        weight.data = rounded(weight.data, bits, 1)
    return twin
