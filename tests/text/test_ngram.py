"""n-grams: probabilities by hand, normalisation, and ARPA files."""

import gzip
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.settings import UserError
from gru_audio.text.ngram import BEGIN, END, UNKNOWN, Ngram, count, read_arpa, write_arpa

TEXTS = ["a b", "a b c", "b", "c a b a"]
SENTENCES = st.lists(st.lists(st.sampled_from("abcd")).map(" ".join), min_size=1, max_size=6)


def test_a_bigram_by_hand():
    """Of "a b" and "a": a unigram (a a b end end), five tokens of three types, and 1/4 each."""
    found = count(["a b", "a"], order=2)
    unigram = {word: (n + 3 / 4) / (5 + 3) for word, n in {"a": 2, "b": 1, END: 2}.items()}
    assert found.log_prob((), "a") == pytest.approx(math.log(unigram["a"]))
    assert found.log_prob((), "other") == pytest.approx(math.log(3 / 4 / 8))
    after_a = (1 + 2 * unigram["b"]) / (2 + 2)  # "a" is followed by "b" and by the end
    assert found.log_prob(("a",), "b") == pytest.approx(math.log(after_a))
    assert found.log_prob(("a",), "a") == pytest.approx(math.log(2 / 4 * unigram["a"]))
    assert found.words == {"a", "b"}


@pytest.mark.parametrize("order", [1, 2, 3])
@given(SENTENCES)
def test_probabilities_after_any_context_sum_to_one(order, texts):
    found = count(texts, order)
    words = [*found.words, END, UNKNOWN]
    for length in range(order):
        for context in itertools.product([BEGIN, "a", "b", UNKNOWN], repeat=length):
            assert sum(math.exp(found.log_prob(context, w)) for w in words) == pytest.approx(1)


def test_a_sentence_is_the_product_of_its_words():
    found = count(TEXTS, order=3)
    context, expected = (BEGIN,), 0.0
    for word in ("a", "b", "c", END):
        expected += found.log_prob(context, word)
        context = (*context, word)[-2:]
    assert found.sentence(["a", "b", "c"]) == pytest.approx(expected)
    assert found.sentence(["a", "b"]) > found.sentence(["b", "a"]) > found.sentence(["x", "a"])
    assert found.start == (BEGIN,) and count(TEXTS, 1).start == ()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("compress", [False, True])
def test_an_arpa_file_comes_back(tmp_path, order, compress):
    path, found = tmp_path / "x.arpa", count(TEXTS, order)
    write_arpa(path, found)
    if compress:
        path.write_bytes(gzip.compress(path.read_bytes()))
    again = read_arpa(path)
    assert again.order == order and again.words == found.words
    for words in itertools.product(["a", "b", "other"], repeat=3):
        assert again.sentence(words) == pytest.approx(found.sentence(words), abs=1e-5)


ARPA = """made by hand

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.5
-0.25 a -0.125
-1 </s>
-2 <UNK>

\\2-grams:
-0.75 <s> a
-0.5 a </s>

\\end\\
"""


def test_backoff_by_hand(tmp_path):
    path = tmp_path / "x.arpa"
    path.write_text(ARPA)
    found = read_arpa(path)
    assert found.log_prob((BEGIN,), "a") == pytest.approx(-0.75 * math.log(10))
    assert found.log_prob(("a",), "a") == pytest.approx((-0.125 - 0.25) * math.log(10))
    assert found.log_prob((BEGIN,), "x") == pytest.approx((-0.5 - 2) * math.log(10))
    assert Ngram(1, {("a",): 0.0}, {}).log_prob((), "x") == pytest.approx(-100 * math.log(10))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"line \d+: there is no .data"),
        ("ngram 2=2", "ngram 3=2", "line 5: .ngram 2=. and a number"),
        ("ngram 2=2", "ngram 2=1000000000", "1000000004 n-grams of 2 orders"),
        ("ngram 2=2", "ngram 2=3", "line 17: an n-gram has a number, 2 words"),
        ("ngram 2=2", "ngram 2=1", "line 15: .*should be here"),
        ("-0.25 a", "nan a", 'line 9: "nan" is not a number'),
        ("-0.25 a", "0.25 a", "line 9: the logarithm of a probability is at most 0"),
        ("-0.75 <s> a", "-0.75 a", "line 14: an n-gram has a number, 2 words"),
        ("-0.75 <s> a", "-0.75 a </s>", 'line 15: "a </s>" is there twice'),
        ("\\end\\", "", "should be here"),
        ("-0.25 a", "-0.25 " + "a" * 20000, "line 9: the line is too long"),
    ],
)
def test_a_damaged_arpa_file_is_refused_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "x.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_arpa(path)


def test_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "x.arpa"
    for content in (b"\\data\\\nngram 1=1\n\\1-grams:\n-1 \xff\n", gzip.compress(b"x")[:15], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.arpa"):
            read_arpa(path)
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="Cannot read the language model"):
            read_arpa(place)
    with pytest.raises(UserError, match="needs texts"):
        count([])
