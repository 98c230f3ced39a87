"""Reward functions as they are written for verl and for TRL; `kvl-rl` takes them unchanged."""


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """verl: 1 if the response ends with the gold answer."""
    return {"score": float(solution_str.rstrip().endswith(ground_truth)), "checked": True}


def mentions_answer(completions, answer, **columns):
    """TRL: 1 for every completion that contains the gold answer."""
    texts = [completion[0]["content"] for completion in completions]
    return [float(gold in text) for gold, text in zip(answer, texts, strict=True)]
