"""Tokenizers: padding of files is turned off, truncation leaves special tokens, special tokens in a text are text."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from recjax import language
from recjax.language.tokens import read_tokenizer

from_str = tokenizers.Tokenizer.from_str


def test_padding_and_truncation_of_the_file_are_turned_off(tokenizer):
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


CORPUS = [
    f"{one} {other}" for one in ("The Third Man", "Toy Story", "Amélie", "Ünïcödé", "It's a Mad World") for other in
    ("七人の侍", "Good Morning", "##a #b [SEP]", "abcba", "Odyssey 2001", "")
]  # fmt: skip
TRAIN = """
import json, sys
from recjax import language
tokenizer = language.train_wordpiece(iter(json.loads(sys.argv[1])), 100, 16)
print(json.dumps(tokenizer.backend.get_vocab(), sort_keys=True))
"""


def test_the_same_texts_give_the_same_vocabulary_in_every_process():
    vocabulary = language.train_wordpiece(CORPUS, 100, 16).backend.get_vocab()
    assert len(vocabulary) == 100, "there are merges, and more than the letters"
    for seed in ("0", "1", "2", "random"):
        command = [sys.executable, "-c", TRAIN, json.dumps(CORPUS)]
        environment = os.environ | {"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == vocabulary


def test_a_trained_vocabulary_holds_every_letter_and_frequent_words():
    tokenizer = language.train_wordpiece([*CORPUS, "toy toy toy"], 100, 16)
    vocabulary = tokenizer.backend.get_vocab()
    assert {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}.items() <= vocabulary.items()
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert sorted(vocabulary.values()) == list(range(100))
    assert "toy" in vocabulary
    for text in CORPUS:
        assert 1 not in tokenizer([text])[0], "a word with an unknown letter"
    assert tokenizer.decode(tokenizer(["abcba toy"])[0]) == "abcba toy"
    with pytest.raises(ValueError, match=r"texts\[1\] is 3, a int"):
        language.train_wordpiece(["toy", 3], 60, 16)


def bytes_of(texts):
    """A byte-level tokenizer with two special tokens, which stand around each text."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.mark.parametrize(
    ("kind", "special", "decoded"),
    [
        ("wordpiece", ("[CLS]", "[SEP]"), "a [ sep ] b [ mask ] [ pad ]"),
        ("bytes", ("<s>", "</s>"), "a </s> b<s>"),
    ],
)
def test_the_text_of_a_special_token_is_text(kind, special, decoded, tmp_path):
    """In a file as it is published, read from disk."""
    text = {"wordpiece": "a [SEP] b [MASK] [PAD]", "bytes": "a </s> b<s>"}[kind]
    made = language.train_wordpiece([text] * 3, 80, 32).backend if kind == "wordpiece" else bytes_of([text] * 3)
    (tmp_path / "tokenizer.json").write_text(made.to_str(), encoding="utf-8")
    tokenizer = read_tokenizer(tmp_path / "tokenizer.json", 32)
    opening, closing = (made.token_to_id(token) for token in special)
    (ids,) = tokenizer([text])
    assert (ids[0], ids[-1]) == (opening, closing)
    assert not set(ids[1:-1].tolist()) & set(tokenizer.special_ids)
    assert tokenizer.decode(ids) == decoded
    (plain,) = tokenizer.without_special([text])
    np.testing.assert_array_equal(plain, ids[1:-1])
    (parsed,) = dataclasses.replace(tokenizer, parse_special=True)([text])
    assert closing in parsed[1:-1]
    np.testing.assert_array_equal(tokenizer([text])[0], ids)
