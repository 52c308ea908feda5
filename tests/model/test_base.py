"""Finding, checking and naming a base; its tokenizer."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from idiolect.errors import BaseMismatch, BaseNotFound, ConfigError
from idiolect.model import base as base_module
from idiolect.model.base import choose_device, fingerprint, load_base
from idiolect.types import AdapterManifest


@pytest.fixture
def copy(base_folder, tmp_path):
    """A copy of a base's folder, to be spoilt."""

    def make(family="llama"):
        return shutil.copytree(base_folder(family), tmp_path / "copy", dirs_exist_ok=True)

    return make


def set_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_fingerprint_is_of_config_and_weights(copy):
    folder = copy()
    before = fingerprint(folder)
    for harmless in ({"transformers_version": "0"}, {"torch_dtype": "x"}, {"use_cache": False}, {"_name_or_path": "y"}):
        set_config(folder, **harmless)
        assert fingerprint(folder) == before
    set_config(folder, rms_norm_eps=1e-3)
    changed = fingerprint(folder)
    assert changed != before
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(folder) not in (before, changed)
    assert load_base(folder, device="cpu").fingerprint == fingerprint(folder)


def test_the_fingerprint_does_not_depend_on_the_path(base_folder, copy):
    assert fingerprint(copy()) == fingerprint(base_folder("llama"))


def test_a_missing_folder(tmp_path):
    with pytest.raises(BaseNotFound, match="is not a folder"):
        load_base(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_fetched(monkeypatch):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BaseNotFound, match=r"'someone/base' is neither a folder here nor could it be fetched \(Connection"):
        load_base("someone/base")


def test_a_folder_without_config(copy):
    folder = copy()
    (folder / "config.json").unlink()
    with pytest.raises(BaseNotFound, match=r"no config\.json"):
        load_base(folder)


def test_pickled_weights_only(copy):
    folder = copy()
    os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(BaseNotFound, match="pickled weights are never loaded"):
        load_base(folder)


def test_an_unknown_model_type(copy):
    folder = copy()
    set_config(folder, model_type="no-such-family")
    with pytest.raises(BaseNotFound, match="model type that transformers does not know"):
        load_base(folder, device="cpu")


def test_a_config_that_is_no_json(copy):
    folder = copy()
    (folder / "config.json").write_text("{broken")
    with pytest.raises(BaseNotFound, match=r"config\.json"):
        load_base(folder, device="cpu")


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
def test_truncated_weights(copy, family):
    folder = copy(family)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BaseNotFound):
        load_base(folder, device="cpu")


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
def test_a_missing_tensor(copy, family):
    folder = copy(family)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(weights) if "layers.1" in n)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseNotFound, match=name.replace(".", r"\.")):
        load_base(folder, device="cpu")


def test_a_base_without_a_tokenizer(copy):
    folder = copy()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BaseNotFound, match="tokenizer"):
        load_base(folder, device="cpu")


def test_a_base_in_two_files_is_the_same_base(load, copy):
    folder = copy()
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    save_file({n: weights[n] for n in names[:5]}, folder / "model-00001-of-00002.safetensors")
    save_file({n: weights[n] for n in names[5:]}, folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    mine = load_base(folder, device="cpu").model
    assert torch.equal(mine.layers[1].qkv, load("llama").model.layers[1].qkv)


def test_devices_and_dtypes():
    assert choose_device("cpu", None) == (torch.device("cpu"), torch.float32)
    assert choose_device("cpu", "bfloat16")[1] == torch.bfloat16
    for wrong in ("nonsense", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match=f"device '{wrong}' is not on this machine"):
            choose_device(wrong, None)
    with pytest.raises(ConfigError, match="dtype 'int8' is not known; choose one of: float32"):
        choose_device("cpu", "int8")


def test_adapters_of_other_bases_and_task_adapters_are_refused(load):
    base = load("llama")
    manifest = AdapterManifest("user", "LaMP-3", base.fingerprint, base.name, 2, 4.0, ("q_proj",), "ana", "a" * 64)
    with pytest.raises(BaseMismatch, match="made on task adapter aaaaaaaaaaaa, and none is merged in here"):
        base.accept(manifest, "d" * 64)
    with pytest.raises(BaseMismatch, match="was made for base"):
        load("llama", seed=1).accept(manifest, "d" * 64)
    layout = base.layout(2, 4.0, ("q_proj",))
    on_task = base.with_task("a" * 64, layout, torch.zeros(layout.size))
    on_task.accept(manifest, "d" * 64)
    assert base.fingerprint == on_task.fingerprint


def test_what_an_adapter_was_made_on(load):
    base = load("llama")
    base.accept_origin(base.origin, "d" * 64)
    base.accept_origin({}, "d" * 64)
    for changed, message in (
        ({"base": "0" * 64, "base_name": "other"}, r"made for base 'other' \(000000000000\)"),
        ({"task_adapter": "a" * 64}, "made on task adapter aaaaaaaaaaaa, and none is merged in here"),
        ({"tokenizer": "0" * 64}, "another tokenizer or chat template than"),
    ):
        with pytest.raises(BaseMismatch, match=message):
            base.accept_origin(base.origin | changed, "d" * 64)


# ----------------------------------------------------------------------------------------------------------- tokenizer


def test_the_tokenizers_digest_is_of_what_makes_tokens(copy, load):
    folder = copy()
    file = folder / "tokenizer.json"
    before = load("llama").tokenizer.digest
    assert load_base(folder, device="cpu").tokenizer.digest == before
    rules = json.loads(file.read_text())
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(rules | {"truncation": cut}, indent=4))
    assert load_base(folder, device="cpu").tokenizer.digest == before
    rules["model"]["merges"] = rules["model"]["merges"][:-1]
    file.write_text(json.dumps(rules))
    digests = {before, load_base(folder, device="cpu").tokenizer.digest, load("llama", chat=True).tokenizer.digest}
    assert len(digests) == 3


@given(st.lists(st.sampled_from(["<|end|>", "<|user|>", "<|bos|>", "<|", "end", "|>", " ", "\n", "é", "字"]), max_size=12))
def test_text_never_becomes_a_special_token(load, parts):
    text = "".join(parts)
    tokenizer = load("llama", chat=True).tokenizer
    ids = tokenizer.encode(text)
    assert not set(ids) & {0, 1, 2, 3, 4}
    assert tokenizer.decode(ids) == text


def test_template_text_does(load):
    tokenizer = load("llama", chat=True).tokenizer
    assert tokenizer.encode_frame("<|user|><|end|>") == [2, 4]
    assert tokenizer.chat_frame == ("<|user|>", "<|end|><|assistant|>")
    assert tokenizer.decode([*tokenizer.encode("sea"), 4]) == "sea"
    assert load("llama").tokenizer.chat_frame is None
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 4, 0)


def test_text_never_becomes_a_special_token_on_a_foreign_base(stories):
    tokenizer = load_base(stories, device="cpu").tokenizer
    for text in ("</s>", "<s>", "a </s> b", "<unk>"):
        assert not set(tokenizer.encode(text)) & {tokenizer.bos_id, tokenizer.eos_id}


def test_a_tokenizer_saved_with_truncation_does_not_cut(copy):
    folder = copy()
    file = folder / "tokenizer.json"
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    pad = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
           "pad_type_id": 0, "pad_token": "<|pad|>"}  # fmt: skip
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": cut, "padding": pad}))
    tokenizer = load_base(folder, device="cpu").tokenizer
    assert tokenizer.decode(tokenizer.encode("a quiet film about the sea")) == "a quiet film about the sea"
    assert 0 not in tokenizer.encode("a")


def test_a_template_that_drops_the_text_is_refused(copy):
    from idiolect.errors import InputError

    folder = copy()
    (folder / "chat_template.jinja").write_text("hello")
    with pytest.raises(InputError, match="drops the user's text"):
        _ = load_base(folder, device="cpu").tokenizer.chat_frame


def test_the_embedded_base_is_found_by_name():
    if not (base_module._find(base_module.EMBEDDED) if _embedded() else None):
        pytest.skip("the embedded base is not built into this checkout")
    assert load_base(device="cpu").name == "idiolect-tiny"


def _embedded():
    from importlib.resources import files

    return (files("idiolect") / "assets" / base_module.EMBEDDED / "config.json").is_file()
