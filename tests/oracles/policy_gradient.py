"""REINFORCE and A2C from their formulas, step by step in float64."""

import math


def returns_to_go(rewards, ends, gamma, bootstraps):
    """Discounted rewards from each step to the end of its episode, and the bootstrap that follows there."""
    found = []
    for start in range(len(rewards)):
        total, discount = 0.0, 1.0
        for t in range(start, len(rewards)):
            total += discount * rewards[t]
            discount *= gamma
            if ends[t] or t == len(rewards) - 1:
                total += discount * bootstraps[t]
                break
        found.append(total)
    return found


def log_softmax(logits):
    total = math.log(sum(math.exp(z) for z in logits))
    return [z - total for z in logits]


def log_normal(x, mean, log_std):
    """Of independent numbers."""
    return sum(
        -0.5 * ((a - m) / math.exp(s)) ** 2 - s - 0.5 * math.log(2 * math.pi)
        for a, m, s in zip(x, mean, log_std, strict=True)
    )


def loss(log_probs, entropies, values, advantages, returns, params):
    """Policy gradient, entropy bonus and value error; ``values`` is None without a critic."""
    n = len(log_probs)
    found = -sum(lp * a for lp, a in zip(log_probs, advantages, strict=True)) / n
    found -= params["entropy_coef"] * sum(entropies) / n
    if values is not None:
        found += params["vf_coef"] * sum((v - g) ** 2 for v, g in zip(values, returns, strict=True)) / n
    return found
