"""Train `idiolect-tiny`, the base that ships with the package, from a folder of text.

What flows where, top to bottom of this file:

    corpus.jsonl.gz → byte-level BPE → one flat uint16 stream per split → random windows
      → a small Llama, bf16 autocast, Muon + AdamW → checkpoint → fp16 safetensors in Hugging Face's layout

The whole run is bounded by wall-clock, not by steps: the learning rate follows elapsed / budget, so that a run on a busy
or a slow machine still ends with the rate decayed to zero. Kill it at any moment and start it again with the same
arguments: it resumes from the last checkpoint with the budget it had left.

    python recipes/pretrain_base.py --corpus corpus.jsonl.gz --work build/base --minutes 90
    python recipes/pretrain_base.py --corpus corpus.jsonl.gz --work build/base --export src/idiolect/assets/idiolect-tiny

Sources: Touvron et al. 2023, arXiv:2307.09288 (architecture); Jordan et al. 2024 and Liu et al. 2025, arXiv:2502.16982
(Muon); Hägele et al. 2024, arXiv:2405.18392 (constant rate, then a decay to zero).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# A busy neighbour makes the default spinning OpenMP barrier three times slower; sleeping costs nothing alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

BOS, USER, ASSISTANT, END, PAD = "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
SPECIAL = [PAD, BOS, END, USER, ASSISTANT]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>"
    "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The base's size. 6.2 M parameters: 12.5 MB in fp16."""

    vocab_size: int = 8192
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


# ---------------------------------------------------------------------------------------------- text and tokens


def documents(corpus: Path) -> Iterator[tuple[str, str]]:
    """(source, text) of every document, in file order."""
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            yield record["source"], record["text"]


def train_tokenizer(corpus: Path, vocab_size: int) -> Tokenizer:
    """Byte-level BPE; every digit is a token of its own, so that numbers are spelled one way only."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    marks = (USER, ASSISTANT, END)

    def plain() -> Iterator[str]:
        for _, text in documents(corpus):
            for mark in marks:
                text = text.replace(mark, "\n")
            yield text

    tokenizer.train_from_iterator(plain(), trainer)
    return tokenizer


def tokenize(corpus: Path, tokenizer: Tokenizer, work: Path, held_out_every: int = 200) -> dict[str, np.ndarray]:
    """Two flat streams of ids, `train` and `held_out` (every 200th document). Cached in `work`."""
    paths = {split: work / f"{split}.bin" for split in ("train", "held_out")}
    if not all(p.exists() for p in paths.values()):
        bos, end = tokenizer.token_to_id(BOS), tokenizer.token_to_id(END)
        parts: dict[str, list[np.ndarray]] = {"train": [], "held_out": []}
        texts = [text for _, text in documents(corpus)]
        for start in range(0, len(texts), 4096):
            for i, encoding in enumerate(tokenizer.encode_batch(texts[start : start + 4096]), start):
                ids = [bos, *encoding.ids]
                if ids[-1] != end:
                    ids.append(end)
                parts["held_out" if i % held_out_every == 0 else "train"].append(np.array(ids, dtype=np.uint16))
        for split, arrays in parts.items():
            temporary = paths[split].with_suffix(".part")
            np.concatenate(arrays).tofile(temporary)
            os.replace(temporary, paths[split])
    return {split: np.fromfile(path, dtype=np.uint16) for split, path in paths.items()}


def windows(stream: np.ndarray, seed: int, step: int, rows: int, length: int) -> Tensor:
    """(rows, length + 1) random windows of the stream. Keyed by (seed, step), so that a resumed run sees what it would have."""
    rng = np.random.default_rng((seed, step))
    starts = rng.integers(0, len(stream) - length - 1, rows)
    return torch.from_numpy(np.stack([stream[s : s + length + 1] for s in starts]).astype(np.int64))


# ------------------------------------------------------------------------------------------------------- model


class Block(nn.Module):
    """One pre-norm Llama layer; parameter names are Hugging Face's, so that export is a plain state_dict."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, kv = shape.hidden_size, shape.hidden_size // shape.num_attention_heads * shape.num_key_value_heads
        self.heads, self.kv_heads = shape.num_attention_heads, shape.num_key_value_heads
        self.input_layernorm = nn.RMSNorm(d, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(d, eps=shape.rms_norm_eps)
        self.self_attn = nn.ModuleDict(
            {
                "q_proj": nn.Linear(d, d, bias=False),
                "k_proj": nn.Linear(d, kv, bias=False),
                "v_proj": nn.Linear(d, kv, bias=False),
                "o_proj": nn.Linear(d, d, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(d, shape.intermediate_size, bias=False),
                "up_proj": nn.Linear(d, shape.intermediate_size, bias=False),
                "down_proj": nn.Linear(shape.intermediate_size, d, bias=False),
            }
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, width = x.shape
        h = self.input_layernorm(x)
        q, k, v = (
            self.self_attn[name](h).view(rows, length, heads, -1).transpose(1, 2)
            for name, heads in (("q_proj", self.heads), ("k_proj", self.kv_heads), ("v_proj", self.kv_heads))
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.self_attn["o_proj"](h.transpose(1, 2).reshape(rows, length, width))
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in Hugging Face's half-split layout. x: (B, H, T, D); cos, sin: (T, D)."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class Model(nn.Module):
    """A Llama with tied embeddings."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                # Residual outputs start smaller, so that the stream's variance does not grow with depth (GPT-2).
                scale = 1 / math.sqrt(2 * shape.num_hidden_layers) if "o_proj" in name or "down_proj" in name else 1.0
                nn.init.normal_(p, std=0.02 * scale)
        head = shape.hidden_size // shape.num_attention_heads
        inverse = shape.rope_theta ** (-torch.arange(0, head, 2).float() / head)
        angles = torch.outer(torch.arange(shape.max_position_embeddings).float(), inverse).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Mean next-token loss in nats. ids: (B, T + 1)."""
        x = self.embed_tokens(ids[:, :-1])
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]  # type: ignore[index]
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            cos, sin = cos.bfloat16(), sin.bfloat16()
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


# ---------------------------------------------------------------------------------------------------- training


def rate(progress: float, warm_up: float = 0.01, decay: float = 0.45) -> float:
    """Warm up, hold, then fall linearly to zero over the last 45 % of the budget."""
    if progress < warm_up:
        return progress / warm_up
    return min(1.0, max(0.0, (1 - progress) / decay))


def optimizers(model: Model, lr_muon: float, lr_adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return [
        torch.optim.Muon(matrices, lr=lr_muon, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr_adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


@torch.no_grad()
def held_out_loss(model: nn.Module, stream: np.ndarray, length: int, rows: int, device: str) -> float:
    """Mean loss in nats over the first 64 non-overlapping windows of the held-out stream."""
    count = min(64, (len(stream) - 1) // length)
    ids = torch.from_numpy(np.stack([stream[i * length : i * length + length + 1] for i in range(count)]).astype(np.int64))
    losses = []
    for chunk in ids.split(rows):
        if len(chunk) == rows:  # one shape only: a second one would compile a second time
            with torch.autocast(device, torch.bfloat16):
                losses.append(model(chunk.to(device)).item())
    return float(np.mean(losses))


def train(args: argparse.Namespace) -> None:
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and args.threads:
        torch.set_num_threads(args.threads)
    shape = Shape()
    tokenizer_path = work / "tokenizer.json"
    if not tokenizer_path.exists():
        started = time.monotonic()
        train_tokenizer(args.corpus, shape.vocab_size).save(str(tokenizer_path))
        print(f"tokenizer: {shape.vocab_size} tokens in {time.monotonic() - started:.0f} s", flush=True)
    streams = tokenize(args.corpus, Tokenizer.from_file(str(tokenizer_path)), work)
    print({split: f"{len(s) / 1e6:.2f} M tokens" for split, s in streams.items()}, flush=True)

    model = Model(shape, args.seed).to(device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters on {device}", flush=True)
    optims = optimizers(model, args.lr_muon, args.lr_adam)
    base_rates = [g["lr"] for o in optims for g in o.param_groups]
    step, spent, tokens = 0, 0.0, 0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        # weights_only: a checkpoint is data, never code.
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        step, spent, tokens = state["step"], state["spent_s"], state["tokens"]
        print(f"resumed at step {step}, {spent / 60:.1f} of {args.minutes} minutes spent", flush=True)

    run = torch.compile(model) if args.compile else model
    budget = args.minutes * 60
    started, last_save, last_log = time.monotonic() - spent, time.monotonic(), time.monotonic()
    log_tokens, ema = tokens, None
    log = (work / "log.jsonl").open("a", encoding="utf-8")
    finished = False
    while not finished:
        spent = time.monotonic() - started
        progress = min(1.0, spent / budget)
        finished = progress >= 1
        # Full context only in the last 20 %: short windows are cheaper, and most documents fit in them.
        length = args.length if progress < 0.8 else shape.max_position_embeddings
        rows = args.batch_tokens // length
        lr = rate(progress)
        for group, base_rate in zip((g for o in optims for g in o.param_groups), base_rates, strict=True):
            group["lr"] = base_rate * lr
        ids = windows(streams["train"], args.seed, step, rows, length).to(device)
        with torch.autocast(device, torch.bfloat16):
            loss = run(ids)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + rows * length
        ema = loss.item() if ema is None else 0.98 * ema + 0.02 * loss.item()
        now = time.monotonic()
        if now - last_log > 15 or finished:
            speed = (tokens - log_tokens) / (now - last_log)
            left = max(0.0, budget - (now - started)) / 60
            line = {"step": step, "tokens": tokens, "loss": round(ema, 4), "tokens_per_s": round(speed), "rate": round(lr, 3)}
            print(f"{line} · {left:.0f} min left", flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
            last_log, log_tokens = now, tokens
        if now - last_save > 240 or finished:
            rows_eval = args.batch_tokens // length
            held = held_out_loss(run, streams["held_out"], length, rows_eval, device)
            print(f"held-out loss {held:.4f} at {length} tokens of context", flush=True)
            state = {
                "model": model.state_dict(),
                "optims": [o.state_dict() for o in optims],
                "step": step,
                "spent_s": now - started,
                "tokens": tokens,
                "held_out_loss": held,
                "train_loss": ema,
                "seed": args.seed,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
            last_save = time.monotonic()


# ------------------------------------------------------------------------------------------------------ export


def export(args: argparse.Namespace) -> None:
    """Write the last checkpoint as a Hugging Face folder: fp16 safetensors, config, tokenizer with chat template."""
    out: Path = args.export
    out.mkdir(parents=True, exist_ok=True)
    shape = Shape()
    state = torch.load(args.work / "checkpoint.pt", map_location="cpu", weights_only=True)
    weights = {f"model.{name}": p.half().contiguous() for name, p in state["model"].items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{k: v for k, v in asdict(shape).items() if k != "rope_theta"},
        "head_dim": shape.hidden_size // shape.num_attention_heads,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "pad_token_id": SPECIAL.index(PAD),
        "bos_token_id": SPECIAL.index(BOS),
        "eos_token_id": SPECIAL.index(END),
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": shape.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")
    (out / "tokenizer.json").write_bytes((args.work / "tokenizer.json").read_bytes())
    facts = {
        "parameters": sum(p.numel() for p in weights.values()),
        "size_bytes": (out / "model.safetensors").stat().st_size,
        "tokens_seen": state["tokens"],
        "steps": state["step"],
        "minutes": round(state["spent_s"] / 60, 1),
        "train_loss": round(state["train_loss"], 4),
        "held_out_loss": round(state["held_out_loss"], 4),
        "corpus_sha256": hashlib.sha256(args.corpus.read_bytes()).hexdigest(),
        "seed": state["seed"],
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="corpus.jsonl.gz of {source, text} lines")
    parser.add_argument("--work", type=Path, required=True, help="folder of tokenizer, token streams, checkpoint and log")
    parser.add_argument("--export", type=Path, help="write the last checkpoint to this folder instead of training")
    parser.add_argument("--minutes", type=float, default=90.0, help="wall-clock budget of the whole run")
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--length", type=int, default=512, help="context of the first 80 %% of the run")
    parser.add_argument("--lr-muon", type=float, default=6e-3)
    parser.add_argument("--lr-adam", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    export(args) if args.export else train(args)


if __name__ == "__main__":
    main()
