"""Every transition that hindsight may show of an episode, written out one by one."""


def possible(episode, strategy, reward, goal_dim):
    """Per step, the transitions under each goal allowed, as tuples (obs, act, rew, next obs, done).

    An episode is a list of (obs, act, rew, next_obs, done, achieved), all of them lists or numbers. Returns
    the real transitions, and for each step the list of relabelled ones, one for each goal it may take.
    """
    real = [(tuple(o), a, r, tuple(n), d) for o, a, r, n, d, _ in episode]
    relabelled = []
    for t, (obs, act, _, next_obs, done, achieved) in enumerate(episode):
        if strategy == "future":
            sources = range(t, len(episode))
        elif strategy == "episode":
            sources = range(len(episode))
        else:
            sources = [len(episode) - 1]
        each = []
        for u in sources:
            goal = episode[u][5]
            swapped = [tuple(list(x[: len(x) - goal_dim]) + list(goal)) for x in (obs, next_obs)]
            each.append((swapped[0], act, reward(achieved, goal), swapped[1], done))
        relabelled.append(each)
    return real, relabelled
