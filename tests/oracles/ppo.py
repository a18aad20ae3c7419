"""The PPO loss of one minibatch from its formula, row by row in float64."""

import math


def loss(logits, values, actions, old_log_probs, advantages, returns, old_values, params):
    """Returns (loss, policy loss, value loss, entropy); all arguments are nested lists."""
    densities = [categorical(row, action) for row, action in zip(logits, actions, strict=True)]
    return loss_of(densities, values, old_log_probs, advantages, returns, old_values, params)


def categorical(logits, action):
    """Log-probability of one action, and the entropy, from one row of logits."""
    total = sum(math.exp(z) for z in logits)
    probabilities = [math.exp(z) / total for z in logits]
    return math.log(probabilities[action]), -sum(p * math.log(p) for p in probabilities if p > 0.0)


def gaussian(outputs, action, low=None, high=None):
    """Log-density of one action and the entropy, from ``[mean | log_std]``; means -1 to 1 span the bounds."""
    dim = len(action)
    log_prob = entropy = 0.0
    for i in range(dim):
        mean, std = outputs[i], math.exp(outputs[dim + i])
        if low is not None:
            half = (high[i] - low[i]) / 2
            mean, std = low[i] + half + half * mean, std * half
        log_prob += math.log(
            math.exp(-(((action[i] - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
        )
        entropy += math.log(std * math.sqrt(2 * math.pi * math.e))
    return log_prob, entropy


def loss_of(densities, values, old_log_probs, advantages, returns, old_values, params):
    """As `loss`, from (log-probability, entropy) of each row."""
    n = len(densities)
    if params["normalize_advantage"] and n > 1:
        mean = sum(advantages) / n
        deviation = math.sqrt(sum((a - mean) ** 2 for a in advantages) / (n - 1))
        advantages = [(a - mean) / (deviation + 1e-8) for a in advantages]
    surrogate = value_loss = entropy = 0.0
    for i in range(n):
        log_prob, entropy_of_row = densities[i]
        ratio = math.exp(log_prob) / math.exp(old_log_probs[i])
        low, high = 1 - params["clip_ratio"], 1 + params["clip_ratio"]
        surrogate += min(ratio * advantages[i], max(low, min(high, ratio)) * advantages[i]) / n
        error = (values[i] - returns[i]) ** 2
        if params["clip_value"] is not None:
            step = max(-params["clip_value"], min(params["clip_value"], values[i] - old_values[i]))
            error = max(error, (old_values[i] + step - returns[i]) ** 2)
        value_loss += error / n
        entropy += entropy_of_row / n
    total = -surrogate + params["vf_coef"] * value_loss - params["entropy_coef"] * entropy
    return total, -surrogate, value_loss, entropy
