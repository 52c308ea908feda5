"""A tokenizer for tests: one id per UTF-8 byte, so lengths are easy to see and every text decodes to itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BOS, EOS, USER, ASSISTANT = 256, 257, 258, 259


@dataclass(frozen=True)
class ByteTokenizer:
    bos_id: int | None = BOS
    eos_id: int = EOS
    chat_frame: tuple[str, str] | None = None

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_frame(self, text: str) -> list[int]:
        special = {"<u>": USER, "<a>": ASSISTANT}
        return [special[text]] if text in special else self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


RAW = ByteTokenizer()
BARE = ByteTokenizer(bos_id=None)
CHAT = ByteTokenizer(chat_frame=("<u>", "<a>"))
