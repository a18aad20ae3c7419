"""Generalised advantages by their definition, one step at a time, in Python numbers.

A_t is the sum over l of (gamma lambda)^l delta_{t+l}, up to the end of the episode or of the window.
"""


def advantages(rewards, values, terminated, truncated, final_values, valid, gamma, lam):
    """Nested lists ``[T][B]`` in and out."""
    steps, width = len(rewards), len(rewards[0])
    out = [[0.0] * width for _ in range(steps)]
    for b in range(width):
        for t in range(steps):
            total, weight, k = 0.0, 1.0, t
            while k < steps and valid[k][b]:
                if terminated[k][b]:
                    following = 0.0
                elif truncated[k][b] or k == steps - 1:
                    following = final_values[k][b]
                else:
                    following = values[k + 1][b]
                total += weight * (rewards[k][b] + gamma * following - values[k][b])
                if terminated[k][b] or truncated[k][b]:
                    break
                weight *= gamma * lam
                k += 1
            out[t][b] = total
    return out
