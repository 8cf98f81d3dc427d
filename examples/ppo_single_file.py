"""PPO with action masks in a single file, in the manner of CleanRL: read it from top to bottom.

    python ppo_single_file.py --evaluations 180 --seed 0

It searches the cells of NAS-Bench-201 on the digits, whose accuracies are looked up in a table that comes with rlnas,
so that a search takes seconds. Another id, as in --env-id envs:rlnas/Chain-v0, trains networks in place of looking them
up. Nothing of rlnas is used but the environment and the ledger, which counts what a search may spend.
"""

import argparse
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from rlnas.evaluation import Ledger


@dataclass
class Args:
    """What the command line sets; the defaults suit searches of a few hundred evaluations."""

    env_id: str = "envs:rlnas/Digits201-v0"
    seed: int = 0
    evaluations: int = 180  # unique architectures; building one again is free
    num_envs: int = 10  # architectures built in lockstep: one batch for each update
    learning_rate: float = 0.02
    update_epochs: int = 4
    gamma: float = 1.0  # the reward comes at the end, and an architecture is as good as its reward
    gae_lambda: float = 1.0
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


@dataclass
class Found:
    """The rewards of all architectures in the order in which they were built, and the best one."""

    rewards: list[float]
    best_reward: float
    best: list[int]


class Agent(nn.Module):
    """Linear actor and critic on the one-hot observation; uniform over what is legal to begin with."""

    def __init__(self, num_features: int, num_actions: int) -> None:
        super().__init__()
        self.actor = nn.Linear(num_features, num_actions)
        self.critic = nn.Linear(num_features, 1)
        for layer in (self.actor, self.critic):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def get_value(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the value of each observation, shape (...)."""
        return self.critic(obs).squeeze(-1)

    def get_distribution(self, obs: torch.Tensor, mask: torch.Tensor) -> Categorical:
        """Return the softmax over what the mask allows: for sampling, log-probabilities and entropy alike."""
        return Categorical(logits=self.actor(obs).masked_fill(~mask, torch.finfo(torch.float32).min))


def train(args: Args) -> Found:
    """Search until the ledger is exhausted."""
    torch.manual_seed(args.seed)
    ledger = Ledger(evaluations=args.evaluations)
    envs = gym.make_vec(args.env_id, num_envs=args.num_envs, ledger=ledger)
    num_steps = envs.unwrapped.space.num_choices  # one episode in each environment: all end with the last choice
    num_features, num_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
    agent = Agent(num_features, num_actions)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate)

    shape = (num_steps, args.num_envs)
    obs = torch.zeros(*shape, num_features)
    masks = torch.zeros(*shape, num_actions, dtype=torch.bool)
    actions = torch.zeros(shape, dtype=torch.int64)
    logprobs, rewards, values = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    found = Found([], -np.inf, [])

    next_obs, _ = envs.reset(seed=args.seed)
    while not ledger.exhausted:
        # Rollout: one architecture in each environment.
        for step in range(num_steps):
            obs[step] = torch.from_numpy(next_obs)
            masks[step] = torch.from_numpy(envs.unwrapped.action_masks())
            with torch.no_grad():
                policy = agent.get_distribution(obs[step], masks[step])
                actions[step] = policy.sample()
                logprobs[step] = policy.log_prob(actions[step])
                values[step] = agent.get_value(obs[step])
            next_obs, reward, _, truncated, _ = envs.step(actions[step].numpy())
        # Architectures that the budget did not reach have no reward: nothing is learned from them.
        scored = torch.from_numpy(~truncated)
        for indices, value in zip(actions.T[scored].tolist(), reward[~truncated].tolist(), strict=True):
            found.rewards.append(value)
            if value > found.best_reward:
                found.best_reward, found.best = value, indices
        if not scored.all():
            break

        # The reward is the rank among all seen, in [-1, 1]: settings then do not depend on its unit.
        rewards[-1] = torch.tensor([2.0 * np.mean(np.array(found.rewards) < value) - 1.0 for value in reward])

        # Generalised advantage estimation; after the last step of an episode there is nothing to bootstrap from.
        advantages, last, next_value = torch.zeros(shape), torch.zeros(args.num_envs), torch.zeros(args.num_envs)
        for step in reversed(range(num_steps)):
            delta = rewards[step] + args.gamma * next_value - values[step]
            last = delta + args.gamma * args.gae_lambda * last
            advantages[step], next_value = last, values[step]
        returns = advantages + values
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        # Update: the whole rollout is one minibatch.
        for _ in range(args.update_epochs):
            policy = agent.get_distribution(obs, masks)
            ratio = (policy.log_prob(actions) - logprobs).exp()
            clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
            pg_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
            v_loss = 0.5 * (agent.get_value(obs) - returns).square().mean()
            loss = pg_loss - args.ent_coef * policy.entropy().mean() + args.vf_coef * v_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()
    envs.close()
    return found


def main() -> None:
    """Search as the command line says, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in vars(Args()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = Args(**vars(parser.parse_args()))
    found = train(args)
    space = gym.make(args.env_id).unwrapped.space
    print(f"{len(found.rewards)} architectures built, the first {args.num_envs} earned on average", end=" ")
    print(f"{np.mean(found.rewards[: args.num_envs]):.4f}, the last {np.mean(found.rewards[-args.num_envs :]):.4f}")
    print(f"best: reward {found.best_reward:.4f}, {space.describe(space.architecture(found.best))}")


if __name__ == "__main__":
    main()
