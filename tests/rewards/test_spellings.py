"""Numbers, units, money and words in other spellings."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Policy


@pytest.fixture(scope="module", params=list(Policy))
def grade(request):
    with Grader(workers=1, timeout_seconds=30, policy=request.param) as grader:

        def outcome(kind, gold, answer):
            response = f"◁think▷Some thoughts.◁/think▷\\boxed{{{answer}}}"
            return grader.grade([GradeRequest(response, gold, AnswerType(kind))])[0].outcome

        yield outcome


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("number", "1/3", "\\text{one third}"),
        ("number", "2/3", "two-thirds"),
        ("number", "2.5", "two and a half"),
        ("number", "1/4", "a quarter"),
        ("number", "3/4", "three fourths"),
        ("number", "0.00025", "2.5 × 10⁻⁴"),
        ("number", "0.00025", "2.5*10^-4"),
        ("number", "0.00025", "2.5E-4"),
        ("number", "0.00025", "2.5 \\cdot 10^{-4}"),
        ("number", "1234567", "1.234.567"),
        ("number", "1234567", "1 234 567"),
        ("number", "1234567", "1'234'567"),
        ("number", "1234567", "12,34,567"),
        ("number", "1234.56", "1.234,56"),
        ("number", "1234", "1\\,234"),
        ("number", "1234.5", "1 234,5"),
        ("number", "25 °C", "25°C"),
        ("number", "25 °C", "25℃"),
        ("number", "25 °C", "25"),
        ("number", "100 Ω", "100Ω"),
        ("number", "5 s⁻¹", "5 s^{-1}"),
        ("number", "5 s⁻¹", "5\\,\\text{s}^{-1}"),
        ("number", "5 m/s", "5 m s⁻¹"),
        ("number", "5 m/s", "5 meters per second"),
        ("number", "9.8 m/s²", "9.8\\ \\mathrm{m/s^2}"),
        ("number", "9.8 m/s²", "9.8\\ \\mathrm{m\\cdot s^{-2}}"),
        ("number", "₹50", "50"),
        ("number", "₹50", "Rs. 50"),
        ("number", "50", "Rs 50"),
        ("number", "50", "INR 50"),
        ("number", "5", "5个"),
        ("number", "5", "5 个"),
        ("number", "12", "12人"),
        ("number", "3", "3本"),
        ("number", "15元", "15"),
        ("number", "€15", "15 euros"),
        ("number", "€15", "15"),
        ("number", "€15", "15 €"),
        ("number", "\\$15", "15 dollars"),
        ("number", "£15", "15 pounds"),
        ("number", "15 lb", "15 pounds"),
        ("number", "¥15", "15 yuan"),
        ("number", "¥15", "15 yen"),
        ("number", "5 m^2", "5 square meters"),
        ("number", "5 m^2", "5 m²"),
        ("number", "5 m^2", "5m^2"),
        ("number", "360 sets", "360"),
        ("number", "360 sets", "360 sets"),
        ("number", "5 apples", "5"),
        ("number", "50%", "50\\%"),
        ("number", "1000", "10^3"),
        ("number", "1000", "1e3"),
        ("number", "0.5", "½"),
        ("number", "-0.5", "-½"),
        ("number", "-2.5", "-2½"),
        ("number", "1 1/2", "3/2"),
        ("number", "1.5", "1 1/2"),
        ("number", "5", "five"),
        ("number", "21", "twenty-one"),
        ("number", "1000000", "1 million"),
        ("number", "30 min", "30 minutes"),
        ("number", "2 h", "2 hours"),
        ("number", "3 kg", "3 kilograms"),
        ("number", "4.2 J/(kg·K)", "4.2 J kg^{-1} K^{-1}"),
        ("number", "10 N", "10 newtons"),
        ("number", "10 μm", "10 micrometers"),
        ("number", "60 km/h", "60 kmh"),
        ("number", "60 km/h", "60 km/hr"),
        ("number", "60 km/h", "60 kilometers per hour"),
        ("number", "5 L", "5 liters"),
        ("number", "5 mL", "5 ml"),
        ("number", "90°", "90 degrees"),
        ("number", "90°", "90^\\circ"),
        ("number", "90°", "90"),
    ],
)
def test_a_number_in_another_spelling_is_that_number(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("number", "1/3", "third"),
        ("number", "0.00025", "2.5 × 10^4"),
        ("number", "1234", "1.234"),
        ("number", "1.234", "1,234"),
        ("number", "25 °C", "298 K"),
        ("number", "25 °C", "25 K"),
        ("number", "100 Ω", "100 kΩ"),
        ("number", "5 m/s", "5 km/h"),
        ("number", "5 m/s", "5 m"),
        ("number", "5 m/s^2", "5 m/s"),
        ("number", "₹50", "\\$50"),
        ("number", "15元", "15美元"),
        ("number", "€15", "15 cents"),
        ("number", "€15", "¥15"),
        ("number", "€15", "£15"),
        ("number", "€15", "\\$15"),
        ("number", "\\$15", "15 m"),
        ("number", "\\$15", "€15"),
        ("number", "\\$15", "15 cents"),
        ("number", "£15", "15 lb"),
        ("number", "15 cm", "\\$15"),
        ("number", "$15", "15 euros"),
        ("number", "$15", "15 m"),
        ("number", "15 dollars", "€15"),
        ("number", "5 km", "5 m"),
        ("number", "5 m^2", "5 m"),
        ("number", "360 sets", "360 boxes"),
        ("number", "360 sets", "36"),
        ("number", "50%", "0.5"),
        ("number", "5", "fifth"),
        ("number", "1", "one half"),
        ("number", "3", "three quarters"),
        ("number", "30 min", "30 s"),
        ("number", "3 kg", "3 g"),
        ("number", "10 μm", "10 mm"),
        ("number", "60 km/h", "60 mph"),
        ("number", "90°", "90 m"),
    ],
)
def test_another_number_unit_or_currency_is_not_correct(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "x^-1", "\\frac{1}{x}"),
        ("expression", "2^-3", "\\frac18"),
        ("expression", "2^-3", "0.125"),
        ("expression", "½", "0.5"),
        ("expression", "½", "\\frac{1}{2}"),
        ("expression", "0.\\overline{3}", "\\frac13"),
        ("expression", "0.\\overline{3}", "0.\\dot{3}"),
        ("expression", "0.\\overline{3}", "0.333..."),
        ("expression", "4-7", "4 to 7"),
        ("expression", "4-7", "4–7"),
        ("expression", "10-20", "between 10 and 20"),
        ("expression", "\\sqrt{\\frac{1}{3}}", "\\frac{1}{\\sqrt3}"),
        ("expression", "\\frac{1}{\\sqrt{n}}", "\\sqrt{\\frac{1}{n}}"),
        ("expression", "\\sqrt{1/n}", "1/\\sqrt{n}"),
        ("expression", "∅", "\\emptyset"),
        ("expression", "\\emptyset", "\\varnothing"),
        ("expression", "\\emptyset", "\\{\\}"),
        ("expression", "\\cos 60°", "\\frac12"),
        ("expression", "\\sin 45^\\circ", "\\frac{\\sqrt2}{2}"),
        ("expression", "\\sin(30^\\circ)+1", "1.5"),
        ("expression", "\\sin^2 30^\\circ", "\\frac14"),
        ("expression", "\\tan 45°", "1"),
        ("expression", "2\\sin 20^\\circ", "2\\cos 70^\\circ"),
        ("expression", "30^\\circ", "30"),
        ("expression", "x_1=1,x_2=2", "x=1 or x=2"),
        ("expression", "x_1=1,x_2=2", "x_1=2,x_2=1"),
        ("expression", "\\{2,3\\}", "x=2 or x=3"),
        ("expression", "2, 3", "x=3 or x=2"),
    ],
)
def test_an_expression_in_another_spelling_is_that_expression(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "x^-1", "x"),
        ("expression", "½", "1/3"),
        ("expression", "0.\\overline{3}", "0.3"),
        ("expression", "4-7", "-3"),
        ("expression", "4-7", "5-7"),
        ("expression", "4-7", "7-4"),
        ("expression", "-3", "4-7"),
        ("expression", "4-7", "4"),
        ("expression", "\\emptyset", "0"),
        ("expression", "\\emptyset", "\\{0\\}"),
        ("expression", "\\sin 30", "\\frac12"),
        ("expression", "2\\sin 20^\\circ", "2\\sin 20"),
        ("expression", "30^\\circ", "30 rad"),
        ("expression", "2", "2 or 3"),
        ("expression", "5", "\\pm 5"),
    ],
)
def test_another_expression_is_not_correct(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("text", "3rd", "third"),
        ("text", "third", "3rd"),
        ("text", "3rd", "the third"),
        ("text", "21st", "twenty-first"),
        ("text", "3rd", "3^{rd}"),
        ("text", "don’t", "don't"),
        ("text", "children’s", "children's"),
        ("text", "8:30", "8:30"),
        ("text", "13:18", "1:18 PM"),
        ("text", "Third floor", "3rd floor"),
        ("text", "“Yes”", "yes"),
        ("text", "10th", "tenth"),
        ("list", '["cat", "dog"]', "[cat, dog]"),
        ("list", "['cat', 'dog']", "cat, dog"),
        ("list", "[cat, dog]", "['cat', 'dog']"),
        ("list", "[1, 2]", "1, 2"),
        ("list", "['a, b', 'c']", '"a, b", "c"'),
        ("list", "[½, ⅓]", "1/2, 1/3"),
        ("open", "8:30", "8:30"),
        ("open", "3rd", "third"),
        ("open", "x^-1", "1/x"),
    ],
)
def test_words_and_items_in_another_spelling_are_the_same(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("text", "3rd", "4th"),
        ("text", "13:18", "1:18"),
        ("list", "['cat', 'dog']", "dog, cat"),
        ("list", "[1, 2]", "2, 1"),
        ("open", "8:30", "8.5"),
        ("open", "12:00", "1:00"),
    ],
)
def test_other_words_and_items_are_not_correct(grade, kind, gold, answer):
    assert grade(kind, gold, answer) is not Outcome.CORRECT
