# file: my_agents.py
import json

import numpy as np


class Greedy:
    """Repeats the best architecture so far, but for a few choices."""

    def __init__(self, space, seed: int, changes: float = 0.2):
        self.rng = np.random.default_rng(seed)
        self.changes = changes
        self.best = np.zeros(space.num_choices, dtype=np.int64)
        self.best_reward = -np.inf

    def play(self, env, changes):
        env.reset()
        chosen = []
        for wanted in self.best:
            masks = env.unwrapped.action_masks()
            anything = np.array([self.rng.choice(np.flatnonzero(mask)) for mask in masks])
            keep = masks[:, wanted] & (self.rng.random(len(masks)) >= changes)
            chosen.append(np.where(keep, wanted, anything))
            _, rewards, _, truncated, _ = env.step(chosen[-1])
        return np.stack(chosen, axis=1), np.where(truncated, -np.inf, rewards)

    def learn(self, env, ledger, callback):
        while not ledger.exhausted:
            indices, rewards = self.play(env, self.changes if np.isfinite(self.best_reward) else 1.0)
            if rewards.max() > self.best_reward:
                self.best, self.best_reward = indices[rewards.argmax()], rewards.max()
            callback({"policy/best_reward": float(self.best_reward)})

    def propose(self, env, num_architectures, *, deterministic=False):
        batches = -(-num_architectures // env.num_envs)
        found = [self.play(env, 0.0 if deterministic else self.changes)[0] for _ in range(batches)]
        return np.concatenate(found)[:num_architectures]

    def save(self, folder):
        state = {"best": self.best.tolist(), "reward": float(self.best_reward), "rng": self.rng.bit_generator.state}
        (folder / "greedy.json").write_text(json.dumps(state))

    def load(self, folder):
        state = json.loads((folder / "greedy.json").read_text())
        self.best, self.best_reward = np.array(state["best"]), state["reward"]
        self.rng.bit_generator.state = state["rng"]
