"""V-trace by its definition: for every step the sum over all later ones of the episode, in Python numbers.

v_s = V(x_s) + sum over t >= s of gamma^(t-s) (c_s ... c_{t-1}) rho_t (r_t + gamma V(x_{t+1}) - V(x_t)).
"""

import math


def targets(rewards, values, behaviour, current, terminated, truncated, final, valid, gamma, rho_bar, c_bar):
    """Nested lists ``[T][B]`` in; targets and advantages out."""
    steps, width = len(rewards), len(rewards[0])

    def following(t, b):
        if terminated[t][b]:
            return 0.0
        if truncated[t][b] or t == steps - 1:
            return final[t][b]
        return values[t + 1][b]

    def stops(t, b):
        return terminated[t][b] or truncated[t][b] or t == steps - 1 or not valid[t + 1][b]

    targets = [[0.0] * width for _ in range(steps)]
    advantages = [[0.0] * width for _ in range(steps)]
    for b in range(width):
        for s in range(steps):
            total, product, t = values[s][b], 1.0, s
            while valid[s][b]:
                ratio = math.exp(current[t][b] - behaviour[t][b])
                error = rewards[t][b] + gamma * following(t, b) - values[t][b]
                total += gamma ** (t - s) * product * min(rho_bar, ratio) * error
                if stops(t, b):
                    break
                product *= min(c_bar, ratio)
                t += 1
            targets[s][b] = total
        for s in range(steps):
            if valid[s][b]:
                after = following(s, b) if stops(s, b) else targets[s + 1][b]
                ratio = math.exp(current[s][b] - behaviour[s][b])
                advantages[s][b] = min(rho_bar, ratio) * (rewards[s][b] + gamma * after - values[s][b])
    return targets, advantages
