"""Answers are scored as a loop over single texts without padding scores them, and learned alone."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest
import tokenizers

from recjax import fit, language

PROMPTS = [
    "Will the toy story end?",
    "M",
    "Is it a mad, mad, mad world?",
    "Good morning",
    "2001 " * 30 + "a space odyssey?",
]
ANSWERS = ["the third man", "a toy", "vietnam", "it's"]
LENGTH = 24


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request, models, tokenizer):
    """The decoders whose logits are compared with PyTorch's elsewhere, with a tokenizer."""
    return dataclasses.replace(models[request.param], tokenizer=tokenizer)


def alone(model, prompt, answer, longest):
    """``-log p`` of each token of an answer, by one text without a mask, and NumPy in float64."""
    backend = type(model.tokenizer.backend).from_str(model.tokenizer.to_json())
    backend.no_truncation()
    asked, said = (backend.encode(one, add_special_tokens=False).ids for one in (prompt, answer))
    start = backend.token_to_id("[CLS]")
    ids = np.array([start, *asked[-(LENGTH - 1 - longest) :], *said])
    # Later tokens do not change the logits of a token.
    logits = np.asarray(logits_of(model.module, model.params, np.pad(ids, (0, LENGTH - len(ids)))[None])[0], np.float64)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    at = np.arange(len(ids) - len(said), len(ids))
    return -log_p[at - 1, ids[at]]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(module, params, ids):
    return module.apply(params, module.apply(params, ids), method="logits")


@pytest.fixture(scope="module")
def token_losses(decoder):
    """Of each prompt and answer, of each token."""
    longest = max(map(len, decoder.tokenizer.without_special(ANSWERS)))
    assert longest > 2
    return [[alone(decoder, prompt, answer, longest) for answer in ANSWERS] for prompt in PROMPTS]


def test_scores_are_those_of_one_text_at_a_time(decoder, token_losses):
    expected = -np.array([[each.sum() for each in row] for row in token_losses])
    found = language.score_answers(decoder, PROMPTS, ANSWERS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found.dtype == np.float32
    shares = np.exp(language.score_answers(decoder, PROMPTS, ANSWERS, normalize=True))
    np.testing.assert_allclose(shares, np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True), rtol=1e-3)
    # One token each: nothing is read after the prompt.
    short = language.score_answers(decoder, PROMPTS, ["toy", "man"])
    np.testing.assert_allclose(short[0, 1], -alone(decoder, PROMPTS[0], "man", 1).sum(), rtol=1e-4)


def test_neither_the_order_nor_the_batches_matter(decoder):
    found = language.score_answers(decoder, PROMPTS, ANSWERS)
    for size in (1, 2):
        np.testing.assert_allclose(language.score_answers(decoder, PROMPTS, ANSWERS, batch_size=size), found, rtol=1e-5)
    swapped = language.score_answers(decoder, PROMPTS[::-1], ANSWERS[::-1])
    np.testing.assert_allclose(swapped[::-1, ::-1], found, rtol=1e-5)
    assert language.score_answers(decoder, [], ANSWERS).shape == (0, 4)


def test_of_a_long_prompt_the_end_is_read(decoder):
    long = "toy " * 50 + "the third man?"
    same = "vietnam " * 50 + "toy " * LENGTH + "the third man?"
    other = "toy " * 50 + "the third toy?"
    found = language.score_answers(decoder, [long, same, other], ANSWERS)
    np.testing.assert_array_equal(found[0], found[1])
    assert abs(found[0] - found[2]).max() > 1e-3


def test_the_loss_is_the_mean_over_the_tokens_of_answers_alone(decoder, token_losses):
    """In evaluation and in training, whose first epoch, without a step worth the name, is one of evaluation."""
    pairs = [(prompt, ANSWERS[row % 4]) for row, prompt in enumerate(PROMPTS)]
    losses = np.concatenate([token_losses[row][row % 4] for row in range(len(PROMPTS))])
    for size in (2, 32):
        found = language.evaluate_text(decoder, pairs, "answers", batch_size=size).loss
        np.testing.assert_allclose(found, losses.mean(), rtol=1e-4)
    config = language.TextConfig(
        "answers", batch_size=5, learning_rate=1e-12, schedule="constant", weight_decay=0.0, num_buckets=2, dropout=0.0
    )
    (row,) = language.fit_text(decoder, pairs, config, key=jax.random.key(0)).history
    np.testing.assert_allclose(row["loss"], losses.mean(), rtol=1e-4)


def test_low_rank_changes_learn_what_users_like(tokenizer):
    """They like toys and stories, whatever they liked before; the answers have two tokens and more."""
    words = ("toy", "man", "story", "space")
    asked = [(f"{liked} {seen}. {candidate}?", candidate in ("toy", "story")) for liked in words for seen in words
             for candidate in words]  # fmt: skip
    pairs = [(prompt, " the third" if yes else " a mad") for prompt, yes in asked]
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "feed_forward": 32, "initializer_range": 0.3}
    config = language.LanguageConfig("llama", vocab_size=61, max_length=LENGTH, **shape)
    model = language.initialize(config, jax.random.key(0), tokenizer)
    adaptation = fit.chain(
        fit.lora(4, lambda path: path[-2] in ("query", "value", "up"), stacked=language.in_layers),
        fit.only(lambda path: "words" in path),
    )
    training = language.TextConfig(
        "answers", epochs=30, batch_size=16, learning_rate=0.02, num_buckets=1, weight_decay=0.0
    )
    fitted = language.fit_text(model, pairs, training, key=jax.random.key(1), adaptation=adaptation)
    scores = language.score_answers(
        fitted.model, [prompt for prompt, _ in asked], [" the third", " a mad"], normalize=True
    )
    likes = np.array([yes for _, yes in asked])
    assert scores[likes, 0].min() > scores[~likes, 0].max(), "an AUC of 1"
    assert language.evaluate_text(fitted.model, pairs, "answers").loss < 0.3
    assert fitted.num_trained < model.num_params


def test_prompts_about_users():
    found = language.preference_prompt([], ["Heat"], "Alien", "{disliked} {{so}} {candidate}?")
    assert found == '"Heat" {so} "Alien"?'
    for template, fields in (("{liked}?", "liked"), ("{candidate} {user}", "candidate', 'user")):
        with pytest.raises(ValueError, match=rf"fields \['{fields}'\]; it needs {{candidate}}"):
            language.preference_prompt([], [], "Alien", template)


def test_what_tokenizers_say_without_special_tokens(tokenizer):
    """However long the text: the tokenizer cuts it, and nothing is lost."""
    long = "the third man and the toy story " * 12
    backend = type(tokenizer.backend).from_str(tokenizer.to_json())
    backend.no_truncation()
    found, none = tokenizer.without_special([long, ""])
    np.testing.assert_array_equal(found, backend.encode(long, add_special_tokens=False).ids)
    assert len(found) > 3 * LENGTH
    assert none.shape == (0,)
    assert tokenizer.opening.tolist() == [backend.token_to_id("[CLS]")]


@pytest.mark.parametrize(
    ("prompts", "answers", "options", "message"),
    [
        (["toy"], [], {}, r"answers is empty; give one or more, such as \(' Yes', ' No'\)"),
        (["toy"], ["man", ""], {}, r"answers\[1\] is '', which has no tokens; give a text such as ' Yes'"),
        (["toy", 3], ["man"], {}, r"prompts\[1\] is 3, a int; every text must be a str"),
        ("toy", ["man"], {}, r"prompts is one string, 'toy'; give a list"),
        (["toy"], "man", {}, r"answers is one string, 'man'; give a list"),
        (["toy"], ["toy " * 23], {}, r"An answer has \d+ tokens, which leaves no room for a prompt in the 24 tokens"),
        (["toy"], ["man"], {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    ],
)
def test_errors(prompts, answers, options, message, decoder):
    with pytest.raises(ValueError, match=message):
        language.score_answers(decoder, prompts, answers, **options)


def test_errors_of_models(small, decoder):
    with pytest.raises(ValueError, match="'answers', but 'bert' attends to later tokens; use 'masked', or a decoder"):
        language.score_answers(small, ["toy"], ["man"])
    with pytest.raises(ValueError, match="'answers', but 'bert' attends to later tokens"):
        language.fit_text(small, [("toy", "man")], language.TextConfig("answers"), key=jax.random.key(0))
    with pytest.raises(ValueError, match="The model has no tokenizer"):
        language.score_answers(dataclasses.replace(decoder, tokenizer=None), ["toy"], ["man"])
    with pytest.raises(ValueError, match=r"texts\[0\] is 'toy'; objective 'answers' needs two texts"):
        language.fit_text(decoder, ["toy"], language.TextConfig("answers"), key=jax.random.key(0))


def test_a_prompt_without_tokens_asks_nothing(decoder):
    """Where no special token stands before it, as in GPT-2 and SmolLM2."""
    backend = type(decoder.tokenizer.backend).from_str(decoder.tokenizer.to_json())
    backend.post_processor = tokenizers.processors.Sequence([])
    model = dataclasses.replace(decoder, tokenizer=language.TextTokenizer(backend, LENGTH))
    assert model.tokenizer.opening.shape == (0,)
    with pytest.raises(ValueError, match=r"prompts\[1\] is '', which has no tokens; give a text that asks"):
        language.score_answers(model, ["toy", ""], ["man"])
