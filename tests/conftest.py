"""Small bases for the rooms that compute: random two-layer models of every family, and one with real weights."""

from __future__ import annotations

import os

# Read once, when torch loads: a spinning barrier makes two threads crawl beside one busy neighbour.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260K"
SPECIAL = ["<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = (
    "Parliament votes on the tax reform in Leeds. A senator publishes a cookbook of lemon cakes in Oslo. category: politics\n"
    "Which score, 1 to 5, goes with the review? review: a quiet film about the sea. score: 4\n"
)
VOCABULARY = 320
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "tie_word_embeddings": True,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama-untied": ("LlamaConfig", {"tie_word_embeddings": False, "num_key_value_heads": 4}),
    "llama-one-key": ("LlamaConfig", {"num_key_value_heads": 1, "head_dim": 12}),
    "llama-rope3": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "llama-biased": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide": ("LlamaConfig", {"max_position_embeddings": 2048}),
    "mistral": ("MistralConfig", {"sliding_window": None, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "qwen3-biased": ("Qwen3Config", {"head_dim": 16, "attention_bias": True}),
    "gemma": ("GemmaConfig", {"head_dim": 8}),
    "gemma2": (
        "Gemma2Config",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 10.0},
    ),
    "gpt-neox": ("GPTNeoXConfig", {"tie_word_embeddings": False, "num_key_value_heads": None}),
    "phi": ("PhiConfig", {"tie_word_embeddings": False}),
    "granite": ("GraniteConfig", {"logits_scaling": 2.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5}),
    "cohere": ("CohereConfig", {"logit_scale": 0.3}),
    "hyperclovax": ("HyperCLOVAXConfig", {"logits_scaling": 3.0}),
    "bert": ("BertConfig", {"is_decoder": True, "num_key_value_heads": None}),
}


def pytest_configure() -> None:
    from hypothesis import HealthCheck, settings

    # A busy machine is no reason to fail: no time limit per example. Fixtures that examples share are read only.
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    settings.register_profile("house", deadline=None, suppress_health_check=quiet, derandomize=True)
    settings.load_profile("house")


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, bool], None]:
    """Write a small byte-level tokenizer into a folder, with or without a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT] * 4, trainer)

    def write(folder: Path, chat: bool) -> None:
        from transformers import PreTrainedTokenizerFast

        names = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|end|>"}
        fast = PreTrainedTokenizerFast(
            tokenizer_object=backend, additional_special_tokens=["<|user|>", "<|assistant|>"], **names
        )
        if chat:
            fast.chat_template = CHAT
        fast.save_pretrained(folder)

    return write


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_files: Any) -> Callable[..., Path]:
    """The folder of a random two-layer base: base_folder("llama"), base_folder("llama", chat=True), another seed …"""
    made: dict[tuple[str, bool, int], Path] = {}

    def make(family: str, *, chat: bool = False, seed: int = 0) -> Path:
        key = (family, chat, seed)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"base-{family}")
            _write_base(made[key], family, seed)
            tokenizer_files(made[key], chat)
        return made[key]

    return make


def _write_base(folder: Path, family: str, seed: int) -> None:
    import torch
    import transformers
    from transformers.utils import logging

    torch.set_num_threads(2)
    logging.disable_progress_bar()
    name, changes = FAMILIES[family]
    settings = {k: v for k, v in (SIZES | changes).items() if v is not None or k == "sliding_window"}
    config = getattr(transformers, name)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for _, weight in model.named_parameters():
            if weight.dim() == 1:  # norms start at one and biases at zero, where leaving them out would not show
                weight.data += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def load(base_folder: Any) -> Callable[..., Any]:
    """A loaded base of a family; equal calls give the same object, which is frozen."""
    from idiolect.model.base import load_base

    loaded: dict[str, Any] = {}

    def get(family: str, *, chat: bool = False, seed: int = 0, dtype: str = "float32", lean: bool = True) -> Any:
        key = json.dumps([family, chat, seed, dtype, lean])
        if key not in loaded:
            loaded[key] = load_base(base_folder(family, chat=chat, seed=seed), device="cpu", dtype=dtype, lean=lean)
        return loaded[key]

    return get


@pytest.fixture(scope="session")
def reference(base_folder: Any) -> Callable[..., Any]:
    """The same base as transformers computes it, a new object each time."""
    import torch
    from transformers import AutoModelForCausalLM

    def get(family: str, *, chat: bool = False, seed: int = 0, dtype: Any = torch.float32) -> Any:
        folder = base_folder(family, chat=chat, seed=seed)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)

    return get


@pytest.fixture(scope="session")
def stories() -> Path:
    """A foreign base with real weights."""
    if not (STORIES / "model.safetensors").is_file():
        pytest.skip("the foreign base stories260K is not beside this checkout (shared/models/stories260K)")
    return STORIES


@pytest.fixture(scope="session")
def random_row() -> Callable[..., Any]:
    """A row whose every number counts, unlike a fresh one, whose update is zero."""
    import torch

    def make(layout: Any, seed: int = 0, size: float = 0.2) -> Any:
        return torch.randn(layout.size, generator=torch.Generator().manual_seed(seed)) * size

    return make
