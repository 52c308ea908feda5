"""Frozen values that two layers name. No torch, no I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def canonical_json(value: Any) -> str:
    """The one spelling of a value that digests are taken of: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256, in hexadecimal, of bytes or of a value's canonical JSON."""
    data = value if isinstance(value, bytes) else canonical_json(value).encode()
    return hashlib.sha256(data).hexdigest()


def has_surrogate(text: str) -> bool:
    """Whether text holds half a surrogate pair, which no UTF-8 has: what bytes of another encoding are read as."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed that depends on every part and on nothing else.

    Random streams are keyed by what they are for, e.g. (seed, person, "order", epoch), so that no result depends on
    batch mates, slots, workers or the point of resumption.
    """
    packed = canonical_json([str(p) for p in parts]).encode()
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


def date_key(date: str | None) -> tuple[int, ...]:
    """The integers of a date, for sorting: `2018-03-02` → (2018, 3, 2). No date sorts first, as LaMP does it."""
    return tuple(int(n) for n in re.findall(r"\d+", date)) if date else ()


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a person wrote, chose or rated. `fields` holds the task's fields as text (LaMP's names)."""

    id: str
    fields: Mapping[str, str]
    date: str | None = None
    """ISO 8601 date or date-time, or a bare year."""


@dataclass(frozen=True, slots=True)
class Query:
    """Something asked on behalf of a person; `gold` is what they really answered, where known."""

    id: str
    input: str
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """A person's history, oldest item first, and queries that are later than all of it."""

    id: str
    history: tuple[Item, ...]
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the renderer takes it, before it becomes tokens.

    The text is `profile`, then `retrieved` (most relevant first), then `instruction`, `content`, `cue`; the answer
    follows the cue. Where all of it does not fit, retrieved items go first (the least relevant first), then the profile,
    then the middle of `content`; never the cue, never the target.
    """

    id: str
    instruction: str
    content: str
    cue: str
    target: str | None = None
    retrieved: tuple[str, ...] = ()
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as tokens: `ids[:n_prompt]` is the prompt, the rest is the answer and the end-of-sequence token."""

    id: str
    ids: tuple[int, ...]
    n_prompt: int
    n_dropped: int = 0
    """Tokens of retrieved items, profile and content that did not fit."""

    @property
    def n_answer(self) -> int:
        return len(self.ids) - self.n_prompt


class Tokenizer(Protocol):
    """What the renderer needs of a base's tokenizer."""

    @property
    def bos_id(self) -> int | None:
        """Put before raw text, where the base was trained with one."""
        ...

    @property
    def eos_id(self) -> int:
        """Ends every answer."""
        ...

    @property
    def chat_frame(self) -> tuple[str, str] | None:
        """(before, after): what the chat template puts around a user's turn, up to the assistant's; None: raw text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens are only read from text where `encode_frame` is called instead."""
        ...

    def encode_frame(self, text: str) -> list[int]:
        """Token ids of template text, in which special tokens count as such."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text, special tokens left out."""
        ...


Retriever = Literal["none", "bm25", "recency", "random"]
AdapterKind = Literal["user", "task", "pooled", "assembled"]


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """Where an adapter came from and what it fits. Every field counts towards its digest.

    Attributes:
        kind: "user" belongs to one person; "task" is stage 1's, made from base users only; "pooled" is an evaluation's
            control, made from all its targets, and never in use; "assembled" belongs to one person too, and is made of pieces.
        user_id: whose it is; None for a task adapter and a pooled one.
        base: fingerprint of the base (config and weights).
        task_adapter: digest of the task adapter merged under it; None where stage 2 ran on the bare base.
        targets: target modules by their last name, e.g. ("q_proj", "v_proj").
        history: SHA-256 over (item id, item content) in training order; lineage without the text itself.
        settings: the training settings, all of them.
    """

    kind: AdapterKind
    task: str
    base: str
    base_name: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    user_id: str | None = None
    task_adapter: str | None = None
    retriever: Retriever = "none"
    k: int = 0
    profile: bool = False
    item_ids: tuple[str, ...] = ()
    history: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> AdapterManifest:
        known = dict(value)
        known["targets"] = tuple(known["targets"])
        known["item_ids"] = tuple(known.get("item_ids", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine answered.

    Attributes:
        text: the answer, without special tokens.
        ids: the answer's tokens, end of sequence left out.
        scores: for a label task, log-probability of each label in the task's order; else empty.
        finish: "stop" (end-of-sequence or label) or "length".
    """

    id: str
    text: str
    n_prompt: int
    n_answer: int
    finish: Literal["stop", "length"]
    ids: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
