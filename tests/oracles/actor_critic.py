"""The losses of SAC and TD3 from their formulas, row by row in float64, and gradients by central differences.

Networks are lists of (weights [out][in], biases [out]) with a tanh between the layers.
"""

import math


def run(network, x):
    for number, (weights, biases) in enumerate(network):
        x = [
            sum(w * v for w, v in zip(row, x, strict=True)) + b
            for row, b in zip(weights, biases, strict=True)
        ]
        if number < len(network) - 1:
            x = [math.tanh(v) for v in x]
    return x


def squashed(outputs, noise, low=-5.0, high=2.0):
    """Action in (-1, 1) and its log-density by the change of variables."""
    dim = len(noise)
    action, log_density = [], 0.0
    for i in range(dim):
        std = math.exp(min(max(outputs[dim + i], low), high))
        u = outputs[i] + std * noise[i]
        a = math.tanh(u)
        normal = math.exp(-0.5 * noise[i] ** 2) / (std * math.sqrt(2 * math.pi))
        log_density += math.log(normal / (1 - a * a))
        action.append(a)
    return action, log_density


def sac_critic_loss(actor, critics, targets, batch, alpha):
    total = 0.0
    for row in batch:
        action, log_density = squashed(run(actor, row["next"]), row["noise"][0])
        value = min(run(target, row["next"] + action)[0] for target in targets) - alpha * log_density
        goal = row["reward"] + row["discount"] * value
        for critic in critics:
            error = run(critic, row["obs"] + row["action"])[0] - goal
            total += row["weight"] * 0.5 * error**2 / len(batch)
    return total


def sac_actor_loss(actor, critics, batch, alpha):
    total = 0.0
    for row in batch:
        action, log_density = squashed(run(actor, row["obs"]), row["noise"][1])
        q = min(run(critic, row["obs"] + action)[0] for critic in critics)
        total += (alpha * log_density - q) / len(batch)
    return total


def sac_alpha_loss(actor, batch, log_alpha, target_entropy):
    densities = [squashed(run(actor, row["obs"]), row["noise"][1])[1] for row in batch]
    return -log_alpha * sum(d + target_entropy for d in densities) / len(batch)


def td3_critic_loss(target_actor, critics, targets, batch, noise, clip):
    total = 0.0
    for row in batch:
        action = []
        for out, drawn in zip(run(target_actor, row["next"]), row["noise"][0], strict=True):
            shaken = math.tanh(out) + min(max(noise * drawn, -clip), clip)
            action.append(min(max(shaken, -1.0), 1.0))
        value = min(run(target, row["next"] + action)[0] for target in targets)
        goal = row["reward"] + row["discount"] * value
        for critic in critics:
            error = run(critic, row["obs"] + row["action"])[0] - goal
            total += row["weight"] * error**2 / len(batch)
    return total


def td3_actor_loss(actor, critic, batch):
    actions = [[math.tanh(v) for v in run(actor, row["obs"])] for row in batch]
    values = [run(critic, row["obs"] + a)[0] for row, a in zip(batch, actions, strict=True)]
    return -sum(values) / len(batch)


def gradient(loss, networks, step=1e-6):
    """Central differences of ``loss()`` in every weight of the networks, in order: weights, then biases."""
    found = []
    for network in networks:
        for weights, biases in network:
            for row in (*weights, biases):
                for i, value in enumerate(row):
                    row[i] = value + step
                    above = loss()
                    row[i] = value - step
                    below = loss()
                    row[i] = value
                    found.append((above - below) / (2 * step))
    return found
