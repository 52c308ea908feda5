"""Both ways of computing a base agree with transformers, and with each other."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idiolect.data.batch import Row, pack, pack_prompts
from idiolect.model.decoder import Decoder, Forest, _threads_for, cut_bins
from idiolect.model.general import GeneralModel
from idiolect.model.lora import Adapters
from idiolect.train.slots import Slots, Subject
from idiolect.types import Rendered

LEAN = ("llama", "llama-untied", "llama-one-key", "llama-rope3", "llama-wide", "mistral", "qwen2", "qwen3")
GENERAL = ("gemma", "gemma2", "gpt-neox", "phi", "llama-biased", "qwen3-biased", "granite", "cohere")
TARGETS = {"gpt-neox": ("query_key_value", "dense"), "phi": ("q_proj", "fc1")}


def sentences(lengths, seed=0, low=5, high=320):
    draw = np.random.default_rng(seed)
    return [draw.integers(low, high, n).tolist() for n in lengths]


def all_hidden(model, rows, adapters=None, answers=1):
    """Hidden states that predict the last tokens of every row, and the head that makes them logits."""
    examples = [Rendered(str(i), tuple(ids), len(ids) - answers) for i, ids in enumerate(rows)]
    batch = pack([Row(i, 0, 1.0, e) for i, e in enumerate(examples)])
    return model.hidden(model.plan(batch), adapters)


def to_logits(model, hidden):
    logits = hidden @ model.head.T
    return logits if model.softcap is None else model.softcap * torch.tanh(logits / model.softcap)


def their_logits(reference, ids, answers=1):
    with torch.no_grad():
        return reference(torch.tensor([ids])).logits[0, -answers - 1 : -1]


@pytest.mark.parametrize("family", LEAN)
def test_lean_families_take_the_lean_path(load, family):
    assert isinstance(load(family).model, Decoder)


@pytest.mark.parametrize("family", GENERAL)
def test_other_families_take_the_general_path(load, family):
    assert isinstance(load(family).model, GeneralModel)


@pytest.mark.parametrize("family", LEAN + GENERAL)
def test_logits_are_transformers_logits(load, reference, family):
    rows = sentences([3, 40, 7, 41, 90, 8, 12, 40])
    model, theirs = load(family).model, reference(family)
    with torch.no_grad():
        mine = to_logits(model, all_hidden(model, rows, answers=2))
    expected = torch.cat([their_logits(theirs, ids, answers=2) for ids in rows])
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_logits_of_a_base_with_real_weights(stories):
    from transformers import AutoModelForCausalLM

    from idiolect.model.base import load_base

    base = load_base(stories, device="cpu", dtype="float32")
    theirs = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32).eval()
    ids = [base.tokenizer.bos_id, *base.tokenizer.encode("Once upon a time there was a little girl who")]
    with torch.no_grad():
        mine = to_logits(base.model, all_hidden(base.model, [ids], answers=4))
    torch.testing.assert_close(mine, their_logits(theirs, ids, answers=4), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_lean_and_general_hidden_and_gradients_agree(load, random_row, family):
    from idiolect.config import TrainConfig

    rows = sentences([5, 30, 12, 31, 9, 33])
    kinds = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    config = TrainConfig.build(rank=3, targets=kinds, slots=3)
    found = {}
    for lean in (True, False):
        base = load(family, dtype="float64", lean=lean)
        layout = base.layout(3, 6.0, kinds)
        slots = Slots(Subject(layout), config, 3, base.device, base.dtype)
        by_name = load(family, dtype="float64", lean=True).layout(3, 6.0, kinds)
        for s in range(3):
            matrices = by_name.matrices(random_row(by_name, seed=s))
            slots.admit(s, layout.row_of(matrices), 1)
        examples = [Rendered(str(i), tuple(ids), len(ids) - 2) for i, ids in enumerate(rows)]
        batch = pack([Row(i // 2, 0, 1.0, e) for i, e in enumerate(examples)])
        hidden = base.model.hidden(base.model.plan(batch), slots.adapters([0] * 3))
        hidden.backward(torch.sin(torch.arange(hidden.numel(), dtype=torch.float64)).view_as(hidden))
        grads = [layout.matrices(slots.gradient[s]) for s in range(3)]
        found[lean] = hidden.detach(), grads
    # transformers takes norms in float32 whatever the base is in, so float64 shows no more digits than these.
    torch.testing.assert_close(found[True][0], found[False][0], atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(found[True][1], found[False][1], strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            for a, b in zip(mine[name], theirs[name], strict=True):
                assert a.abs().max() > 0
                torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt-neox", "phi", "granite", "cohere"])
def test_token_by_token_equals_the_whole_stream(load, family):
    model = load(family).model
    prompts = sentences([6, 19, 11])
    more = torch.tensor(sentences([4, 4, 4], seed=1))
    with torch.inference_mode():
        logits, state = model.begin(pack_prompts(prompts), None, 4)
        steps = [logits] + [model.advance(state, more[:, t]) for t in range(3)]
        for row, prompt in enumerate(prompts):
            whole = to_logits(model, all_hidden(model, [prompt + more[row].tolist()], answers=4))
            mine = torch.stack([step[row] for step in steps])
            torch.testing.assert_close(mine, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt-neox"])
def test_rows_that_stay_do_not_notice_that_others_leave(load, random_row, family):
    model, targets = load(family).model, TARGETS.get(family, ("q_proj", "v_proj"))
    layout = load(family).layout(2, 4.0, targets)
    rows = torch.stack([random_row(layout, seed=s) for s in range(3)])
    from idiolect.model.adapter import Stack

    adapters = Adapters(Stack(layout, rows), torch.full((3,), layout.scale))
    prompts = sentences([6, 19, 11])
    tokens = torch.tensor([7, 8, 9])
    with torch.inference_mode():
        _, state = model.begin(pack_prompts(prompts), adapters, 3)
        model.advance(state, tokens)
        _, other = model.begin(pack_prompts(prompts), adapters, 3)
        model.advance(other, tokens)
        model.drop(other, torch.tensor([0, 2]))
        stayed = model.advance(state, tokens)[[0, 2]]
        torch.testing.assert_close(model.advance(other, tokens[[0, 2]]), stayed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt-neox", "granite", "cohere"])
def test_label_scores_are_sums_of_log_probabilities(load, reference, family):
    model, theirs = load(family).model, reference(family)
    prompts = sentences([6, 19, 11])
    labels = [[40, 41, 4], [40, 4], [40, 41, 42, 43, 4], [77, 4], [4]]
    with torch.inference_mode():
        forest = Forest.of(labels, torch.device("cpu"))
        logits, state = model.begin(pack_prompts(prompts), None, len(forest.ids))
        mine = model.score(state, logits, forest)
    for i, prompt in enumerate(prompts):
        for j, label in enumerate(labels):
            log_p = their_logits(theirs, prompt + label, answers=len(label)).log_softmax(-1)
            expected = log_p[torch.arange(len(label)), torch.tensor(label)].sum()
            assert mine[i, j].item() == pytest.approx(expected.item(), abs=2e-4)


def test_answers_may_reach_the_end_of_the_context(load):
    """A row that is done may stand in the batch for a while; its place must not run past the rotary table."""
    from idiolect.engine.local import Engine, Request

    base = load("llama")
    requests = [Request(str(i), [7] * 10, None, 30) for i in range(5)] + [Request("long", [7] * 511, None, 1)]
    done = Engine(base).generate(requests, ignore_eos=True)
    assert [c.n_answer for c in done] == [30] * 5 + [1]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([3, 4, 20, 21, 60])), min_size=1, max_size=4), st.booleans())
def test_rows_together_are_rows_alone(load, groups, by_length):
    """Whatever the mixture of lengths: bins that need no padding, and bins that do."""
    model = load("llama", dtype="float64").model
    lengths = [n for times, n in (sorted(groups, key=lambda g: g[1]) if by_length else groups) for _ in range(times)]
    rows = sentences(lengths)
    torch.testing.assert_close(all_hidden(model, rows), torch.cat([all_hidden(model, [ids]) for ids in rows]))


def test_full_bins_one_after_another(load):
    model = load("llama", dtype="float64").model
    rows = sentences([10] * 5 + [40] * 5)
    plan = model.plan(pack_prompts(rows))
    assert (plan.there, len(plan.bins)) == (None, 2)
    torch.testing.assert_close(all_hidden(model, rows), torch.cat([all_hidden(model, [ids]) for ids in rows]))


def test_bins_waste_little():
    lengths = np.sort(np.random.default_rng(0).integers(3, 400, 200))
    bins = cut_bins(lengths)
    assert [i for b in bins for i in range(b.start, b.stop)] == list(range(200))
    padded = sum((b.stop - b.start) * int(lengths[b.stop - 1]) for b in bins)
    assert padded <= 1.2 * lengths.sum()


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
def test_the_base_gets_no_gradient(load, family):
    base = load(family)
    hidden = all_hidden(base.model, sentences([9]))
    assert not hidden.requires_grad
    assert not base.model.head.requires_grad


def test_a_window_shorter_than_the_positions_is_the_context(base_folder, tmp_path):
    import json
    import shutil

    from idiolect.model.base import load_base

    folder = tmp_path / "windowed"
    shutil.copytree(base_folder("mistral"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sliding_window": 48}))
    assert load_base(folder, device="cpu").context == 48


def test_softcap_is_part_of_the_general_path(load):
    assert load("gemma2").model.softcap == 5.0
    assert load("gemma").model.softcap is None


def test_a_name_that_multiplies_in_one_family_and_divides_in_another(load, reference):
    """Granite divides by `logits_scaling`, HyperCLOVAX multiplies with it."""
    import transformers

    if not hasattr(transformers, "HyperCLOVAXConfig"):
        pytest.skip("this transformers does not know HyperCLOVAX")
    rows = sentences([3, 40])
    with torch.no_grad():
        mine = to_logits(load("hyperclovax").model, all_hidden(load("hyperclovax").model, rows))
    expected = torch.cat([their_logits(reference("hyperclovax"), ids) for ids in rows])
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_finds_the_same_scale(load):
    assert load("granite", dtype="bfloat16").model._scale == load("granite").model._scale == 0.5
    assert load("cohere", dtype="bfloat16").model._scale == load("cohere").model._scale == 0.3


def test_a_family_with_a_head_of_its_own_is_refused(base_folder):
    """BERT's head has a layer more, which times the output embedding alone would leave out."""
    from idiolect.errors import BaseNotFound
    from idiolect.model.base import load_base

    with pytest.raises(BaseNotFound, match=r"\(model type 'bert'\) does something of its own to its logits"):
        load_base(base_folder("bert"), device="cpu")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("first_out", [0, 1])
def test_small_steps_in_two_threads_leave_the_number_of_threads_as_it_was(three_threads, first_out):
    """The second thread is new, and begins while torch is set to one thread for the first one's step."""
    turns, seen = [threading.Semaphore(0) for _ in range(2)], {}
    done = threading.Semaphore(0)

    def work(name):
        with ExitStack() as stack:
            turns[name].acquire()
            stack.enter_context(_threads_for(1, torch.device("cpu")))
            inside = torch.get_num_threads()
            done.release()
            turns[name].acquire()
        seen[name] = (inside, torch.get_num_threads())
        done.release()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for name in (0, 1, first_out, 1 - first_out):
        turns[name].release()
        assert done.acquire(timeout=20)
    for thread in threads:
        thread.join(timeout=20)
    assert seen == {0: (1, 3), 1: (1, 3)}
    fresh = []
    newest = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    newest.start()
    newest.join()
    assert (fresh, torch.get_num_threads()) == ([3], 3)


def test_a_step_that_fails_gives_the_threads_back(three_threads):
    with pytest.raises(ValueError, match="broken"), _threads_for(1, torch.device("cpu")):
        raise ValueError("broken")
    assert torch.get_num_threads() == 3
