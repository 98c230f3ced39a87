from __future__ import annotations

import pytest
import torch
from kvl.kimi_vl_model.logprobs import token_logprobs

ROWS, WIDTH, VOCABULARY = 23, 16, 50
BANNED = torch.tensor([3, 17, 49])


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    allowed = torch.tensor([i for i in range(VOCABULARY) if i not in BANNED.tolist()])
    return hidden, weight, allowed[torch.randint(len(allowed), (ROWS,))]


def naive(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    banned: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = hidden @ weight.T / temperature
    if banned is not None:
        kept = torch.ones(VOCABULARY, dtype=torch.bool)
        kept[banned] = False
        target = kept.cumsum(0)[target] - 1
        logits = logits[:, kept]
    logprobs = logits.log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, target[:, None])[:, 0], entropy


@pytest.mark.parametrize("chunk", [1, 7, 22, 23, 1000])
@pytest.mark.parametrize("banned", [None, BANNED], ids=["all", "banned"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunks_equal_the_naive_log_softmax(
    chunk: int, banned: torch.Tensor | None, temperature: float
) -> None:
    hidden, weight, target = inputs()
    factors = torch.randn(ROWS)
    logprob, entropy = token_logprobs(
        hidden, weight, target, banned_ids=banned, temperature=temperature, chunk=chunk
    )
    gradients = torch.autograd.grad((factors * logprob).sum(), (hidden, weight))
    want_logprob, want_entropy = naive(hidden, weight, target, banned, temperature)
    want = torch.autograd.grad((factors * want_logprob).sum(), (hidden, weight))
    torch.testing.assert_close(logprob, want_logprob, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, want_entropy, atol=1e-4, rtol=0)
    assert not entropy.requires_grad
    for got, expected in zip(gradients, want, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_banned_ids_have_probability_zero_and_the_others_sum_to_one() -> None:
    hidden, weight, _ = inputs()
    every = torch.arange(VOCABULARY)
    logprob, _ = token_logprobs(
        hidden[:1].expand(VOCABULARY, -1), weight, every, banned_ids=BANNED, temperature=0.8
    )
    probability = logprob.exp()
    assert (probability[BANNED] == 0).all()
    assert probability.sum().item() == pytest.approx(1.0, abs=1e-5)
    gradient = torch.autograd.grad(logprob[0], weight)[0]
    assert (gradient[BANNED] == 0).all()
    assert gradient.isfinite().all()


def test_low_precision_inputs_are_multiplied_in_fp32() -> None:
    hidden, weight, target = inputs()
    low, low_weight = hidden.bfloat16().detach(), weight.bfloat16().detach()
    expected, _ = token_logprobs(low.float(), low_weight.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, _ = token_logprobs(low, low_weight, target, chunk=5)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)


def test_no_rows_give_no_logprobs() -> None:
    hidden, weight, target = inputs()
    logprob, entropy = token_logprobs(hidden[:0], weight, target[:0])
    assert logprob.shape == entropy.shape == (0,)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_what_trains_gets_a_gradient(frozen: str) -> None:
    hidden, weight, target = inputs()
    whole, _ = token_logprobs(hidden, weight, target, chunk=5)
    wanted = weight if frozen == "hidden" else hidden
    (expected,) = torch.autograd.grad(whole.sum(), wanted)
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    logprob, _ = token_logprobs(hidden, weight, target, chunk=5)
    logprob.sum().backward()
    assert wanted.grad is not None
    assert wanted.grad.equal(expected)
    assert (hidden if frozen == "hidden" else weight).grad is None


def test_low_precision_inputs_get_gradients_of_their_own_dtype() -> None:
    hidden, weight, target = inputs()
    low, low_weight = (x.detach().bfloat16().requires_grad_() for x in (hidden, weight))
    logprob, _ = token_logprobs(low, low_weight, target, chunk=5)
    got = torch.autograd.grad(logprob.sum(), (low, low_weight))
    exact, exact_weight = (x.detach().float().requires_grad_() for x in (low, low_weight))
    logprob, _ = token_logprobs(exact, exact_weight, target)
    for actual, want in zip(
        got, torch.autograd.grad(logprob.sum(), (exact, exact_weight)), strict=True
    ):
        assert actual.dtype == torch.bfloat16
        torch.testing.assert_close(actual, want.bfloat16(), atol=1e-3, rtol=1e-2)
