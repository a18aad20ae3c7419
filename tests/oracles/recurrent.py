"""GRU and LSTM cells from their formulas, and recurrent PPO as one plain loop over single steps."""

import numpy as np
import torch


def gru_step(x, h, w):
    """One step of one row; weights by torch's names, gates in the order reset, update, new."""
    gi = w["weight_ih_l0"] @ x + w["bias_ih_l0"]
    gh = w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    n = len(h)
    r = 1 / (1 + np.exp(-(gi[:n] + gh[:n])))
    z = 1 / (1 + np.exp(-(gi[n : 2 * n] + gh[n : 2 * n])))
    new = np.tanh(gi[2 * n :] + r * gh[2 * n :])
    return (1 - z) * new + z * h


def lstm_step(x, h, c, w):
    """One step of one row; gates in the order input, forget, cell, output."""
    g = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    i, f, new, o = np.split(g, 4)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(new)
    return o * np.tanh(c), c


def step(rnn, x, memory):
    """One step of one row through the torch network itself: outputs ``[H]`` and the next memory."""
    x = x.reshape(1, 1, -1)
    output, memory = rnn(x, memory)
    return output.reshape(-1), memory


def empty(rnn):
    """The memory at the start of an episode."""
    h = torch.zeros(rnn.num_layers, 1, rnn.hidden_size, dtype=next(rnn.parameters()).dtype)
    return (h, h.clone()) if isinstance(rnn, torch.nn.LSTM) else h


def detached(memory):
    """The memory without its past."""
    return tuple(part.detach() for part in memory) if isinstance(memory, tuple) else memory.detach()


def features(rnn, observations, resets, bptt_len, first):
    """What the network puts out for one environment ``[T, in]``; gradients end every ``bptt_len`` steps.

    Also the memories behind each step. ``first`` is the memory before the first one.
    """
    outputs, behind, memory = [], [], first
    for t, x in enumerate(observations):
        if t % bptt_len == 0:
            memory = detached(memory)
        if resets[t]:
            memory = empty(rnn)
        output, memory = step(rnn, x, memory)
        outputs.append(output)
        behind.append(detached(memory))
    return outputs, behind


def loss(logits, values, actions, old_log_probs, advantages, returns, params):
    """Clipped surrogate, value and entropy terms of rows, as `tests.oracles.ppo` has them, differentiable."""
    mean = sum(advantages) / len(advantages)
    deviation = (sum((a - mean) ** 2 for a in advantages) / (len(advantages) - 1)) ** 0.5
    total = 0.0
    for z, v, a, old, advantage, target in zip(
        logits, values, actions, old_log_probs, advantages, returns, strict=True
    ):
        log_p = z - torch.log(torch.exp(z).sum())
        ratio = torch.exp(log_p[int(a)] - float(old))
        scaled = (float(advantage) - mean) / (deviation + 1e-8)
        clipped = torch.clamp(ratio, 1 - params["clip_ratio"], 1 + params["clip_ratio"])
        entropy = -(torch.exp(log_p) * log_p).sum()
        total = total - torch.minimum(ratio * scaled, clipped * scaled)
        total = total + params["vf_coef"] * (v - float(target)) ** 2 - params["entropy_coef"] * entropy
    return total / len(logits)
