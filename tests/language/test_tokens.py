"""Tokens: what files say of padding is taken out, truncation keeps special tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tokenizers

from recjax import language

from_str = tokenizers.Tokenizer.from_str


def test_what_the_file_says_of_padding_and_truncation_is_taken_out(tokenizer):
    backend = from_str(tokenizer.to_json())
    plain = backend.encode("the third man and the toy story").ids
    backend.enable_padding(length=20)
    backend.enable_truncation(4)
    (ids,) = language.TextTokenizer(backend, 24)(["the third man and the toy story"])
    assert ids.dtype == np.int32
    assert ids.tolist() == plain
    assert len(plain) > 4


def test_truncation_keeps_the_special_tokens(tokenizer):
    cls, sep = (tokenizer.backend.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    (whole,) = tokenizer(["the third man and the toy story"])
    (short,) = language.TextTokenizer(from_str(tokenizer.to_json()), 5)(["the third man and the toy story"])
    assert short.tolist() == [*whole[:4], sep]
    assert short[0] == cls
    (empty,) = tokenizer([""])
    assert empty.tolist() == [cls, sep]


def test_a_shorter_copy_leaves_the_first_as_it_is(tokenizer):
    before = tokenizer(["toy " * 9])[0]
    assert len(dataclasses.replace(tokenizer, max_length=4)(["toy " * 9])[0]) == 4
    np.testing.assert_array_equal(tokenizer(["toy " * 9])[0], before)


def test_a_length_without_room_for_a_word_is_refused(tokenizer):
    with pytest.raises(ValueError, match="max_length is 2; it must be above 2, the special tokens"):
        language.TextTokenizer(from_str(tokenizer.to_json()), 2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", None], r"texts\[1\] is None, a NoneType; every text must be a str"),
        (["fine", b"bytes"], r"texts\[1\] is b'bytes', a bytes"),
        (["\ud800"], r"texts\[0\] cannot be written as UTF-8"),
        ("one string", "texts is one string, 'one string'; give a list"),
    ],
)
def test_what_is_no_text_is_said(texts, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        tokenizer(texts)


def test_there_and_back(tokenizer):
    (ids,) = tokenizer(["The third man"])
    assert tokenizer.decode(ids) == "the third man"
    assert tokenizer([]) == []
