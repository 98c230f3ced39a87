from kvl.rewards.plugins.registry import find
from kvl.rewards.testing import check_reward, grade, make_batch, make_sample


def test_brevity_keeps_the_contract():
    check_reward("brevity", {"max_words": 3})


def test_same_language_keeps_the_contract():
    check_reward("same_language")


def test_long_answers_get_less():
    batch = make_batch(make_sample("7"), make_sample("7 because three and four make seven"))
    short, long = grade(find("brevity"), {"max_words": 2}, batch)
    assert short == 1.0
    assert isinstance(long, float)
    assert 0.0 < long < 0.5


def test_a_chinese_answer_to_an_english_question_gets_nothing():
    batch = make_batch(make_sample("7"), make_sample("七"))
    assert list(grade(find("same_language"), {}, batch)) == [1.0, 0.0]
