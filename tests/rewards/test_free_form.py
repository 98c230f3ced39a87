"""The eval policy: how benchmarks' free-form responses are read, in English and Chinese."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness

ANIMALS = ("a hawk", "garter snakes", "grasshoppers", "plants increase", "nothing happens")
LENGTHS = ("12 cm", "15 cm", "$\\frac{7}{2}$ cm", "$6:\\pi$", "$5\\sqrt{3}$ m")
POLAR = ("Yes", "No")
TEN = tuple(f"item {number}" for number in range(10, 20))


@pytest.fixture(scope="module")
def grade():
    with Grader(workers=1, timeout_seconds=30, policy=Strictness.EVAL) as grader:

        def verdict(kind, gold, response, options=(), precision=None):
            request = GradeRequest(response, gold, AnswerType(kind), tuple(options), precision)
            return grader.grade([request])[0]

        yield verdict


@pytest.mark.parametrize(
    ("gold", "options", "response"),
    [
        ("B", LENGTHS, "B"),
        ("B", LENGTHS, "(B)"),
        ("B", LENGTHS, "(B) 15 cm"),
        ("B", LENGTHS, "B. 15 cm"),
        ("B", LENGTHS, "B - 15 cm"),
        ("B", LENGTHS, "**B**"),
        ("B", LENGTHS, "15 cm"),
        ("B", LENGTHS, "The length is 15 cm."),
        ("B", LENGTHS, "Adding gives 15.\n\nAnswer: B"),
        ("B", LENGTHS, "The answer is (B).\n\nFirst we add 12 and 3, which is 15."),
        ("B", LENGTHS, "So $x = \\boxed{\\textbf{(B)}\\ 15}$."),
        ("B", LENGTHS, "\\boxed{\\text{B}}"),
        ("B", LENGTHS, "The answer is \\boxed{(b)}."),
        ("B", LENGTHS, "<answer>B</answer>"),
        ("B", LENGTHS, "【解析】略 <eoe>\n【答案】B <eoa>"),
        ("B", LENGTHS, "经过计算，所以答案是B。"),
        ("B", LENGTHS, "因此选B"),
        ("B", LENGTHS, "综上，正确答案为（B）"),
        ("B", LENGTHS, "Therefore, option (B) is the correct answer."),
        ("B", LENGTHS, "This corresponds to (B) 15 cm."),
        ("B", LENGTHS, "Option A is incorrect. The correct option letter is B."),
        ("C", LENGTHS, "$\\boxed{\\frac{7}{2}}$.The answer is: \\frac{7}{2}"),
        ("D", LENGTHS, "The ratio is $\\boxed{\\frac{6}{\\pi}}$."),
        ("E", LENGTHS, "The height of the tree is 5√{3}m."),
        ("C", ANIMALS, "The most affected would be the grasshoppers, as they feed hawks."),
        ("D", ANIMALS, "If caterpillars decrease, plants will increase."),
        ("B", POLAR, "No, this is not a periodic function."),
        ("A", POLAR, "Yes. The pizza is square."),
        ("A", POLAR, "A\nThe car is larger than the bus."),
        ("B", LENGTHS, "I would choose B."),
        ("B", LENGTHS, "我选择B。"),
        ("B", LENGTHS, "So, B."),
        ("B", LENGTHS, "The correct letter is B."),
        ("B", LENGTHS, "The option that matches is B."),
        ("C", ANIMALS, "It is grasshoppers, not garter snakes."),
        ("J", TEN, "Answer: J"),
        ("J", TEN, "It must be item 19."),
        ("(b)", (), "The answer is (b)"),
    ],
)
def test_a_choice_is_recognised(grade, gold, options, response):
    assert grade("choice", gold, response, options).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "options", "response"),
    [
        ("B", LENGTHS, "A"),
        ("B", LENGTHS, "(A) 15 cm"),
        ("B", LENGTHS, "A or B"),
        ("B", LENGTHS, "The answer is (B) or (C)"),
        ("B", LENGTHS, "B and D"),
        ("B", LENGTHS, "(A) 12 cm (B) 15 cm (C) 7/2 cm"),
        ("B", LENGTHS, "Between 12 cm and 15 cm."),
        ("B", LENGTHS, "\\boxed{16}"),
        ("B", LENGTHS, "Option B is incorrect, since the sum is odd."),
        ("B", LENGTHS, "The answer is neither A nor B."),
        ("C", ANIMALS, "It is not the grasshoppers."),
        ("B", LENGTHS, "15 km"),
        ("B", LENGTHS, ""),
        ("I", TEN, "I'm sorry, I can't assist with that."),
        ("A", ANIMALS, "A cat would be my guess."),
        ("B", ANIMALS, "Both the garter snakes and the grasshoppers."),
        ("A", POLAR, "The question does not provide enough information to answer yes or no."),
        ("B", POLAR, "There is not enough information."),
        (
            "B",
            LENGTHS,
            "Let us first consider (B). The sides are 3 and 4, and then we have to ad",
        ),
    ],
)
def test_no_choice_several_choices_and_refusals_are_not_correct(grade, gold, options, response):
    assert grade("choice", gold, response, options).outcome in (
        Outcome.INCORRECT,
        Outcome.NO_ANSWER,
    )


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("5", "5"),
        ("5", "There are 5 objects left."),
        ("5", "So, five objects are left."),
        ("5", "10 - 3 - 2 = 5\n\nSo, there are 5 objects left."),
        ("5", "The mode of the numbers is '5'."),
        ("5", "It is 5 because 3 of the 8 are gone."),
        ("5", "There are **5 balls** left out of 12.\n\nLet me know if you have questions."),
        ("2019", "The share is highest in **2019**, with 25.8%.\n\nIn 2018 it was 23.1%."),
        ("12", "**Answer: 12**"),
        ("12", "The answer is **12**."),
        ("12", "**Final Answer:**\n\n$$12$$"),
        ("8:30", "The clock shows 8:30."),
        ("162", "54*3=<<54*3=162>>162 books\nA: 162"),
        ("18", "Step 1: 9 * 2 = 18\nStep 2: #### 18"),
        ("-3", "The temperature is −3."),
        ("162000", "There are $\\boxed{162,000}$ likes."),
        ("1000.99", "1000,99"),
        ("1000", "1 000"),
        ("36", "\\boxed{\\$36}"),
        ("36", "She has $36 left."),
        ("12", "\\boxed{12\\%}"),
        ("0.5", "\\frac{1}{2}"),
        ("4.2", "\\[\\boxed{BF = 4.2}.\\]"),
        ("576", "$\\boxed{24*24 = 576}$ ways"),
        ("15", "The answer is \\boxed{15.}"),
        ("305", "three hundred and five"),
        ("12", "一共有十二个。"),
        ("5", "答案是5个。"),
        ("35.8", "The distance is about 35.794 m.\nThe answer is 35.794 m"),
        ("30°", "<think>It is half of 60.</think> <answer>30</answer>"),
        ("16π平方米", "\\boxed{16\\pi}"),
        ("1.5m", "<answer>1.5</answer>"),
        ("\\frac{1}{4}", "<answer>1:4</answer>"),
        ("x > 5", "Therefore $x \\gt 5$ is the solution."),
        ("(-793, 10)", "$-793 < a < 10$"),
        ("12\\text{ and }13", "\\boxed{12} and \\boxed{13}"),
        ("\\{1,2,3\\}", "The set is \\boxed{1, 2, 3}."),
    ],
)
def test_a_value_is_found_in_what_the_response_concludes(grade, gold, response):
    assert grade("expression", gold, response).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("5", "6"),
        ("5", "It is 5 or 6."),
        ("5", "Maybe it is 5, maybe 6."),
        ("5", "The answer lies between 5 and 7."),
        ("5", "The answer is not 5."),
        ("5", "The value is less than 5."),
        ("5", "The answer cannot be 5."),
        ("12", "The answer is 12 or more."),
        ("5", "The answer is 5x + 3."),
        ("2", "The answer is 2π."),
        ("5", "There are 5 cats and 6 dogs. In total there are 11 animals."),
        ("5", "The question does not provide enough information."),
        ("5", "We first note that 5 of the shapes are red, and the remaining ones are "),
        ("5", "The answer is 5. Wait, the answer is 6."),
        ("5", "<think>5, so 5 it is"),
        ("10.0", "10√{2}"),
        ("12", "1200 %"),
        ("7", "day7"),
        ("40 cm", "The length is 40 km."),
        ("15π", "37.68"),
        ("2√{3}m", "3.0"),
    ],
)  # fmt: skip
def test_hedges_cut_off_responses_and_other_values_are_not_correct(grade, gold, response):
    assert grade("number", gold, response).outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER)


def test_the_last_commitment_counts(grade):
    assert grade("number", "6", "The answer is 5. Wait, the answer is 6.").accuracy == 1.0
    assert grade("number", "6", "\\boxed{5} ... no: \\boxed{6}").accuracy == 1.0


def test_a_benchmarks_precision_widens_the_tolerance(grade):
    assert grade("number", "1.46", "1.4596", precision=2).accuracy == 1.0
    assert grade("number", "1.5", "1.53").accuracy == 0.0
    assert grade("number", "1.5", "1.53", precision=1).accuracy == 1.0
    assert grade("number", "3", "3.004").accuracy == 0.0
    assert grade("number", "3", "3.004", precision=2).accuracy == 1.0


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("multi-select", "BD", "【答案】 BD <eoa>", "【答案】 B <eoa>"),
        ("multi-select", "BD", "The answer is B and D.", "The answer is A, B and D."),
        ("bool", "True", "So it holds. The answer is True.", "The answer is False"),
        ("bool", "False", "No, it does not.", "Yes, it does."),
        ("list", "[2, 0]", "The answer is [2, 0]", "The answer is [0, 2]"),
        ("list", "[2, 0]", "\\boxed{2, 0}", "\\boxed{2}"),
        ("text", "right triangle", "The answer is a right triangle.", "An acute triangle."),
        ("text", "Evelyn", "Therefore, $\\boxed{\\text{Evelyn}}$ is our answer.", "\\boxed{Eve}"),
        ("open", "253.75", "timeout = 253.75", "timeout = 288"),
        ("open", "Baroque", "Baroque", "Gothic"),
        ("open", "yes", "Yes, it is.", "No."),
    ],
)  # fmt: skip
def test_other_answer_types(grade, kind, gold, right, wrong):
    assert grade(kind, gold, right).outcome is Outcome.CORRECT
    assert grade(kind, gold, wrong).outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER)


@pytest.mark.parametrize(
    ("kind", "gold", "options"),
    [
        ("choice", "Z", LENGTHS),
        ("choice", "F", LENGTHS),
        ("multi-select", "1", ()),
        ("bool", "5", ()),
        ("number", " ", ()),
    ],
)
def test_a_gold_that_does_not_fit_its_type_makes_the_sample_invalid(grade, kind, gold, options):
    verdict = grade(kind, gold, "A", options)
    assert verdict.outcome is Outcome.INVALID
    assert verdict.reason


def test_kimi_markers_are_honoured_where_they_are(grade):
    assert grade("number", "5", "◁think▷It is 4.◁/think▷It is 5.<|im_end|>").accuracy == 1.0
    verdict = grade("number", "4", "◁think▷The answer is 4.")
    assert verdict.outcome is Outcome.NO_ANSWER
    assert "never ends" in verdict.reason


def test_the_span_is_where_the_answer_stands(grade):
    response = "◁think▷hm◁/think▷So it is $\\boxed{5}$ apples."
    verdict = grade("number", "5", response)
    start, end = verdict.span
    assert response[start:end] == verdict.extracted == "5"


@pytest.mark.parametrize(
    "response",
    [
        "Option A is wrong: it is shorter. Option C is also wrong. Therefore, option B is correct.",
        "(A) is wrong. (C) is wrong. (B) fits.",
        "Ans: B",
    ],
)
def test_options_denied_first_do_not_hide_the_choice(grade, response):
    assert grade("choice", "B", response, LENGTHS).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "response"),
    [("A", "Option A is wrong."), ("A", "(A) is wrong."), ("I", "I would say item 10.")],
)
def test_a_denied_letter_and_a_pronoun_are_no_choice(grade, gold, response):
    assert grade("choice", gold, response, TEN).outcome is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("multi-select", "AC", "A and C are correct.", "A and C are wrong."),
        ("multi-select", "A", "A is correct.", "A is correct, and C is correct."),
        ("bool", "False", "The statement is false.", "The statement is not false."),
        ("bool", "False", "不对", "对"),
        ("list", "[3, 4, 5]", "The sides are 3, 4 and 5.", "The sides are 3, 4 and 6."),
        ("expression", "[1,\\infty)", "x \\ge 1", "x > 1"),
        ("expression", "(-\\infty,2]", "$x \\le 2$", "$x \\ge 2$"),
        ("open", "3:2", "\\frac{3}{2}", "\\frac{2}{3}"),
        ("open", "1:50000", "1:50,000", "1:5,000"),
        ("open", "(3,-2)", "The vertex is at (3, -2).", "The vertex is at (-2, 3)."),
        ("open", "1200000", "1.2 million", "1.2 billion"),
        ("open", "25", "25 items", "25 thousand"),
        ("open", "250000", "25万", "25"),
        ("open", "-5", "negative five", "five"),
        ("open", "a(b+c)", "ab+ac", "ab+c"),
    ],
)
def test_written_out_forms_of_other_types(grade, kind, gold, right, wrong):
    assert grade(kind, gold, right).outcome is Outcome.CORRECT
    assert grade(kind, gold, wrong).outcome is not Outcome.CORRECT
