"""Changed texts: by definition what each way may change, for any text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.language import augment

SYNONYMS = {"film": ["movie", "motion picture"], "great": ["awesome"], "the": []}
texts = st.lists(st.sampled_from(["a", "the", "Film", "film", "great", "七人の侍", "-", "!"]), max_size=12).map(
    " ".join
)
anything = st.one_of(texts, st.text(st.characters(codec="utf-8"), max_size=20))
shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])
seeds = st.integers(0, 10_000)


def rng(seed):
    return np.random.default_rng(seed)


@settings(max_examples=200, deadline=None)
@given(anything, shares, seeds)
def test_texts_with_words_keep_some_and_the_same_seed_gives_the_same(text, share, seed):
    for change in (
        lambda g: augment.delete_words(text, g, share),
        lambda g: augment.swap_words(text, g, share),
        lambda g: augment.replace_synonyms(text, g, SYNONYMS, share),
        lambda g: augment.insert_synonyms(text, g, SYNONYMS, share),
        lambda g: augment.easy_augment([text], g, SYNONYMS, share=share)[0],
    ):
        found = change(rng(seed))
        assert bool(found.split()) == bool(text.split())
        assert found == change(rng(seed))
        assert text.split() or found == text


@settings(max_examples=200, deadline=None)
@given(texts, shares, seeds)
def test_each_way_changes_what_it_says(text, share, seed):
    words, count = text.split(), max(1, round(share * len(text.split())))
    remaining = iter(words)
    deleted = augment.delete_words(text, rng(seed), share).split()
    assert all(word in remaining for word in deleted), "the words that stay are in order"
    swapped = augment.swap_words(text, rng(seed), share).split()
    assert Counter(swapped) == Counter(words)
    assert sum(one != other for one, other in zip(swapped, words, strict=True)) <= 2 * count

    one_word = {"film": ["movie"], "great": ["awesome"]}
    known = [word for word in words if word.lower() in one_word]
    replaced = augment.replace_synonyms(text, rng(seed), one_word, share).split()
    changes = [(old, new) for old, new in zip(words, replaced, strict=True) if old != new]
    assert len(changes) == min(count, len(known))
    assert all(new in one_word[old.lower()] for old, new in changes)
    inserted = augment.insert_synonyms(text, rng(seed), one_word, share).split()
    assert len(inserted) == len(words) + (count if known else 0)
    assert Counter(words) <= Counter(inserted)
    assert (Counter(inserted) - Counter(words)).keys() <= {one_word[word.lower()][0] for word in known}


def test_words_are_left_out_with_their_probability():
    text = " ".join(map(str, range(10_000)))
    assert abs(len(augment.delete_words(text, rng(0), 0.3).split()) - 7000) < 4 * np.sqrt(2100)
    stays = {augment.delete_words("a b c", rng(seed), 1.0) for seed in range(50)}
    assert stays == {"a", "b", "c"}


def test_all_four_ways_are_taken_and_two_without_synonyms():
    found = augment.easy_augment(["great film"] * 200, rng(0), {"film": ["movie"]}, share=0.5)
    assert {"film great", "film", "great", "great movie", "movie great film", "great film movie"} <= set(found)
    assert {len(text.split()) for text in augment.easy_augment(["great film"] * 200, rng(0))} == {1, 2}


def test_back_translation_keeps_order_and_what_cannot_be_translated():
    seen = []

    def there(batch):
        seen.append(list(batch))
        return [text.upper() for text in batch]

    def back(batch):
        assert batch == [text.upper() for text in seen[-1]]
        return ["" if text == "B" else f"{text.lower()}!" for text in batch]

    assert augment.back_translate(["a", "", "b", " ", "c"], there, back, batch_size=2) == ["a!", "", "b", " ", "c!"]
    assert seen == [["a", "b"], ["c"]]


def test_errors():
    same = lambda batch: batch  # noqa: E731
    with pytest.raises(ValueError, match=r"share is 1.5; it must lie in \[0, 1\]"):
        augment.easy_augment(["a"], rng(0), share=1.5)
    with pytest.raises(ValueError, match=r"synonyms\['a'\] is \['b', ' '\]; .* none of them blank"):
        augment.easy_augment(["a"], rng(0), {"a": ["b", " "]})
    with pytest.raises(ValueError, match=r"synonyms\['a'\] is 'b'; it must be a list of words"):
        augment.easy_augment(["a"], rng(0), {"a": "b"})
    with pytest.raises(ValueError, match=r"texts\[0\] is 3"):
        augment.easy_augment([3], rng(0))
    with pytest.raises(ValueError, match="batch_size is 0"):
        augment.back_translate(["a"], same, same, batch_size=0)
    with pytest.raises(ValueError, match="back gave 0 texts for 1; it must give one for each"):
        augment.back_translate(["a"], same, lambda batch: [])
    with pytest.raises(ValueError, match=r"texts\[0\] is None"):
        augment.back_translate(["a"], lambda batch: [None], same)
