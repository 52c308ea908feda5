"""People, a random base, and ways to run the command, for the tests of the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import Result

TOPICS = {
    "politics": "The senator votes on a new law",
    "sports": "The goalkeeper wins a cup final",
    "travel": "Night trains reach quiet valleys",
    "business": "The bank reports a loss on steel",
}


def make_base(folder: Path, seed: int) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*TOPICS, *TOPICS.values()] * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, bos_token_id=0, eos_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def people(n: int, n_items: int = 4, n_queries: int = 2, prefix: str = "p") -> list[dict[str, Any]]:
    """Records of users.jsonl; everybody files one topic their own way."""
    labels = list(TOPICS)
    records = []
    for number in range(n):
        user = f"{prefix}{number:02d}"

        def label(i: int, number: int = number) -> str:
            return labels[(i + number % 2) % len(labels)]

        texts = [f"{TOPICS[labels[i % len(labels)]]} in year {i} of {user}." for i in range(n_items + n_queries)]
        profile = [
            {"id": f"{user}-{i}", "date": f"2020-01-{i % 28 + 1:02d}", "text": texts[i], "category": label(i)}
            for i in range(n_items)
        ]
        query = [
            {"id": f"{user}-q{i}", "input": f"Which category? categories: [x] article: {texts[i]}", "gold": label(i)}
            for i in range(n_items, n_items + n_queries)
        ]
        records.append({"user_id": user, "profile": profile, "query": query})
    return records


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def documents(result: Result) -> Any:
    """The one JSON document on stdout."""
    return json.loads(result.stdout)


def error_of(result: Any) -> str:
    """The one line on stderr that says what was wrong; stdout must be empty and no traceback may show."""
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("idiolect: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0].removeprefix("idiolect: ")


COMMAND = [sys.executable, "-c", "from idiolect.cli.app import main; main()"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "NO_COLOR": "1", "COLUMNS": "100"}


def shell(*words: str | Path, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, env=environment(), input=input
    )


def started(*words: str | Path) -> subprocess.Popen[str]:
    """The command, running. It hears Ctrl-C even where the tests themselves run in the background and do not."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
