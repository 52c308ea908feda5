"""Unlearning in all weights: the same losses as with adapters, exact steps, and arithmetic that loses nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from idiolect.data.pairs import Pair
from idiolect.errors import BaseMismatch, ConfigError, EmptyHistory, FileFormatError, MismatchError, ShapeError
from idiolect.model.base import load_base
from idiolect.types import Rendered
from idiolect.unlearn.acquire import acquire
from idiolect.unlearn.config import METHODS, unlearning
from idiolect.unlearn.full import Loop, trained, unlearn_weights
from idiolect.unlearn.material import Entry, Material
from idiolect.unlearn.methods import Schedule
from idiolect.unlearn.weights import moved, opened

FAMILIES = ["llama", "llama-untied", "gemma2", "gpt-neox", "phi", "granite"]


def entries(n, seed, name="f"):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        prompt, answer = draw.integers(5, 320, int(draw.integers(4, 12))), draw.integers(5, 320, int(draw.integers(2, 6)))
        example = Rendered(f"{name}{i}", (*prompt.tolist(), *answer.tolist(), 4), len(prompt))
        found.append(Entry(example, f"question {name}{i}", f"answer {name}{i}"))
    return tuple(found)


PAIRS = [Pair(f"p{i}", f"Who votes in town {i}?", f"senator {i} of Leeds") for i in range(5)]
KEPT = [Pair(f"k{i}", f"Which cake is {i}?", f"a lemon cake {i}") for i in range(5)]


@pytest.fixture(scope="module")
def material():
    return Material(entries(7, 1), entries(9, 2, "n"))


@pytest.fixture(scope="module")
def general(load):
    return lambda family="llama", dtype="float64": load(family, dtype=dtype, lean=False)


def small(method="sku", **given):
    return unlearning(method, **({"rank": 3, "alpha": 6.0, "steps": 3, "batch_size": 3, "rd_k": 2, "seed": 1} | given))


def state(base):
    return {name: p.detach().clone() for name, p in base.model.module.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------------- the same losses


@pytest.mark.parametrize("method", METHODS)
def test_first_losses_are_those_of_the_adapters_loop(general, material, method):
    base, config = general(), small(method, retain_loss="kl", steps=1)
    (adapter,) = acquire(base, material, [config])
    with trained(base, material, config) as done:
        log = done.log
    assert list(log[0].losses) == list(adapter.log[0].losses)
    for name, loss in adapter.log[0].losses.items():
        assert log[0].losses[name] == pytest.approx(loss, rel=1e-9, abs=1e-10), name


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_every_family_are_those_of_the_adapters_loop(general, material, family):
    base, config = general(family), small(steps=1)
    (adapter,) = acquire(base, material, [config])
    with trained(base, material, config) as done:
        log = done.log
    assert log[0].losses == pytest.approx(adapter.log[0].losses, rel=1e-7, abs=1e-9)


def test_gradient_of_a_matrix_is_what_an_adapters_comes_from(general, material):
    """dL/dB = scale · (dL/dW A)ᵀ at B = 0: both loops differentiate the same loss."""
    base, config = general(), small("task-vector", steps=1, targets=("down_proj",))
    layout = base.layout(config.rank, config.alpha, ("down_proj",))
    start = layout.matrices(layout.init_row(config.seed, "", torch.float64))
    (adapter,) = acquire(base, material, [config])
    with opened(base) as weights:
        at, total = Loop(weights, Schedule(config.but(targets=None), material, 512)).graded(0)
        of = {id(p): gradient for p, gradient in zip(weights.each, total, strict=True)}
        parts = [layout.scale * (of[id(weights.named[f"{name}.weight"])] @ a) for name, (a, _) in start.items()]
    norm = math.sqrt(sum(float(part.square().sum()) for part in parts))
    assert adapter.log[0].norms["gd"] == pytest.approx(norm, rel=1e-9)
    assert at.norms["gd"] > norm / 100


@pytest.mark.parametrize(("family", "rel"), [("llama", 3e-3), ("llama-untied", 3e-3), ("gemma2", 3e-3), ("phi", 1e-6)])
@pytest.mark.parametrize("method", ["sku", "ga-mismatch", "npo", "simnpo"])
def test_gradient_is_the_slope_of_the_loss(general, material, family, rel, method):
    """Along a direction through every parameter, the head included, away from the frozen model.

    Phi's is exact; the others' norms are computed in float32 whatever the base is in, and so are differences of losses.
    """
    base, config = general(family), small(method, beta=0.05 if "npo" in method else None, retain_loss="kl", token_budget=40)
    with opened(base) as weights:
        loop = Loop(weights, Schedule(config, material, 512))
        draw = torch.Generator().manual_seed(0)
        move(weights, noise(weights, draw, 0.02), 1.0)
        _, gradient = loop.graded(0)
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
        n = sum(g.numel() for g in gradient)
        # Half along the gradient, so that the slope stands out of the rounding; half wherever chance says.
        shift = [g / norm + d for g, d in zip(gradient, noise(weights, draw, n**-0.5), strict=True)]
        slope = sum(float((g * d).sum()) for g, d in zip(gradient, shift, strict=True))
        ends = []
        for way in (1e-4, -2e-4):
            move(weights, shift, way)
            ends.append(loss_of(loop, config))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=rel)


def noise(weights, draw, size):
    return [torch.randn(p.shape, generator=draw, dtype=p.dtype) * size for p in weights.each]


def move(weights, shift, way):
    with torch.no_grad():
        for p, d in zip(weights.each, shift, strict=True):
            p.add_(d, alpha=way)


def loss_of(loop, config):
    """The step's loss: terms times their weights; divergence counts against where it is raised."""
    at, _ = loop.graded(0)
    assert at.losses.get("pd", 0) < config.pd_cap
    return sum(t.weight * at.losses[t.name] * (-1 if t.kind == "away" else 1) for t in loop.schedule.terms(0))


def test_passes_of_any_size_give_the_same(general, material):
    base, ends = general(), []
    for budget in (10_000, 24):
        with trained(base, material, small(token_budget=budget)):
            ends.append(state(base))
    assert all(torch.allclose(ends[0][name], ends[1][name], rtol=0, atol=1e-9) for name in ends[0])


def test_memory_that_runs_out_halves_the_pass_and_changes_nothing(general, material, monkeypatch):
    base = general()
    with trained(base, material, small()):
        whole = state(base)
    plain = Loop._chunk

    def tight(self, rows, term):
        if len(rows) > 2:
            raise RuntimeError("not enough memory")
        return plain(self, rows, term)

    monkeypatch.setattr(Loop, "_chunk", tight)
    with trained(base, material, small()):
        parts = state(base)
    assert all(torch.allclose(whole[name], parts[name], rtol=0, atol=1e-9) for name in whole)


def test_divergence_does_nothing_at_first_and_is_logged_with_its_angle(general, material):
    with trained(general(), material, small(steps=2)) as done:
        first, second = done.log
    assert first.norms["pd"] < 1e-9 < second.norms["pd"]
    assert first.losses["pd"] < 1e-12 < second.losses["pd"]
    assert list(second.losses) == ["gd", "rd", "pd"]
    assert -1 <= second.cosine <= 1


# ---------------------------------------------------------------------------------------------------- exact steps


@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_as_many_as_asked_for(general, material, steps):
    told = []
    with trained(general(), material, small(steps=steps), told.append) as done:
        assert (done.steps, len(done.log), done.stopped_at) == (steps, steps, None)
    assert [at.step for at in told] == list(range(1, steps + 1))


def test_one_plain_step_is_that_of_torchs_adamw(general, material):
    """Cross-entropy on unpadded rows, one by one, by transformers' own forward pass."""
    from transformers import AutoModelForCausalLM

    base, config = general("llama-untied"), small("task-vector", steps=1)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float64).eval()
    (term,) = Schedule(config, material, 512).terms(0)
    for row in term.rows:
        logits = model(torch.tensor([row.ids])).logits[0, row.n_prompt - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.n_prompt :]))
        (loss * config.gd_weight / len(term.rows)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0).step()
    before = state(base)
    with trained(base, material, config):
        for name, p in model.named_parameters():
            assert torch.allclose(base.model.module.get_parameter(name), p, rtol=0, atol=1e-7), name
            assert not torch.equal(before[name], p) or not p.grad.abs().max()


# ------------------------------------------------------------------------------------------- one model, put back


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("llama-untied", "bfloat16"), ("phi", "bfloat16")])
def test_base_comes_back_bit_for_bit(general, material, family, dtype):
    base = general(family, dtype)
    before, head = state(base), base.model.head.clone()
    with trained(base, material, small()) as done:
        assert {p.dtype for p in done.weights.each} == {torch.float32}
        assert not same(before, state(base))
    assert same(before, state(base))
    assert torch.equal(base.model.head, head)
    assert base.model.head.dtype == base.dtype
    assert not any(p.requires_grad or p.grad is not None for p in base.model.module.parameters())


def test_base_comes_back_from_an_interruption(general, material):
    base = general("llama", "float32")
    before = state(base)

    def cut(told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), trained(base, material, small(), cut):
        pytest.fail("the run went on")
    assert same(before, state(base))


# ------------------------------------------------------------------------------------------------------- negation


def test_nothing_subtracted_is_the_base_bit_for_bit_and_minus_one_is_what_was_acquired():
    draw = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        frozen = torch.randn(64, generator=draw).to(dtype)
        trained_ = frozen.float() + torch.randn(64, generator=draw) * 1e-3
        assert moved("w", frozen, trained_, -0.0) is frozen
        assert torch.equal(moved("w", frozen, trained_, 1.0), trained_.to(dtype))
        assert torch.equal(moved("w", frozen, trained_, -1.0), (2 * frozen.double() - trained_.double()).to(dtype))


def test_a_small_change_is_summed_before_it_is_rounded():
    frozen, near = torch.ones(3, dtype=torch.bfloat16), torch.full((3,), 1.002)
    # 0.002 is lost in bfloat16's steps of 0.0078 around one; three times as much is not.
    assert torch.equal(moved("w", frozen, near, 1.0), frozen)
    assert float(moved("w", frozen, near, 3.0)[0]) == pytest.approx(1.0078125)


def test_a_result_beyond_the_bases_format_is_refused():
    with pytest.raises(ConfigError, match="not finite"):
        moved("w", torch.ones(2, dtype=torch.float16), torch.full((2,), 1e6), 1.0)


@pytest.mark.parametrize("family", ["llama", "llama-untied", "gpt-neox", "gemma"])
@pytest.mark.parametrize("strength", [0.0, -1.0, 0.5])
def test_written_weights_are_what_negation_says(general, material, family, strength, tmp_path):
    base = general(family, "float32")
    files = {file.name: file.read_bytes() for file in base.path.iterdir()}
    with trained(base, material, small()) as done:
        bad = {name: p.detach().clone() for name, p in done.weights.named.items()}
        done.weights.write(-strength, tmp_path / "new")
    written, before = load_file(tmp_path / "new" / "model.safetensors"), load_file(base.path / "model.safetensors")
    assert written.keys() == before.keys()
    assert any(not torch.equal(bad[name], before[name]) for name in before)
    for name, frozen in before.items():
        expected = {0.0: frozen, -1.0: bad[name]}.get(strength, frozen - 0.5 * (bad[name] - frozen))
        exact = strength in (0.0, -1.0)
        assert torch.equal(written[name], expected) if exact else torch.allclose(written[name], expected, rtol=0, atol=1e-7)
    assert {file.name: file.read_bytes() for file in base.path.iterdir()} == files
    again = load_base(tmp_path / "new", device="cpu", dtype="float32", lean=False)
    output, embedded = again.model.module.get_output_embeddings(), again.model.module.get_input_embeddings()
    assert (output.weight is embedded.weight) == base.model.module.config.tie_word_embeddings
    assert (again.fingerprint == base.fingerprint) == (strength == 0.0)


def test_every_weight_moves_the_tied_embedding_once(general, material):
    for family in ("llama", "llama-untied"):
        base = general(family, "float32")
        with trained(base, material, small()) as done:
            each = done.weights.each
            assert sum(p.numel() for p in each) == sum(p.numel() for p in base.model.module.parameters())
            assert len(done.weights.named) == len(load_file(base.path / "model.safetensors"))


# -------------------------------------------------------------------------------------- files that do not fit


def copied(base, folder, change):
    folder.mkdir()
    for file in base.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return replace(base, path=folder)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.pop("model.layers.1.mlp.down_proj.weight"), MismatchError, "down_proj"),
        (lambda t: t.update(strange=torch.ones(2)), MismatchError, "strange"),
        (lambda t: t.update({"model.norm.weight": torch.ones(5)}), ShapeError, "norm"),
    ],
)
def test_files_that_are_not_the_models_stop_everything(general, material, change, error, said, tmp_path):
    base = copied(general("llama", "float32"), tmp_path / "base", change)
    before = state(base)
    with pytest.raises(error, match=said), opened(base):
        pytest.fail("weights were opened")
    assert same(before, state(base))


def test_tables_that_old_files_hold_are_left_as_they_are(general, material, tmp_path):
    key = "model.layers.0.self_attn.rotary_emb.inv_freq"
    base = copied(general("llama", "float32"), tmp_path / "base", lambda t: t.update({key: torch.arange(4.0)}))
    with trained(base, material, small()) as done:
        done.weights.write(-1.0, tmp_path / "new")
    assert torch.equal(load_file(tmp_path / "new" / "model.safetensors")[key], torch.arange(4.0))


def test_a_base_that_is_not_bare_or_not_transformers_own_is_refused(load, general, material):
    with pytest.raises(ConfigError, match="lean"), opened(load("llama")):
        pytest.fail("weights were opened")
    with pytest.raises(BaseMismatch, match="bare"), opened(replace(general(), task_adapter="a" * 64)):
        pytest.fail("weights were opened")


# -------------------------------------------------------------------------------------------- stopping, refusing


def test_a_run_that_is_not_finite_stops_where_it_was_good(general, material):
    with trained(general("llama", "float32"), material, small("ga", learning_rate=1e30, clip=None, steps=8)) as done:
        assert done.stopped_at is not None
        assert done.steps == done.stopped_at == len(done.log) < 8
        assert all(bool(p.isfinite().all()) for p in done.weights.each)


def test_what_is_not_finite_is_never_stepped_with(general, material, monkeypatch, tmp_path):
    """The third step's loss is made infinite: the result is that of two steps."""
    base, plain = general("llama", "float32"), Loop.graded

    def broken(self, step):
        at, gradient = plain(self, step)
        return (replace(at, losses=dict.fromkeys(at.losses, math.nan)), gradient) if step == 2 else (at, gradient)

    ends = []
    monkeypatch.setattr(Loop, "graded", broken)
    with trained(base, material, small(steps=6, schedule="constant")) as done:
        ends.append(state(base))
        assert (done.steps, done.stopped_at) == (2, 2)
    with trained(base, material, small(steps=2, schedule="constant")):
        ends.append(state(base))
    assert same(*ends)


def test_a_first_step_that_is_not_finite_is_an_error(general, material, monkeypatch):
    plain = Loop.graded
    monkeypatch.setattr(
        Loop, "graded", lambda self, step: (replace(plain(self, step)[0], losses={"gd": math.inf}), plain(self, step)[1])
    )
    with pytest.raises(ConfigError, match="first loss"), trained(general(), material, small()):
        pytest.fail("the run went on")


def test_settings_that_are_an_adapters_or_weigh_nothing_are_refused(general, material):
    with pytest.raises(ConfigError, match="targets"), trained(general(), material, small(targets=("q_proj",))):
        pytest.fail("the run went on")
    nothing = small(gd_weight=0.0, rd_weight=0.0, pd_mode="off")
    with pytest.raises(ConfigError, match="nothing to learn"), trained(general(), material, nothing):
        pytest.fail("the run went on")


# ------------------------------------------------------------------------------------------------ the whole of it


def test_a_result_is_a_base_and_a_note_of_the_desks_form(general, tmp_path):
    base = general("llama", "float32")
    done = unlearn_weights(base, PAIRS, KEPT, small(learning_rate=1e-4), tmp_path / "new", tmp_path / "out")
    assert (done.steps, done.stopped_at, done.digest, done.target) == (3, None, None, f"the base {base.name!r}")
    note = json.loads((tmp_path / "out" / "unlearning.json").read_text())
    assert (note["target"], note["weights"], note["base"], note["n_forget"]) == ("base", True, base.fingerprint, 5)
    assert [list(step["losses"]) for step in note["log"]] == [["gd", "rd", "pd"]] * 3
    assert not any(pair.answer in json.dumps(note) for pair in (*PAIRS, *KEPT))
    for lean in (True, False):
        load_base(tmp_path / "new", device="cpu", dtype="float32", lean=lean)


def test_what_is_there_is_kept_and_what_fails_leaves_nothing(general, tmp_path, monkeypatch):
    base = general("llama", "float32")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("kept")
    with pytest.raises(FileFormatError, match="is there already"):
        unlearn_weights(base, PAIRS, KEPT, small(), tmp_path / "new", tmp_path / "out")
    with pytest.raises(EmptyHistory, match="--retain"):
        unlearn_weights(base, PAIRS, [], small(), tmp_path / "other", tmp_path / "out")

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("idiolect.unlearn.negate.save_file", full_disk)
    with pytest.raises(FileFormatError, match="No space left"):
        unlearn_weights(base, PAIRS, KEPT, small(), tmp_path / "other", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "out"]
    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "new" / "mine").read_text() == "kept"


def test_the_command_writes_a_base(base_folder, tmp_path, monkeypatch):
    from idiolect.cli.app import app

    monkeypatch.setenv("IDIOLECT_STORE", str(tmp_path / "store"))
    folder = base_folder("gpt-neox")
    for name, pairs in (("forget", PAIRS), ("retain", KEPT)):
        lines = [json.dumps({"id": pair.id, "prompt": pair.prompt, "answer": pair.answer}) for pair in pairs]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    words = ["unlearn", "run", "--full", "--method", "sku", "--steps", "2", "--lr", "1e-4", "--batch-size", "2"]
    sets = ["--forget", tmp_path / "forget.jsonl", "--retain", tmp_path / "retain.jsonl", "--base", folder]
    where = ["--merge", tmp_path / "new", "--out", tmp_path / "out", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, [*words, *map(str, sets), *map(str, where)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 2
    assert "Keep it secret" in result.stderr
    new, old = load_base(tmp_path / "new", device="cpu"), load_base(folder, device="cpu")
    assert new.fingerprint != old.fingerprint
    assert not (tmp_path / "store").exists()
