"""The PPO loss of one minibatch from its formula, row by row in float64."""

import math


def loss(logits, values, actions, old_log_probs, advantages, returns, old_values, params):
    """Returns (loss, policy loss, value loss, entropy); all arguments are nested lists."""
    n = len(actions)
    if params["normalize_advantage"] and n > 1:
        mean = sum(advantages) / n
        deviation = math.sqrt(sum((a - mean) ** 2 for a in advantages) / (n - 1))
        advantages = [(a - mean) / (deviation + 1e-8) for a in advantages]
    surrogate = value_loss = entropy = 0.0
    for i in range(n):
        total = sum(math.exp(z) for z in logits[i])
        probabilities = [math.exp(z) / total for z in logits[i]]
        ratio = probabilities[actions[i]] / math.exp(old_log_probs[i])
        low, high = 1 - params["clip_ratio"], 1 + params["clip_ratio"]
        surrogate += min(ratio * advantages[i], max(low, min(high, ratio)) * advantages[i]) / n
        error = (values[i] - returns[i]) ** 2
        if params["clip_value"] is not None:
            step = max(-params["clip_value"], min(params["clip_value"], values[i] - old_values[i]))
            error = max(error, (old_values[i] + step - returns[i]) ** 2)
        value_loss += error / n
        entropy -= sum(p * math.log(p) for p in probabilities) / n
    total = -surrogate + params["vf_coef"] * value_loss - params["entropy_coef"] * entropy
    return total, -surrogate, value_loss, entropy
