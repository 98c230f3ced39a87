"""Which answer a response commits to, and when it commits to none."""

import subprocess
import sys

import pytest
from kvl.rewards.grading.reading.extraction import NoAnswer, extract_answer


def response(tail: str, thinking: str = "some thoughts") -> str:
    return f"◁think▷{thinking}◁/think▷{tail}"


@pytest.mark.parametrize(
    ("tail", "answer"),
    [
        ("Answer: 12", "12"),
        ("Answer: 12<|im_end|>", "12"),
        ("\n\nAnswer: 12.\n<|im_end|>\n", "12."),
        ("**Answer:** 12", "12"),
        ("**Answer: 12**", "12"),
        ("The answer is **12**.", "12"),
        ("Answer: C. 12 cm", "C. 12 cm"),
        ("Answer: 3.5", "3.5"),
        ("Answer：12", "12"),
        ("The answer is 12.", "12."),
        ("The answer is: 12. This follows from the figure.", "12"),
        ("So the final answer to the question is $12$", "$12$"),
        ("The correct option is (B)", "(B)"),
        ("Adding up. Answer: The final answer is 12", "12"),
        ("Final answer:\n\\[\n12\n\\]", "\\[\n12\n\\]"),
        ("答案是12", "12"),
        ("答案为：12。", "12"),
        ("【答案】C", "C"),
        (r"We get $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{5} as said, \boxed{ 5 }", "5"),
        (r"The answer is $\boxed{5}$ apples", "5"),
        (r"The answer is 5 cm. Hence \boxed{5}", "5"),
        (r"The answer is (C) 12 cm. \boxed{C}", "C"),
        ("12", "12"),
        ("x = 5", "x = 5"),
    ],
)
def test_a_single_commitment_is_found(tail, answer):
    assert extract_answer(response(tail)).text == answer


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("", "nothing after"),
        ("<|im_end|>", "nothing after"),
        ("Answer:", "empty answer"),
        ("Answer: $$", "empty answer"),
        (r"\boxed{}", "empty answer"),
        (r"\boxed{5} or \boxed{6}", "several"),
        (r"The answer is 5. \boxed{6}", "several"),
        ("The answer is 5. Wait, the answer is 6.", "several"),
        ("Answer: A\nAnswer: B", "several"),
        (r"\boxed{5", "unbalanced"),
        ("Let me describe the picture at length. " * 5, "no committed answer"),
        ("Answer: " + "1+" * 300 + "1", "too long"),
    ],
)
def test_no_or_several_commitments_are_no_answer(tail, reason):
    with pytest.raises(NoAnswer, match=reason):
        extract_answer(response(tail))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Answer: 5", "exactly one"),
        ("◁think▷Answer: 5", "exactly one"),
        ("some thoughts◁/think▷Answer: 5", "exactly one"),
        ("◁think▷a◁/think▷b◁/think▷Answer: 5", "exactly one"),
        ("◁think▷a◁think▷b◁/think▷Answer: 5", "exactly one"),
        ("◁/think▷a◁think▷Answer: 5", "comes before"),
        ("◁think▷◁/think▷Answer: 5", "empty thinking"),
        ("◁think▷ \n ◁/think▷Answer: 5", "empty thinking"),
    ],
)
def test_malformed_thinking_is_no_answer(text, reason):
    with pytest.raises(NoAnswer, match=reason):
        extract_answer(text)


def test_the_thinking_is_never_searched():
    with pytest.raises(NoAnswer, match="nothing after"):
        extract_answer(response("", thinking=r"The answer is 5. \boxed{5}"))
    assert extract_answer(response("Answer: 6", thinking=r"\boxed{5}")).text == "6"


@pytest.mark.parametrize("module", ["types", "length", "grading.reading.extraction", "grader"])
def test_importing_loads_no_symbolic_mathematics(module):
    check = (
        f"import sys, kvl.rewards.{module}; "
        "sys.exit(any(m in sys.modules for m in ('sympy', 'math_verify', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
