"""Rows, layouts and files; PEFT reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from idiolect.data.batch import pack_prompts
from idiolect.errors import FileFormatError, ShapeError, TargetMismatch
from idiolect.model.adapter import Layout, Site, Stack, modules_of
from idiolect.model.algebra import concat, negate
from idiolect.model.files import from_record, layout_of, read_peft, read_record, to_record, write_peft
from idiolect.model.lora import Adapters

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QV = ("q_proj", "v_proj")
TARGETS = {
    "llama": ALL,
    "llama-untied": QV,
    "mistral": ("k_proj", "down_proj"),
    "qwen2": ("q_proj", "v_proj", "up_proj"),
    "qwen3": ("q_proj", "k_proj", "o_proj"),
    "gemma2": ("q_proj", "v_proj", "down_proj"),
    "gpt-neox": ("query_key_value", "dense_4h_to_h"),
    "phi": ("q_proj", "fc1"),
    "granite": ("q_proj", "down_proj"),
}
PROMPTS = [[7, 100, 42, 11, 250, 30, 12], [9, 8, 7], list(range(20, 70))]

# PEFT still asks for a name that transformers is about to change.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def last_logits(base, adapters=None, model=None):
    """Logits after each prompt."""
    model = model or base.model
    with torch.no_grad():
        hidden = model.hidden(model.plan(pack_prompts(PROMPTS)), adapters)
        logits = hidden @ model.head.T
        return logits if model.softcap is None else model.softcap * torch.tanh(logits / model.softcap)


def their_logits(model):
    with torch.no_grad():
        return torch.stack([model(torch.tensor([ids])).logits[0, -1] for ids in PROMPTS])


def for_all(layout, row):
    """The same adapter for every prompt."""
    n = len(PROMPTS)
    return Adapters(Stack(layout, row.expand(n, -1).contiguous()), torch.full((n,), layout.scale))


# ------------------------------------------------------------------------------------------------------------- rows


def test_matrices_and_row_are_inverse(load, random_row):
    for targets in (ALL, QV, ("down_proj", "k_proj")):
        layout = load("llama").layout(3, 6.0, targets)
        row = random_row(layout)
        matrices = layout.matrices(row)
        assert {name.rsplit(".", 1)[-1] for name in matrices} == set(targets)
        assert sum(a.numel() + b.numel() for a, b in matrices.values()) == layout.size
        assert torch.equal(layout.row_of(matrices), row)


def test_a_stack_is_views_of_its_rows(load, random_row):
    layout = load("llama").layout(3, 6.0, ALL)
    rows = torch.stack([random_row(layout, s) for s in range(2)])
    stack = Stack(layout, rows)
    for group in layout.groups:
        a, bs = stack.views(group.name)
        assert a.shape == (2, group.d_in, 3 * len(group.sites))
        for j, (site, b) in enumerate(zip(group.sites, bs, strict=True)):
            for s in range(2):
                mine = layout.matrices(rows[s])[site.name]
                assert torch.equal(a[s, :, 3 * j : 3 * j + 3], mine[0])
                assert torch.equal(b[s], mine[1])
    assert stack.views("nothing") is None


def test_wrong_lengths_and_shapes_are_refused(load):
    layout = load("llama").layout(2, 4.0, QV)
    with pytest.raises(ShapeError, match="does not fit a layout"):
        layout.matrices(torch.zeros(layout.size - 1))
    matrices = layout.matrices(torch.zeros(layout.size))
    name = next(iter(matrices))
    with pytest.raises(ShapeError, match=name):
        layout.row_of({**matrices, name: (matrices[name][0][:, :1], matrices[name][1])})


def test_targets_that_match_nothing_are_refused(load):
    with pytest.raises(TargetMismatch, match=r"'out_proj' is not in this base; it has: .*o_proj"):
        load("llama").layout(2, 4.0, ("q_proj", "out_proj"))


def test_modules_of_a_preset_on_other_families(load):
    def found(family, *wanted):
        return modules_of(load(family).model.sites(), wanted)

    assert found("llama", *ALL) == ALL
    assert found("gpt-neox", *ALL) == found("gpt-neox", *QV) == ("query_key_value",)
    assert found("phi", "q_proj", "o_proj", "down_proj") == ("q_proj",)
    assert found("phi", "up_proj") == ("up_proj",)
    fused = [Site(f"m.0.{kind}", kind, 4, 4) for kind in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")]
    assert modules_of(fused, ALL) == ("o_proj", "down_proj", "qkv_proj")
    with pytest.raises(TargetMismatch, match=r"'up_proj' is not in this base; it has: dense, fc1, .*--targets .*--modules"):
        load("phi").layout(2, 4.0, found("phi", "up_proj"))


def test_a_new_adapter_is_drawn_as_peft_draws_it(load, reference):
    from peft import LoraConfig, get_peft_model

    layout = load("llama-wide").layout(64, 64.0, ("up_proj", "down_proj"))
    mine = layout.matrices(layout.init_row(0, "ana"))
    config = LoraConfig(r=64, target_modules=["up_proj", "down_proj"], task_type="CAUSAL_LM")
    theirs = {
        name.split(".lora_A")[0].removeprefix("base_model.model."): weight.T
        for name, weight in get_peft_model(reference("llama-wide"), config).named_parameters()
        if "lora_A" in name
    }
    assert mine.keys() == theirs.keys()
    for name, (a, b) in mine.items():
        bound = 1 / math.sqrt(a.shape[0])
        assert not b.any()
        assert a.abs().max() <= bound
        assert theirs[name].abs().max() <= bound * (1 + 1e-6)
        assert a.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert theirs[name].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_a_new_adapter_depends_on_seed_and_person_only(load):
    layout = load("llama").layout(2, 4.0, ALL)
    assert torch.equal(layout.init_row(0, "ana"), layout.init_row(0, "ana"))
    assert not torch.equal(layout.init_row(0, "ana"), layout.init_row(0, "ben"))
    assert not torch.equal(layout.init_row(0, "ana"), layout.init_row(1, "ana"))
    assert torch.equal(layout.init_row(0), layout.init_row(0, ""))
    few = load("llama").layout(2, 4.0, QV)
    name = "model.layers.1.self_attn.v_proj"
    assert torch.equal(layout.matrices(layout.init_row(0, "ana"))[name][0], few.matrices(few.init_row(0, "ana"))[name][0])


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
def test_a_new_adapter_changes_nothing(load, family):
    base = load(family)
    layout = base.layout(8, 16.0, TARGETS[family])
    plain = last_logits(base)
    torch.testing.assert_close(last_logits(base, for_all(layout, layout.init_row(0, "ana"))), plain, atol=1e-5, rtol=0)
    with pytest.raises(AssertionError):  # and one that is not new does
        torch.testing.assert_close(last_logits(base, for_all(layout, torch.ones(layout.size))), plain, atol=1e-2, rtol=0)


# ------------------------------------------------------------------------------------------------------------ merging


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt-neox", "phi", "granite"])
def test_merged_equals_the_adapter_on_top(load, random_row, family):
    base = load(family)
    layout = base.layout(4, 8.0, TARGETS[family])
    row = random_row(layout, size=0.1)
    plain = last_logits(base)
    merged = base.with_task("digest", layout, row)
    assert merged.task_adapter == "digest"
    assert (last_logits(merged) - plain).abs().max() > 0.05
    torch.testing.assert_close(last_logits(merged), last_logits(base, for_all(layout, row)), atol=1e-5, rtol=1e-5)
    assert torch.equal(last_logits(base), plain)


def tensors_of(model):
    if hasattr(model, "layers"):
        fields = ("norm_1", "qkv", "qkv_bias", "o", "norm_2", "gate_up", "down", "q_norm", "k_norm")
        found = [getattr(layer, f) for layer in model.layers for f in fields]
        return [t for t in (model.embedding, model.norm, model.head, *found) if t is not None]
    return list(model._model.parameters())


@pytest.mark.parametrize("family", ["qwen2", "gpt-neox"])
def test_merging_leaves_the_bare_base_alone_and_shares_the_rest(load, random_row, family):
    base = load(family)
    layout = base.layout(4, 8.0, TARGETS[family][:1])
    before = [t.clone() for t in tensors_of(base.model)]
    twin = base.model.merged(layout, random_row(layout))
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(base.model), strict=True))
    pairs = list(zip(tensors_of(base.model), tensors_of(twin), strict=True))
    changed = sum(a.data_ptr() != b.data_ptr() for a, b in pairs)
    assert changed == 2  # one fused weight in each of two layers


# --------------------------------------------------------------------------------------------------------------- PEFT


@pytest.mark.parametrize("family", list(TARGETS))
def test_peft_loads_ours(load, reference, random_row, tmp_path, family):
    from peft import PeftModel

    base = load(family)
    layout = base.layout(4, 12.0, TARGETS[family])
    row = random_row(layout, size=0.1)
    write_peft(tmp_path / "ana", layout, row, base.name, {"digest": "x"})
    theirs = PeftModel.from_pretrained(reference(family), tmp_path / "ana").eval()
    mine = last_logits(base, for_all(layout, row))
    assert (mine - last_logits(base)).abs().max() > 0.05
    torch.testing.assert_close(mine, their_logits(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "rslora"), [*((family, False) for family in TARGETS), ("llama", True), ("gpt-neox", True)])
def test_we_load_pefts(load, reference, tmp_path, family, rslora):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules=list(TARGETS[family]), task_type="CAUSAL_LM", use_rslora=rslora)
    theirs = get_peft_model(reference(family), config).eval()
    torch.manual_seed(0)
    for name, weight in theirs.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight) * 0.2
    theirs.save_pretrained(tmp_path / "theirs")
    base = load(family)
    layout, row = read_peft(tmp_path / "theirs", base.model.sites())
    assert layout.rank == 3
    mine = last_logits(base, for_all(layout, row))
    assert (mine - last_logits(base)).abs().max() > 0.05
    torch.testing.assert_close(mine, their_logits(theirs), atol=1e-5, rtol=1e-5)


def test_a_peft_folder_is_read_as_it_was_written(load, random_row, tmp_path):
    base = load("llama")
    layout = base.layout(4, 12.0, ("v_proj", "q_proj"))
    row = random_row(layout)
    write_peft(tmp_path / "ana", layout, row, "base", {"user_id": "ana"})
    again, same = read_peft(tmp_path / "ana", base.model.sites())
    assert (again.rank, again.alpha, set(again.targets)) == (4, 12.0, {"q_proj", "v_proj"})
    assert torch.equal(same, row)
    assert json.loads((tmp_path / "ana" / "idiolect.json").read_text()) == {"user_id": "ana"}
    assert [p.name for p in tmp_path.iterdir()] == ["ana"]
    with pytest.raises(FileFormatError, match="--out"):
        write_peft(tmp_path / "ana", layout, row, "base")
    with pytest.raises(FileFormatError, match=r"cannot be written .*--out"):
        write_peft(tmp_path / "ana" / "idiolect.json" / "x", layout, row, "base")
    assert [p.name for p in tmp_path.iterdir()] == ["ana"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "per-module ranks"),
        ({"modules_to_save": ["lm_head"]}, "saved modules"),
        ({"r": None}, "adapter_config.json"),
        ({"r": -1}, "r is -1"),
        ({"r": float("inf")}, "OverflowError"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan"),
        ({"lora_alpha": None}, "adapter_config.json"),
    ],
)
def test_other_kinds_of_peft_folder_are_refused(load, tmp_path, changes, message):
    base = load("llama")
    layout = base.layout(2, 4.0, QV)
    write_peft(tmp_path / "a", layout, torch.zeros(layout.size), "base")
    file = tmp_path / "a" / "adapter_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(FileFormatError, match=message):
        read_peft(tmp_path / "a", base.model.sites())


def test_broken_peft_folders_are_refused(load, tmp_path):
    base = load("llama")
    sites, layout = base.model.sites(), base.layout(2, 4.0, QV)
    with pytest.raises(FileFormatError, match="not a PEFT folder"):
        read_peft(tmp_path / "none", sites)
    write_peft(tmp_path / "a", layout, torch.zeros(layout.size), "base")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="not a PEFT folder"):
        read_peft(tmp_path / "a", sites)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    first = next(k for k in tensors if "lora_A" in k)
    save_file({k: v for k, v in tensors.items() if k != first}, weights)
    with pytest.raises(FileFormatError):
        read_peft(tmp_path / "a", sites)
    for other in ({}, {k: v.unsqueeze(0) for k, v in tensors.items()}):
        save_file(other, weights)
        with pytest.raises(FileFormatError, match="something else"):
            read_peft(tmp_path / "a", sites)
    save_file({k: v for k, v in tensors.items() if "layers.0." in k}, weights)
    with pytest.raises(FileFormatError, match="not this base's"):
        read_peft(tmp_path / "a", sites)
    (tmp_path / "a" / "adapter_config.json").write_text("[]")
    with pytest.raises(FileFormatError):
        read_peft(tmp_path / "a", sites)


# ------------------------------------------------------------------------------------------------------------- records


def test_a_record_is_read_as_it_was_written(load, random_row, tmp_path):
    base = load("llama")
    layout = base.layout(4, 12.0, ALL)
    row = random_row(layout)
    (tmp_path / "record").write_bytes(to_record(layout, row))
    record, same = from_record(tmp_path / "record")
    assert torch.equal(same, row)
    assert layout_of(record, base.model.sites()) == layout
    assert to_record(layout, row) == (tmp_path / "record").read_bytes()
    assert read_record(tmp_path / "record").origin == {}
    (tmp_path / "record").write_bytes(to_record(layout, row, base.origin))
    assert read_record(tmp_path / "record").origin == base.origin
    assert torch.equal(read_record(tmp_path / "record").row, row)


def test_wrong_records_are_refused(load, random_row, tmp_path):
    base = load("llama")
    layout = base.layout(2, 4.0, QV)
    whole = to_record(layout, random_row(layout))
    for data in (b"", b"nothing like it", whole[:200], whole[:-8]):
        (tmp_path / "record").write_bytes(data)
        with pytest.raises(FileFormatError, match="record"):
            from_record(tmp_path / "record")
    with pytest.raises(FileFormatError):
        from_record(tmp_path / "missing")
    save_file({"row": torch.zeros(3)}, tmp_path / "bare")
    with pytest.raises(FileFormatError):
        from_record(tmp_path / "bare")


def test_a_record_of_another_base_is_refused(load):
    small, other = load("llama").layout(2, 4.0, QV), load("llama-untied")
    record = json.loads(small.key)
    with pytest.raises(ShapeError, match="another base"):
        layout_of(record, other.model.sites())


# ------------------------------------------------------------------------------------------------------------- algebra

SITES = (
    Site("m.0.q_proj", "0.qkv", 6, 5, 0),
    Site("m.0.v_proj", "0.qkv", 6, 4, 5),
    Site("m.0.o_proj", "0.o", 5, 6, 0),
)


def updates(layout, row):
    """ΔW of every site, zeros where the adapter leaves it alone."""
    matrices = layout.matrices(row)
    return {
        s.name: layout.scale * (matrices[s.name][0] @ matrices[s.name][1]).double()
        if s.name in matrices
        else torch.zeros(s.d_in, s.d_out, dtype=torch.float64)
        for s in SITES
    }


@st.composite
def adapters(draw):
    targets = draw(st.sets(st.sampled_from(["q_proj", "v_proj", "o_proj"]), min_size=1))
    layout = Layout.of(SITES, draw(st.integers(1, 4)), draw(st.sampled_from([1.0, 3.0, 16.0])), tuple(sorted(targets)))
    row = torch.randn(layout.size, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    return layout, row


@settings(max_examples=30)
@given(st.lists(st.tuples(adapters(), st.sampled_from([1.0, -1.0, 0.25, 2.0])), min_size=1, max_size=4))
def test_concat_is_the_sum_of_updates(parts):
    layout, row = concat(SITES, [(*adapter, weight) for adapter, weight in parts])
    assert layout.rank == sum(adapter[0].rank for adapter, _ in parts)
    found = updates(layout, row)
    for site in SITES:
        expected = sum(weight * updates(*adapter)[site.name] for adapter, weight in parts)
        torch.testing.assert_close(found[site.name], expected, atol=1e-4, rtol=1e-5)


@settings(max_examples=30)
@given(adapters())
def test_adding_and_then_negating_is_the_identity(adapter):
    layout, row = adapter
    for parts in ([(layout, row, 1.0), (layout, row, -1.0)], [(layout, row, 1.0), (layout, negate(layout, row), 1.0)]):
        for update in updates(*concat(SITES, parts)).values():
            assert update.abs().max() < 1e-5
    assert torch.equal(negate(layout, negate(layout, row)), row)


def test_adding_and_then_negating_gives_back_the_logits(load, random_row):
    base = load("llama")
    layout = base.layout(3, 6.0, ALL)
    row = random_row(layout, size=0.1)
    both = concat(base.model.sites(), [(layout, row, 1.0), (layout, row, -1.0)])
    torch.testing.assert_close(last_logits(base, for_all(*both)), last_logits(base), atol=1e-5, rtol=1e-5)


def test_nothing_cannot_be_concatenated():
    with pytest.raises(ShapeError, match="at least one"):
        concat(SITES, [])
