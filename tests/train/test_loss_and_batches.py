"""The loss without all its logits, and batches without padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from idiolect.data.batch import Row, pack, pack_prompts, shared_prefix
from idiolect.train import loss as loss_module
from idiolect.train.loss import answer_loss
from idiolect.types import Rendered


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("chunk", [3, 1024])
def test_loss_and_gradient_are_those_of_cross_entropy(monkeypatch, softcap, chunk):
    monkeypatch.setattr(loss_module, "CHUNK", chunk)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    head = torch.randn(30, 8, generator=draw, dtype=torch.float64)
    targets = torch.randint(0, 30, (11,), generator=draw)
    weights = torch.rand(11, generator=draw, dtype=torch.float64)
    logits = hidden @ head.T
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    each = F.cross_entropy(logits, targets, reduction="none")
    (each * weights).sum().backward()
    losses, gradient = answer_loss(hidden.detach(), head, targets, weights, softcap)
    torch.testing.assert_close(losses, each.detach(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradient, hidden.grad, atol=1e-12, rtol=1e-10)


def test_half_precision_losses_are_summed_in_float32():
    hidden, head = torch.randn(4, 8).bfloat16(), torch.randn(30, 8).bfloat16()
    losses, gradient = answer_loss(hidden, head, torch.zeros(4, dtype=torch.long), torch.ones(4))
    assert (losses.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)


@st.composite
def rows(draw):
    """Rows of several people, sorted by owner, as the trainer makes them."""
    found = []
    for owner in sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4))):
        offset = 0
        for i in range(draw(st.integers(1, 4))):
            n_prompt, n_answer = draw(st.integers(1, 8)), draw(st.integers(1, 5))
            ids = tuple(draw(st.lists(st.integers(0, 3), min_size=n_prompt + n_answer, max_size=n_prompt + n_answer)))
            found.append(Row(owner, offset, draw(st.floats(0.01, 1)), Rendered(f"{owner}-{i}", ids, n_prompt)))
            offset += len(ids)
    return found


@given(rows())
def test_a_batch_holds_every_token_and_asks_for_the_answers(given_rows):
    batch = pack(given_rows)
    starts = np.cumsum(batch.lengths) - batch.lengths
    assert batch.n_tokens == sum(len(r.example.ids) for r in given_rows)
    asked = 0
    for i, row in enumerate(given_rows):
        example, start = row.example, int(starts[i])
        assert batch.ids[start : start + len(example.ids)].tolist() == list(example.ids)
        assert (batch.owner[i], batch.offset[i], batch.lengths[i]) == (row.owner, row.offset, len(example.ids))
        mine = slice(asked, asked + example.n_answer)
        assert batch.targets[mine].tolist() == list(example.ids[example.n_prompt :])
        assert batch.predict[mine].tolist() == [start + t for t in range(example.n_prompt - 1, len(example.ids) - 1)]
        assert (batch.weights[mine] == row.weight).all()
        asked += example.n_answer
    assert asked == len(batch.targets) == len(batch.predict) == len(batch.weights)


@given(rows())
def test_the_shared_prefix_is_the_longest(given_rows):
    examples, owner = [r.example for r in given_rows], np.array([r.owner for r in given_rows])
    found = shared_prefix(examples, owner)
    for u in set(owner.tolist()):
        prompts = [e.ids[: e.n_prompt] for e, o in zip(examples, owner, strict=True) if o == u]
        n = set(found[owner == u].tolist())
        assert len(n) == 1
        n = n.pop()
        assert len({p[:n] for p in prompts}) == 1
        assert n == min(map(len, prompts)) or len({p[: n + 1] for p in prompts}) > 1


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=6))
def test_prompts_are_packed_whole(prompts):
    batch = pack_prompts(prompts)
    assert batch.ids.tolist() == [t for p in prompts for t in p]
    assert batch.owner.tolist() == list(range(len(prompts)))
    assert batch.ids[batch.predict].tolist() == [p[-1] for p in prompts]
