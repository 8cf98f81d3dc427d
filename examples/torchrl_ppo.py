"""TorchRL searches an architecture: its actor, its masked distribution, its PPO loss, on an environment of rlnas.

    pip install "rlnas[torchrl]"
    python torchrl_ppo.py --evaluations 180 --seed 0

`Architectures` is all that is between the two libraries: TorchRL's own GymWrapper reads no masks from `action_masks()`.
Like ppo_single_file.py it searches the cells of NAS-Bench-201 on the digits, from a table that comes with rlnas.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase, ExplorationType, set_exploration_type
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from rlnas.evaluation import Ledger

ENV_ID = "envs:rlnas/Digits201-v0"


class Architectures(EnvBase):
    """A batch of architectures under construction, with the mask of legal actions in each tensordict.

    Args:
        env: A vector environment of rlnas; its episodes all end with the last choice where actions keep to the masks.
    """

    def __init__(self, env: gym.vector.VectorEnv) -> None:
        super().__init__(device="cpu", batch_size=[env.num_envs])
        self.env = env
        batch, num_actions = env.num_envs, int(env.single_action_space.n)
        self.observation_spec = Composite(
            observation=Bounded(0.0, 1.0, (batch, env.single_observation_space.shape[0]), dtype=torch.float32),
            action_mask=Binary(num_actions, (batch, num_actions), dtype=torch.bool),
            shape=(batch,),
        )
        self.action_spec = Categorical(num_actions, shape=(batch,), dtype=torch.int64)
        self.reward_spec = Unbounded((batch, 1), dtype=torch.float32)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:  # noqa: ARG002
        observations, infos = self.env.reset()
        return TensorDict(self._seen(observations, infos), batch_size=self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        observations, rewards, terminated, truncated, infos = self.env.step(tensordict["action"].numpy())
        ended = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        columns = {name: torch.from_numpy(value)[:, None] for name, value in ended.items()}
        columns["reward"] = torch.from_numpy(rewards).float()[:, None]
        return TensorDict({**self._seen(observations, infos), **columns}, batch_size=self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        self.env.reset(seed=seed)

    def _seen(self, observations: np.ndarray, infos: dict) -> dict[str, torch.Tensor]:
        return {
            "observation": torch.from_numpy(observations),
            "action_mask": torch.from_numpy(infos["action_mask"]),
        }


def linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """Return a layer that gives zeros to begin with: a uniform policy."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def train(seed: int = 0, evaluations: int = 180, num_envs: int = 10, *, epochs: int = 4) -> list[float]:
    """Search until the ledger is exhausted; return the rewards in the order in which architectures were built."""
    torch.manual_seed(seed)
    ledger = Ledger(evaluations=evaluations)
    env = Architectures(gym.make_vec(ENV_ID, num_envs=num_envs, ledger=ledger))
    env.set_seed(seed)
    num_steps, num_features = env.env.unwrapped.space.num_choices, env.observation_spec["observation"].shape[-1]
    logits = TensorDictModule(linear(num_features, env.action_spec.n), in_keys=["observation"], out_keys=["logits"])
    actor = ProbabilisticActor(
        logits,
        in_keys={"logits": "logits", "mask": "action_mask"},
        spec=env.action_spec,
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = ValueOperator(linear(num_features, 1), in_keys=["observation"])
    advantage = GAE(gamma=1.0, lmbda=1.0, value_network=critic)
    loss_module = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.01, critic_coeff=0.5)
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=0.02)
    found: list[float] = []
    while not ledger.exhausted:
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):  # else TorchRL takes the most likely action
            played = env.rollout(num_steps, actor, return_contiguous=True)
        last = played["next"][:, -1]
        scored = ~last["truncated"].squeeze(-1)
        rewards = last["reward"].squeeze(-1)
        found.extend(rewards[scored].tolist())
        if not scored.all():  # the budget did not reach all: nothing is learned from a missing reward
            break
        ranks = torch.tensor([2.0 * np.mean(np.array(found) < reward) - 1.0 for reward in rewards.tolist()])
        played["next", "reward"][:, -1, 0] = ranks.float()  # rank among all seen: no setting depends on a unit
        for _ in range(epochs):
            advantage(played)
            values = played["advantage"]
            played["advantage"] = (values - values.mean()) / (values.std() + 1e-8)
            losses = loss_module(played.reshape(-1))
            loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return found


def main() -> None:
    """Search as the command line says, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=180, help="unique architectures (default 180)")
    args = parser.parse_args()
    rewards = train(args.seed, args.evaluations)
    print(f"{len(rewards)} architectures built; the best earned {max(rewards):.4f}")


if __name__ == "__main__":
    main()
