"""Negation as arithmetic: what subtracting is, in adapters and in weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from idiolect.data.batch import Row, pack
from idiolect.errors import FileFormatError, MismatchError, ShapeError
from idiolect.model.base import load_base
from idiolect.types import Rendered
from idiolect.unlearn.negate import changed, compact, merge_into_weights, together, weighted
from idiolect.unlearn.variants import Variant

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def hidden(base, adapters=None):
    rows = [Row(0, 0, 1.0, Rendered("r", tuple(range(5, 25)), 8)), Row(0, 20, 1.0, Rendered("s", tuple(range(40, 52)), 5))]
    with torch.no_grad():
        return base.model.hidden(base.model.plan(pack(rows)), adapters)


@pytest.fixture(scope="module")
def base(load):
    return load("llama")


@pytest.fixture(scope="module")
def adapter(base, random_row):
    layout = base.layout(3, 6.0, ALL)
    return layout, random_row(layout, 1, 0.1)


def test_nothing_subtracted_is_the_base_bit_for_bit(base, adapter):
    variant = Variant("", base, *adapter, weight=-0.0)
    assert variant.adapters is None
    assert variant.merged() is base


def test_subtracting_less_than_nothing_is_what_was_acquired(base, adapter):
    bad = Variant("", base, *adapter, weight=1.0)
    strength = -1.0
    assert torch.equal(hidden(base, Variant("", base, *adapter, weight=-strength).adapters), hidden(base, bad.adapters))


def test_negating_twice_is_the_identity(adapter):
    layout, row = adapter
    assert torch.equal(weighted(layout, weighted(layout, row, -1), -1), row)
    assert not torch.equal(weighted(layout, row, -1), row)


@pytest.mark.parametrize("strength", [0.25, 1.0, 2.0])
def test_adapters_and_weights_subtract_the_same(base, adapter, strength, tmp_path):
    variant = Variant("", base, *adapter, weight=-strength)
    merge_into_weights(base, *adapter, -strength, tmp_path / "merged")
    written = load_base(tmp_path / "merged", device="cpu", dtype="float32")
    expected = hidden(base, variant.adapters)
    assert (expected - hidden(base)).abs().max() > 1e-2
    for other in (hidden(written), hidden(variant.merged())):
        assert (expected - other).abs().max() <= 2e-5
    assert written.fingerprint != base.fingerprint


def test_merged_weights_load_without_us(base, adapter, tmp_path):
    from transformers import AutoModelForCausalLM

    merge_into_weights(base, *adapter, -1.0, tmp_path / "merged")
    ids = torch.arange(5, 25).unsqueeze(0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    ours = Variant("", base, *adapter, weight=-1.0).merged()
    rows = [Row(0, 0, 1.0, Rendered("r", (*ids[0].tolist(), 4), 1))]
    with torch.no_grad():
        logits = ours.model.to_logits(ours.model.hidden(ours.model.plan(pack(rows))))
        assert (model(ids).logits[0] - logits).abs().max() < 1e-4


def test_base_files_are_not_changed(base, adapter, tmp_path):
    before = {file.name: file.read_bytes() for file in base.path.iterdir()}
    merge_into_weights(base, *adapter, -1.0, tmp_path / "merged")
    assert {file.name: file.read_bytes() for file in base.path.iterdir()} == before


def test_a_small_change_is_summed_before_it_is_rounded():
    weight = torch.full((4, 4), 1.0, dtype=torch.bfloat16)
    a, b = torch.ones(4, 2), torch.full((2, 4), 1e-3)
    # 0.002 alone is lost in bfloat16's steps of 0.0078 around one; three times as much is not.
    assert torch.equal(changed("w", weight, a, b, 1.0), weight)
    assert float(changed("w", weight, a, b, 3.0)[0, 0]) == pytest.approx(1.0078125)
    assert changed("w", weight, a, b, 3.0).dtype == torch.bfloat16


def test_a_module_that_is_missing_stops_everything(base, adapter, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for file in base.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    from dataclasses import replace

    save_file(
        {key: value for key, value in tensors.items() if key != name}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(MismatchError, match="down_proj"):
        merge_into_weights(replace(base, path=folder), *adapter, -1.0, tmp_path / "merged")
    save_file({**tensors, name: tensors[name][:, :7].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ShapeError, match="down_proj"):
        merge_into_weights(replace(base, path=folder), *adapter, -1.0, tmp_path / "merged")
    integers = torch.zeros(tensors[name].shape, dtype=torch.int8)
    save_file({**tensors, name: integers}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MismatchError, match="int8"):
        merge_into_weights(replace(base, path=folder), *adapter, -1.0, tmp_path / "merged")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["base"]


def test_a_folder_that_is_there_is_kept(base, adapter, tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine").write_text("kept")
    with pytest.raises(FileFormatError, match="is there already"):
        merge_into_weights(base, *adapter, -1.0, tmp_path / "merged")
    assert (tmp_path / "merged" / "mine").read_text() == "kept"


def test_mixed_factors_are_the_same_update(base, adapter):
    layout, row = adapter
    whole, mixed = compact(base.model.sites(), layout, row)
    assert whole.scale == 1.0
    for name, (a, b) in layout.matrices(row).items():
        mine_a, mine_b = whole.matrices(mixed)[name]
        assert torch.allclose(mine_a @ mine_b, layout.scale * (a @ b), atol=1e-6)
        # Neither of the factors' columns is one of the parts' any more.
        cosine = torch.nn.functional.normalize(mine_a.t()) @ torch.nn.functional.normalize(a, dim=0)
        assert cosine.abs().max() < 0.999


def test_a_target_and_what_is_subtracted_from_it_are_one_adapter(base, adapter, random_row):
    target = base.layout(2, 2.0, ("q_proj", "v_proj"))
    row = random_row(target, 5)
    both = together(base.model.sites(), (target, row), *adapter, -0.5)
    merged = Variant("", Variant("", base, target, row).merged(), *adapter, weight=-0.5).merged()
    assert (hidden(base, Variant("", base, *both).adapters) - hidden(merged)).abs().max() < 2e-5
    assert both[0].rank == 5


def test_result_of_a_module_narrower_than_the_rank_is_padded(base, random_row):
    layout = base.layout(40, 40.0, ("k_proj",))
    row = random_row(layout, 2)
    whole, mixed = compact(base.model.sites(), layout, row)
    for name, (a, b) in layout.matrices(row).items():
        mine_a, mine_b = whole.matrices(mixed)[name]
        assert torch.allclose(mine_a @ mine_b, a @ b, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_reads_a_negated_adapter_as_ours(base, adapter, reference, tmp_path):
    from peft import PeftModel

    from idiolect.model.files import write_peft

    layout, row = adapter
    write_peft(tmp_path / "peft", layout, weighted(layout, row, -1.5), "base")
    ids = torch.arange(5, 25).unsqueeze(0)
    theirs = PeftModel.from_pretrained(reference("llama"), str(tmp_path / "peft")).eval()
    ours = Variant("", base, layout, row, -1.5)
    rows = [Row(0, 0, 1.0, Rendered("r", (*ids[0].tolist(), 4), 1))]
    with torch.no_grad():
        logits = base.model.to_logits(base.model.hidden(base.model.plan(pack(rows)), ours.adapters))
        assert (theirs(ids).logits[0] - logits).abs().max() < 1e-4
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["r"] == 3
