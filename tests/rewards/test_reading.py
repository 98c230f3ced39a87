"""How the eval policy finds a final answer: denials, bounds, lists, discussions, conclusions."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.grading.options.copied_options import without_copied_options
from kvl.rewards.grading.options.option_letters import letter_patterns
from kvl.rewards.grading.reading.denials import is_bound, is_taken_back
from kvl.rewards.types import GradeRequest, Outcome, Strictness

ANIMALS = ("cat", "dog", "cow", "pig")
LENGTHS = ("12 cm", "15 cm", "20 cm", "25 cm")
POLAR = ("Yes", "No")
TRUTH = ("True", "False")
GASES = ("氢气", "氧气", "氮气")


@pytest.fixture(scope="module")
def accepts():
    with Grader(workers=1, timeout_seconds=30, policy=Strictness.EVAL) as grader:

        def verdict(kind, gold, response, options=(), question=""):
            request = GradeRequest(response, gold, AnswerType(kind), options, question=question)
            outcome = grader.grade([request])[0].outcome
            assert outcome not in (Outcome.INVALID, Outcome.TIMEOUT)
            return outcome is Outcome.CORRECT

        yield verdict


@pytest.mark.parametrize(
    "response",
    [
        "Not C.", "It cannot be C.", "C is incorrect.", "Option C can be ruled out.", "It's not C",
        "C is definitely wrong.", "The answer isn't C.", "The answer is not \\boxed{C}.",
        "\\boxed{C} is wrong.", "Every option except C.", "C does not fit.", "The cow is wrong.",
        "It is not a cow.", "Anything but cow", "不选C", "C不正确", "C选项是错的。", "答案不是C",
        "A, B and D are right, C is not.", "None of A, B, C and D.",
    ],
)  # fmt: skip
def test_a_denied_option_is_no_choice(accepts, response):
    assert not accepts("choice", "C", response, ANIMALS)


@pytest.mark.parametrize(
    "response",
    [
        "C (or D)", "C (maybe D)", "C or D.", "C/D", "C, possibly D", "C or maybe even pig",
        "cow or pig", "It's C or D", "C, or alternatively D", "**C** or **D**", "C — or D",
        "C 或 D", "选C或D", "C和D", "C vs D", "The answer is C. cow or D. pig",
    ],
)  # fmt: skip
def test_a_second_option_beside_the_first_is_a_hedge(accepts, response):
    assert not accepts("choice", "C", response, ANIMALS)
    assert not accepts("choice", "D", response, ANIMALS)


@pytest.mark.parametrize(
    "response",
    [
        "A. cat\nB. dog\nC. cow\nD. pig", "A) cat B) dog C) cow D) pig", "cat\ndog\ncow\npig",
        "(A) cat, (B) dog, (C) cow, (D) pig", "A\nB\nC\nD", "A, B, C, D", "A/B/C/D",
        "cat, dog, cow, pig", "The options are A. cat, B. dog, C. cow and D. pig.",
        "Options:\nA. cat\nB. dog\nC. cow\nD. pig\nPlease choose one.", "A: cat; B: dog; C: cow",
    ],
)  # fmt: skip
def test_copied_options_choose_none(accepts, response):
    assert not any(accepts("choice", letter, response, ANIMALS) for letter in "ABCD")


def test_a_list_is_blanked_where_it_stands_and_nothing_else():
    text = "Options:\n(A) cat\n(B) dog\n(C) cow\n(D) pig\nIt is (C)."
    blanked = without_copied_options(text, ANIMALS)
    assert len(blanked) == len(text)
    assert blanked.split() == ["Options:", "It", "is", "(C)."]
    for kept in ("(A) cat. (B) barks", "A. cat is right", "A. cat, B. dog ✓", "A. yes, it is"):
        assert without_copied_options(kept, ANIMALS) == kept
    assert not without_copied_options("A) x + 1\nB) x + 2", ()).strip()


@pytest.mark.parametrize(
    "response",
    [
        "C. A and B have no horns, and D is a pig.", "(C). (A) has whiskers. (B) barks. (D) oinks.",
        "C\n\nA: too small\nB: barks\nD: pink", "The answer is C. A is too small. B barks.",
        "Option C is right. Option A is wrong since cats meow.", "选C。A错误，B错误，D错误。",
        "选C，A、B、D都不对。", "A项错误；B项错误；C项正确；D项错误。", "A错，B错，D错，选C",
        "A and B are incorrect, so C.", "While A is tempting, C is the correct answer.",
        "A is a cat, so no. B barks. C it is.", "Not A but C.", "That leaves C.", "Only C moos.",
        "A. cat - no.\nB. dog - no.\nC. cow - yes.\nD. pig - no.\n\nHence it is a cow.",
        "The answer isn't A or B or D. It's C.", "I am not certain, but C.",
    ],
)  # fmt: skip
def test_other_options_may_be_discussed(accepts, response):
    assert accepts("choice", "C", response, ANIMALS)
    assert not accepts("choice", "A", response, ANIMALS)


@pytest.mark.parametrize(
    "response",
    [
        "It moos. C", "The animal moos.\n\n**C**", "The animal moos.\n\n(C).", "It moos → C",
        "The right letter is C", "I'd say C.", "It's C", "Final answer - C", "The cow, option C",
    ],
)  # fmt: skip
def test_a_bare_letter_may_trail_the_sentence(accepts, response):
    assert accepts("choice", "C", response, ANIMALS)
    assert not accepts("choice", "B", response, ANIMALS)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("3 times 5 is 15, so the length is 15 cm.", True),
        ("12 + 3 = 15 cm", True),
        ("The sides are 12 cm and 25 cm, so x = 15 cm.", True),
        ("With sides of 12 cm and 20 cm the answer is 15 cm.", True),
        ("It is between 12 cm and 20 cm", False),
        ("at least 15 cm", False),
        ("15 cm is wrong", False),
        ("more than 15 cm", False),
    ],
)
def test_an_option_may_be_named_by_its_value(accepts, response, right):
    assert accepts("choice", "B", response, LENGTHS) is right


def test_an_option_may_be_named_by_its_chinese_text(accepts):
    assert accepts("choice", "B", "带火星的木条复燃，说明是氧气。", GASES)
    assert not accepts("choice", "B", "这种气体不是氧气。", GASES)


def test_words_are_no_letters_however_many_options_there_are():
    patterns = letter_patterns("ABCDEFGHIJKLMNOP")
    opening = patterns.opening.match("L. twelve")
    closing = patterns.closing.search("It is the last one. P")
    assert opening is not None
    assert closing is not None
    assert (opening["bare"], closing[1]) == ("L", "P")
    assert not patterns.opening.match("I think it is a hen.")
    assert not patterns.stated.search("I believe so. It is a cow.")
    assert not letter_patterns("ABCD").closing.search("At the point P")


@pytest.mark.parametrize(
    ("options", "gold", "response", "right"),
    [
        (POLAR, "A", "Therefore, yes, it is continuous.", True),
        (POLAR, "A", "Yes or no", False),
        (POLAR, "A", "yes/no", False),
        (POLAR, "A", "Maybe yes, maybe no", False),
        (POLAR, "A", "Not yes.", False),
        (POLAR, "B", "It has a jump at 0. Therefore, no.", True),
        (TRUTH, "B", "The statement is false.", True),
        (TRUTH, "B", "That isn't correct.", True),
        (TRUTH, "B", "The statement cannot be true.", True),
        (TRUTH, "B", "It is not false.", False),
        (("Yes", "No", "Can't tell"), "C", "I can't tell from the picture.", True),
        (("left", "right"), "A", "The left one is right, I mean correct.", False),
    ],
)
def test_yes_and_no_as_options(accepts, options, gold, response, right):
    assert accepts("choice", gold, response, options) is right


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("Yes, because the sides match.", True),
        ("The statement is not correct.", False),
        ("It is not the case that the sides match.", False),
        ("是的。", True),
        ("该命题为真。", True),
        ("这个说法是错误的。", False),
        ("The triangles match, so the answer is yes.", True),
        ("Yes or no", None),
        ("Yes and no.", None),
        ("是或否", None),
        ("Yes... actually no.", None),
    ],
)
def test_what_a_sentence_says_of_a_proposition(accepts, response, said):
    assert accepts("bool", "yes", response) is (said is True)
    assert accepts("bool", "no", response) is (said is False)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("Magenta is greater than Web Maroon.", "A"),
        ("Based on the image, Magenta is greater than Web Maroon.", "A"),
        ("Magenta is not greater than Web Maroon.", "B"),
        ("Web Maroon is greater than Magenta.", None),
        ("Magenta is less than Web Maroon.", None),
        ("It is not possible to say whether Magenta is greater than Web Maroon.", None),
    ],
)
def test_a_restated_question_answers_it(accepts, response, letter):
    question = "Is Magenta greater than Web Maroon?"
    for one in "AB":
        assert accepts("choice", one, response, POLAR, question) is (one == letter)


@pytest.mark.parametrize(
    "response",
    [
        "12 is wrong", "It's not 12", "12 is not the answer.", "The answer cannot be 12",
        "at least 12", "more than 12", "over 12", "up to 12", "12 or more", "12+", "10 to 12",
        "between 10 and 12", "10, 11 and 12", "10\n11\n12", "- 10\n- 11\n- 12", "1. 10\n2. 12",
        "不是12", "12不对", "至少12", "超过12", "12以上", "可能是10或12", "10到12", "≥12",
        "\\boxed{12} is wrong", "The answer is at least $12$", "The answer is not 12. It is 13.",
        "12 apples is wrong", "anything but 12",
    ],
)  # fmt: skip
def test_a_denied_or_bounded_value_is_no_answer(accepts, response):
    assert not accepts("number", "12", response)


@pytest.mark.parametrize(
    "response",
    [
        "It is 12, not 13.", "Not 13 but 12.", "The answer is not 13. It is 12.",
        "13 is wrong; the answer is 12.", "The smallest number is 12.",
        "The total is at least 10, and the answer is 12.",
        "With sides of 4 and 3, the area of the rectangle is 12.", "5 and 7 make 12",
        "A rectangle with length 4 and width 3 has an area of 12.",
        "So 3 boxes with 4 pens each contain 12 pens.", "In total, 12 of the 30 students play.",
        "He spent 3 dollars on 4 days, which makes 12 dollars.",
        "Anna has 5 apples and Ben has 7, so together they have 12 apples.",
        "当a=3，b=4时，ab的值为12。", "小明有5个苹果，小红有7个，一共有12个。",
    ],
)  # fmt: skip
def test_a_result_beside_givens_and_denials_is_found(accepts, response):
    assert accepts("number", "12", response)
    assert not accepts("number", "4", response)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("The city is “Paris”.", True), ("The city is called 'Paris'.", True),
        ("It is Paris, not Lyon.", True), ("Paris, France", True), ("Not Lyon but Paris.", True),
        ("It isn't Paris", False), ("Paris is wrong.", False), ("Lyon rather than Paris", False),
        ("Paris or Lyon", False), ("Lyon and Paris", False), ("Lyon, Nice, Paris", False),
        ("1. Lyon\n2. Nice\n3. Paris", False), ("Lyon\nNice\nParis", False),
    ],
)  # fmt: skip
def test_a_text_is_said_and_not_denied_or_listed(accepts, response, right):
    assert accepts("text", "Paris", response) is right


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("这是三角形。", True), ("它是三角形，因为有三条边。", True), ("“三角形”", True),
        ("这不是三角形。", False), ("正方形、三角形", False), ("三角形是错的", False),
    ],
)  # fmt: skip
def test_a_chinese_text_inside_a_sentence(accepts, response, right):
    assert accepts("text", "三角形", response) is right


def test_an_expression_may_be_denied_as_well(accepts):
    assert accepts("expression", "2\\sqrt{3}", "It is $2\\sqrt3$, not $3\\sqrt2$.")
    assert not accepts("expression", "2\\sqrt{3}", "It is not $2\\sqrt{3}$.")
    assert not accepts("expression", "2\\sqrt{3}", "It is more than $2\\sqrt{3}$.")


def test_denials_and_bounds_are_told_from_other_words():
    assert is_taken_back("7 is wrong", 0, 1)
    assert not is_taken_back("7 is not even", 0, 1)
    assert is_bound("at least 7", 9, 10)
    assert not is_bound("the least is 7", 13, 14)
