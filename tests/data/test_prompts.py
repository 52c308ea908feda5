from __future__ import annotations

import pytest
from byte_tokenizer import ASSISTANT, BARE, BOS, CHAT, EOS, RAW, USER, ByteTokenizer
from hypothesis import given
from hypothesis import strategies as st

from idiolect.data.prompts import USEFUL_TOKENS, answer_ids, render, render_many, reserve_for
from idiolect.data.tasks import TASKS
from idiolect.errors import AnswerTooLongError, InputError
from idiolect.types import Example, Rendered

words = st.text(alphabet="abcdeé€ ", max_size=80)
examples = st.builds(
    Example,
    id=st.just("e1"),
    instruction=st.one_of(st.just(""), words),
    content=words,
    cue=st.text(alphabet="xyz:", min_size=1, max_size=8),
    target=st.text(alphabet="klmé", min_size=1, max_size=20),
    retrieved=st.lists(words, max_size=4).map(tuple),
    profile=st.one_of(st.none(), words),
)
tokenizers = st.sampled_from([RAW, BARE, CHAT])
budgets = st.integers(8, 400)
reserves = st.integers(1, 128)

FULL = Example("e", "Do it.\ntext:", "CONTENT", "cue:", "YES", ("doc one", "doc two"), "PROFILE")


def rendered(example: Example, tokenizer: ByteTokenizer, max_tokens: int, reserve: int, answer: bool = True) -> Rendered | None:
    try:
        return render(example, tokenizer, max_tokens, reserve=reserve, answer=answer)
    except AnswerTooLongError:
        return None


def after_prompt(tokenizer: ByteTokenizer) -> list[int]:
    return tokenizer.encode_frame(tokenizer.chat_frame[1]) if tokenizer.chat_frame else []


def test_everything_in_its_order():
    r = render(FULL, RAW, 400, reserve=8)
    assert RAW.decode(r.ids) == "PROFILE\ndoc one\ndoc two\nDo it.\ntext: CONTENT\ncue: YES"
    assert (r.ids[0], r.ids[-1], r.n_dropped) == (BOS, EOS, 0)
    assert RAW.decode(r.ids[r.n_prompt :]) == " YES"


def test_a_chat_frame_stands_around_the_turn():
    r = render(FULL, CHAT, 400, reserve=8)
    assert r.ids[0] == USER
    assert r.ids[r.n_prompt - 1] == ASSISTANT
    assert CHAT.decode(r.ids[r.n_prompt :]) == "YES"
    assert BOS not in r.ids


def test_a_base_without_bos():
    assert render(FULL, BARE, 400, reserve=8).ids[0] == ord("P")


@given(examples, tokenizers, budgets, reserves)
def test_never_longer_than_allowed_and_never_without_target_or_cue(example, tokenizer, max_tokens, reserve):
    r = rendered(example, tokenizer, max_tokens, reserve)
    if r is None:
        return
    assert len(r.ids) <= max_tokens
    assert r.ids[r.n_prompt :] == answer_ids(example.target, tokenizer)
    assert tokenizer.decode(r.ids[r.n_prompt :]).strip() == example.target
    tail = tokenizer.encode(example.cue) + after_prompt(tokenizer)
    assert list(r.ids[r.n_prompt - len(tail) : r.n_prompt]) == tail


@given(examples, tokenizers, budgets, reserves)
def test_the_served_prompt_is_the_trained_prompt(example, tokenizer, max_tokens, reserve):
    trained = rendered(example, tokenizer, max_tokens, reserve)
    served = rendered(example, tokenizer, max_tokens, reserve, answer=False)
    if trained is None:
        return
    assert served is not None
    assert served.n_answer == 0
    if trained.n_answer <= min(reserve, max_tokens // 2):
        assert served.ids == trained.ids[: trained.n_prompt]
        assert served.n_dropped == trained.n_dropped


@given(examples, tokenizers, reserves)
def test_nothing_is_cut_where_there_is_room_and_what_is_cut_is_counted(example, tokenizer, reserve):
    whole = render(example, tokenizer, 100_000, reserve=reserve)
    assert whole.n_dropped == 0
    for max_tokens in (40, 120, 300):
        r = rendered(example, tokenizer, max_tokens, reserve)
        if r is not None:
            assert r.n_dropped == len(whole.ids) - len(r.ids)


@given(examples, tokenizers, budgets, reserves)
def test_refused_only_where_the_fixed_parts_do_not_fit(example, tokenizer, max_tokens, reserve):
    bare = Example(example.id, example.instruction, "", example.cue, example.target)
    fixed = len(render(bare, tokenizer, 100_000, reserve=1).ids)
    if not example.instruction and example.content:
        fixed += 1  # the line break before the cue
    assert (rendered(example, tokenizer, max_tokens, reserve) is None) == (fixed > max_tokens)


def text_at(max_tokens: int, example: Example = FULL) -> str:
    return RAW.decode(render(example, RAW, max_tokens, reserve=5, answer=False).ids)


def test_what_goes_first():
    documents = tuple(letter * 30 for letter in "abc")
    example = Example("e", "Do:", "1234567", "cue:", "YES", documents, "PROFILE")
    whole = len(render(example, RAW, 1000, reserve=5, answer=False).ids) + 5
    assert "c" * 30 in text_at(whole, example)
    one_less = text_at(whole - 1, example)
    assert "b" * 30 in one_less
    assert "c" * 29 + "\n" in one_less
    gone = text_at(whole - (31 - USEFUL_TOKENS) - 1, example)
    assert gone == f"PROFILE\n{documents[0]}\n{documents[1]}\nDo: 1234567\ncue:"
    bare = len("xPROFILE\nDo: 1234567\ncue:") + 5
    assert text_at(bare, example) == "PROFILE\nDo: 1234567\ncue:"
    assert text_at(bare - 3, example) == "PROF\nDo: 1234567\ncue:"
    assert text_at(bare - 8, example) == "Do: 1234567\ncue:"
    assert text_at(bare - 8 - 3, example) == "Do: 1267\ncue:"


def test_a_cut_document_keeps_its_answer():
    document = "article: " + "x" * 200 + "\ncategory: sports"
    text = text_at(120, Example("e", "Do:", "C", "cue:", "YES", (document,)))
    assert text.startswith("article: x")
    assert "x\ncategory: sports\nDo: C\ncue:" in text


def test_an_answer_too_long_names_the_example_and_no_text():
    example = Example("e77", "Do:", "private", "cue:", "secret" * 20)
    with pytest.raises(AnswerTooLongError, match=r"'e77'.*122.*64") as caught:
        render(example, RAW, 64, reserve=8)
    assert "secret" not in str(caught.value)
    assert "private" not in str(caught.value)


def test_a_longer_target_takes_more_room_in_training():
    example = Example("e", "Do:", "c" * 100, "cue:", "t" * 40)
    r = render(example, RAW, 80, reserve=8)
    assert len(r.ids) == 80
    assert RAW.decode(r.ids).endswith("cue: " + "t" * 40)


def test_no_target_no_training():
    with pytest.raises(InputError, match="'e' has no answer"):
        render(Example("e", "Do:", "c", "cue:"), RAW, 80, reserve=8)


def test_render_many_counts_what_cannot_fit():
    long = Example("long", "Do:", "c", "cue:", "t" * 100)
    dropped: list[str] = []
    kept = list(render_many([FULL, long, FULL], RAW, 64, reserve=8, dropped=dropped))
    assert [r.id for r in kept] == ["e", "e"]
    assert dropped == ["long"]
    with pytest.raises(AnswerTooLongError):
        list(render_many([long], RAW, 64, reserve=8))


def test_a_reserve_holds_every_label_of_the_task():
    assert reserve_for(TASKS["LaMP-3"], RAW) == 8
    assert reserve_for(TASKS["LaMP-2N"], RAW) == len(" science & technology") + 1
    assert reserve_for(TASKS["LaMP-7"], RAW) == 128
