"""The frozen base: found, checked, loaded once, and named by a fingerprint that adapters are bound to.

Safetensors only; no code from a model repository is ever run. Two ways to compute the same thing stand behind one small
interface (`Model`): the lean decoder for the Llama family, and transformers for everything else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from idiolect.data.batch import Batch
from idiolect.errors import BaseMismatch, BaseNotFound, ConfigError, InputError, TargetMismatch
from idiolect.model.adapter import Layout, Site
from idiolect.model.decoder import Forest
from idiolect.model.llama import context_of, decoder_from, is_lean, rotary_of
from idiolect.model.lora import Applied, Rows
from idiolect.types import AdapterManifest, canonical_json, digest_of

EMBEDDED = "idiolect-tiny"
_UNUSED = frozenset({"truncation", "padding", "post_processor"})
"""What tokenizer.json may say and is never heeded here."""
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache", "architectures"})


class Model(Protocol):
    """What training and serving need of a model. N tokens, B rows, M asked-for positions, C labels, V vocabulary."""

    head: Tensor
    softcap: float | None

    def sites(self) -> list[Site]: ...
    def merged(self, layout: Layout, row: Tensor) -> Model: ...
    def plan(self, batch: Batch, *, prefix_once: bool = False) -> Any:
        """What `hidden` needs to know of a batch. `prefix_once`: compute shared prefixes once, where the model can."""
        ...

    def hidden(self, plan: Any, adapters: Applied | None = None) -> Tensor:
        """Normed last hidden states at the asked-for positions, (M, D)."""
        ...

    def begin(self, batch: Batch, adapters: Rows | None, room: int) -> tuple[Tensor, Any]:
        """Read prompts; logits of the first new token, (B, V), and a state to go on from."""
        ...

    def advance(self, state: Any, tokens: Tensor) -> Tensor:
        """One new token a row, (B,) → logits of the next, (B, V)."""
        ...

    def drop(self, state: Any, keep: Tensor) -> None:
        """Go on with these rows only."""
        ...

    def score(self, state: Any, first: Tensor, forest: Forest) -> Tensor:
        """Log-probability of every label after every prompt, (B, C)."""
        ...


class BaseTokenizer:
    """A base's tokenizer: a person's text can never become a special token, the template's can."""

    def __init__(self, fast: Any, path: Path) -> None:
        from tokenizers import Tokenizer

        backend = fast.backend_tokenizer
        self._fast, self._path = fast, path
        self._text = Tokenizer.from_str(backend.to_str())
        self._text.encode_special_tokens = True
        self._frame = Tokenizer.from_str(backend.to_str())
        for mine in (self._text, self._frame):
            # A tokenizer.json may ask for either; the renderer alone decides what is cut, and nothing is padded.
            mine.no_truncation()
            mine.no_padding()
        self.bos_id: int | None = fast.bos_token_id
        self.eos_id: int = fast.eos_token_id
        self.pad_id: int = fast.pad_token_id if fast.pad_token_id is not None else fast.eos_token_id

    @property
    def chat_frame(self) -> tuple[str, str] | None:
        """What the base's chat template puts before one user turn, and between it and the assistant's answer."""
        return self._chat_frame

    @cached_property
    def _chat_frame(self) -> tuple[str, str] | None:
        if not getattr(self._fast, "chat_template", None):
            return None
        mark = "\u241fcontent\u241f"
        text = self._fast.apply_chat_template([{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True)
        before, found, after = text.partition(mark)
        if not found:
            raise InputError(
                "this base's chat template drops the user's text; take chat_template out of its tokenizer_config.json"
            )
        return before, after

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what decides how text and chat turns become tokens."""
        file = self._path / "tokenizer.json"
        # The file as it is: what libraries write of a loaded tokenizer changes from version to version.
        text = file.read_text(encoding="utf-8") if file.is_file() else self._fast.backend_tokenizer.to_str()
        rules = {key: value for key, value in json.loads(text).items() if key not in _UNUSED}
        return digest_of([rules, getattr(self._fast, "chat_template", None), self.bos_id, self.eos_id])

    def encode(self, text: str) -> list[int]:
        return self._text.encode(text, add_special_tokens=False).ids

    def encode_frame(self, text: str) -> list[int]:
        return self._frame.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._frame.decode(list(ids), skip_special_tokens=True)


@dataclass(frozen=True)
class Base:
    """A loaded base, possibly with a task adapter merged into it.

    Attributes:
        name: as the user gave it (a path's last part, or a hub id).
        fingerprint: SHA-256 over config and weights; adapters are refused on any other.
        context: tokens it can see.
        task_adapter: digest of the task adapter merged in; None for the bare base.
    """

    name: str
    path: Path
    fingerprint: str
    model: Model
    tokenizer: BaseTokenizer
    context: int
    device: torch.device
    dtype: torch.dtype
    task_adapter: str | None = None

    def layout(self, rank: int, alpha: float, targets: Sequence[str]) -> Layout:
        """Where an adapter's numbers stand on this base.

        Raises:
            TargetMismatch: a target names no module of this base.
        """
        try:
            return Layout.of(self.model.sites(), rank, alpha, targets)
        except TargetMismatch as error:
            raise TargetMismatch(f"{error}; choose among them with --targets (evals and demo: --modules)") from None

    def accept(self, manifest: AdapterManifest, digest: str) -> None:
        """Refuse an adapter on any base or task adapter but its own.

        Raises:
            BaseMismatch: the adapter was made for another base, or on another task adapter.
        """
        made_on = {"base": manifest.base, "base_name": manifest.base_name, "task_adapter": manifest.task_adapter or ""}
        self.accept_origin(made_on, digest)

    @property
    def origin(self) -> dict[str, str]:
        """What adapters made here are bound to; it stands in their records."""
        return {
            "base": self.fingerprint,
            "base_name": self.name,
            "task_adapter": self.task_adapter or "",
            "tokenizer": self.tokenizer.digest,
        }

    def accept_origin(self, origin: Mapping[str, str], digest: str) -> None:
        """The same by an adapter's own record, tokenizer and chat template included; what it does not name is not checked.

        Raises:
            BaseMismatch: the adapter was made on something else.
        """
        if (base := origin.get("base", self.fingerprint)) != self.fingerprint:
            raise BaseMismatch(
                f"adapter {digest[:12]} was made for base {origin.get('base_name', '?')!r} ({base[:12]}), not for "
                f"{self.name!r} ({self.fingerprint[:12]}); load that base, or train again"
            )
        if origin.get("task_adapter", self.task_adapter or "") != (self.task_adapter or ""):
            theirs, mine = ((d or "none")[:12] for d in (origin["task_adapter"], self.task_adapter))
            raise BaseMismatch(
                f"adapter {digest[:12]} was made on task adapter {theirs}, and {mine} is merged in here; "
                "merge its own, or train again"
            )
        if "tokenizer" in origin and origin["tokenizer"] != self.tokenizer.digest:
            raise BaseMismatch(
                f"adapter {digest[:12]} was made with another tokenizer or chat template than {self.name!r} has now; "
                "put the files back, or train again"
            )

    def with_task(self, digest: str, layout: Layout, row: Tensor) -> Base:
        """This base with a task adapter merged in. The bare base stays as it is."""
        return replace(self, model=self.model.merged(layout, row), task_adapter=digest)


def load_base(name: str | Path = EMBEDDED, *, device: str | None = None, dtype: str | None = None, lean: bool = True) -> Base:
    """Load a base by the embedded name, a folder, or a hub id.

    Args:
        name: "idiolect-tiny", a folder in Hugging Face's format, or a hub id such as "HuggingFaceTB/SmolLM2-135M".
        device: "cpu", "cuda", "cuda:1"; None: the GPU if there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16", "float64"; None: bfloat16 on an accelerator, float32 on a CPU.
        lean: False takes transformers' own modules even where the lean decoder knows the family.

    Raises:
        BaseNotFound: nothing there, no safetensors weights, or a config nobody here can read.
        ConfigError: a device or dtype that this machine does not have.
    """
    path = _find(str(name))
    where, kind = choose_device(device, dtype)
    config = _config(path, str(name))
    if getattr(config, "quantization_config", None):
        raise BaseNotFound(f"base {str(name)!r} is quantised, and its scales are not read here; give the unquantised weights")
    lean = lean and is_lean(config)
    context = context_of(config, lean)
    if lean:
        rotary = rotary_of(config, context, kind, where)
        try:
            model: Model = decoder_from(_weights(path, where, kind), config, rotary)
        except KeyError as error:
            raise BaseNotFound(f"base {str(name)!r} lacks the weights {error.args[0]}; fetch it again") from None
    else:
        from idiolect.model.general import GeneralModel

        model = GeneralModel.load(path, where, kind)
    label = EMBEDDED if str(name) == EMBEDDED else path.name if Path(name).exists() else str(name)
    return Base(label, path, fingerprint(path), model, _tokenizer(path, str(name)), context, where, kind)


def choose_device(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype]:
    """The device and dtype asked for, or the best of this machine."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("mps"):
        raise ConfigError("device 'mps' has no float64, which schedules and merging are computed in; use --device cpu")
    try:
        where = torch.device(device)
        torch.empty(1, device=where).tolist()  # the "meta" device has no numbers
    except (RuntimeError, AssertionError):
        raise ConfigError(f"device {device!r} is not on this machine; leave --device out to choose one") from None
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if dtype is not None and dtype not in known:
        raise ConfigError(f"dtype {dtype!r} is not known; choose one of: {', '.join(known)}")
    return where, known[dtype] if dtype else torch.float32 if where.type == "cpu" else torch.bfloat16


def fingerprint(path: Path) -> str:
    """SHA-256 over the config (less what does not change the function) and the weight files' own digests."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = {k: v for k, v in config.items() if k not in _VOLATILE}
    digest = hashlib.sha256(canonical_json(config).encode())
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _find(name: str) -> Path:
    """The folder of a base: embedded, local, or fetched from the hub."""
    if name == EMBEDDED:
        return Path(str(package_files("idiolect") / "assets" / EMBEDDED))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise BaseNotFound(f"base {name!r} is not a folder; give a folder in Hugging Face's format, or a hub id")
        folder = _fetch(name)
    if not (folder / "config.json").is_file():
        raise BaseNotFound(f"base {name!r} has no config.json; give a folder in Hugging Face's format")
    if not any(folder.glob("*.safetensors")):
        raise BaseNotFound(f"base {name!r} has no safetensors weights; convert them first (pickled weights are never loaded)")
    return folder


def _fetch(name: str) -> Path:
    """A base from the hub, weights and tokenizer only: no pickles, no code."""
    from huggingface_hub import snapshot_download

    wanted = [
        "*.safetensors",
        "*.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "tokenizer*",
        "*.model",
        "*.jinja",
    ]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises a dozen unrelated kinds; all mean the same here
        raise BaseNotFound(f"base {name!r} is neither a folder here nor could it be fetched ({type(error).__name__})") from None


def _config(path: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        reason = (
            "its config names a model type that transformers does not know" if isinstance(error, ValueError) else "unreadable"
        )
        raise BaseNotFound(f"base {name!r} cannot be read: config.json: {reason}") from None


def _weights(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt", device=str(device)) as tensors:
                weights |= {key: tensors.get_tensor(key).to(dtype) for key in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BaseNotFound(f"base weights {file.name} cannot be read: {str(error)[:120]}") from None
    return weights


def _tokenizer(path: Path, name: str) -> BaseTokenizer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    try:
        fast = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError):
        raise BaseNotFound(f"base {name!r} has no tokenizer that can be read; it needs tokenizer.json") from None
    if fast.eos_token_id is None:
        raise BaseNotFound(f"base {name!r} has a tokenizer without an end-of-sequence token")
    return BaseTokenizer(fast, path)
