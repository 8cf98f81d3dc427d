"""A sound agent in plain torch, and twins of it with one fault each, as others have shipped them.

`Sound` is PPO on free logits: masked sampling, the clipped ratio, an entropy bonus, a moving baseline, Adam. Each fault
overrides the one method in which such a mistake is made.
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnas.space import SearchSpace

Env = Any


@dataclass
class Played:
    """A batch of episodes: actions (B, D), masks (B, D, A), log-probabilities when played (B, D), rewards (B,)."""

    actions: Tensor
    masks: Tensor
    log_probs: Tensor
    rewards: Tensor


class Sound:
    """PPO on free logits for each choice; keeps all rules."""

    def __init__(self, space: SearchSpace, seed: int = 0, *, learning_rate: float = 0.1, n_epochs: int = 4) -> None:
        self.space, self.seed, self.n_epochs = space, seed, n_epochs
        self.generator = torch.Generator().manual_seed(seed)
        self.logits = torch.zeros(space.num_choices, max(space.num_candidates), requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], lr=learning_rate)
        self.baseline = math.nan

    # Playing

    def masks(self, env: Env) -> Tensor:
        return torch.from_numpy(env.unwrapped.action_masks())

    def log_softmax(self, logits: Tensor, masks: Tensor) -> Tensor:
        return logits.masked_fill(~masks, -torch.inf).log_softmax(dim=-1)

    def sample_log_softmax(self, logits: Tensor, masks: Tensor) -> Tensor:
        return self.log_softmax(logits, masks)

    def draw(self, log_probs: Tensor) -> Tensor:
        return torch.multinomial(log_probs.exp(), 1, generator=self.generator).squeeze(-1)

    def most_likely(self, log_probs: Tensor) -> Tensor:
        return log_probs.argmax(dim=-1)

    @torch.no_grad()
    def play(self, env: Env, *, deterministic: bool = False) -> tuple[Played, Tensor]:
        """Return a batch of episodes, and which of them the budget did not reach."""
        env.reset()
        steps = []
        for t in range(self.space.num_choices):
            masks = self.masks(env)
            log_probs = self.sample_log_softmax(self.logits[t].expand(len(masks), -1), masks)
            actions = self.most_likely(log_probs) if deterministic else self.draw(log_probs)
            _, rewards, _, truncated, _ = env.step(actions.numpy())
            learned = self.log_softmax(self.logits[t].expand(len(masks), -1), masks)
            steps.append((actions, masks, learned.gather(1, actions[:, None]).squeeze(1)))
        actions, masks, log_probs = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
        return Played(actions, masks, log_probs, torch.from_numpy(rewards)), torch.from_numpy(truncated)

    # Learning

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:
        while not ledger.exhausted:
            played, truncated = self.play(env)
            kept = ~truncated
            if kept.any():
                batch = Played(*(column[kept] for column in vars(played).values()))
                callback(self.update(batch))

    def advantages(self, rewards: Tensor) -> Tensor:
        mean = rewards.mean().item()
        self.baseline = mean if math.isnan(self.baseline) else 0.8 * self.baseline + 0.2 * mean
        return (rewards - self.baseline) / (rewards.std(correction=0) + 0.02)

    def old_log_probs(self, batch: Played, new: Tensor) -> Tensor:  # noqa: ARG002
        return batch.log_probs

    def update(self, batch: Played) -> dict[str, float]:
        advantages = self.advantages(batch.rewards).float()[:, None]
        for _ in range(self.n_epochs):
            log_probs, entropy = self.evaluated(batch)
            ratio = (log_probs - self.old_log_probs(batch, log_probs)).exp()
            loss = -torch.minimum(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean() - 0.01 * entropy
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        with torch.no_grad():
            log_probs, entropy = self.evaluated(batch)
            log_ratio = log_probs - self.old_log_probs(batch, log_probs)
            kl = (log_ratio.exp() - 1 - log_ratio).mean()
        return {"policy/loss": loss.item(), "policy/entropy": entropy.item(), "policy/kl": kl.item()}

    def evaluated(self, batch: Played) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the actions, (B, D), and the mean entropy per choice, both with gradient."""
        log_probs = self.log_softmax(self.logits.expand(len(batch.actions), -1, -1), batch.masks)
        finite = log_probs.masked_fill(log_probs == -torch.inf, 0.0)
        entropy = -(log_probs.exp() * finite).sum(dim=-1).mean()
        return log_probs.gather(2, batch.actions[..., None]).squeeze(2), entropy

    # What others ask for

    def propose(self, env: Env, num_architectures: int, *, deterministic: bool = False) -> np.ndarray:
        rounds = range(-(-num_architectures // env.num_envs))
        found = [self.play(env, deterministic=deterministic)[0].actions for _ in rounds]
        return torch.cat(found).numpy()[:num_architectures]

    @torch.no_grad()
    def log_probs(self, env: Env, architectures: np.ndarray) -> np.ndarray:
        found = []
        for first in range(0, len(architectures), env.num_envs):
            wanted = architectures[first : first + env.num_envs]
            filled = np.concatenate([wanted, np.repeat(wanted[:1], env.num_envs - len(wanted), axis=0)])
            env.reset()
            masks = []
            for t in range(self.space.num_choices):
                masks.append(torch.from_numpy(env.unwrapped.action_masks()))
                env.step(filled[:, t])
            batch = Played(torch.from_numpy(filled), torch.stack(masks, dim=1), torch.empty(0), torch.empty(0))
            found.append(self.evaluated(batch)[0].sum(dim=1)[: len(wanted)])
        return torch.cat(found).double().numpy()

    def state(self) -> dict[str, Any]:
        return {
            "logits": self.logits.detach(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "baseline": self.baseline,
        }

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.baseline = state["baseline"]

    def save(self, folder: Path) -> None:
        torch.save(self.state(), folder / "agent.pt")

    def load(self, folder: Path) -> None:
        self.restore(torch.load(folder / "agent.pt", weights_only=True))


# Faults of sampling ------------------------------------------------------------------------------------------------


class Argmax(Sound):
    """Takes the most likely action in place of drawing one."""

    def draw(self, log_probs: Tensor) -> Tensor:
        return self.most_likely(log_probs)


class GreedyInLearning(Sound):
    """Proposes by drawing, but plays the most likely action while it learns."""

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:
        play = self.play
        self.play = lambda env: play(env, deterministic=True)  # type: ignore[method-assign, assignment]
        super().learn(env, ledger, callback)
        del self.play


class AlwaysDraws(Sound):
    """Draws also where it should not."""

    def propose(self, env: Env, num_architectures: int, *, deterministic: bool = False) -> np.ndarray:  # noqa: ARG002
        return super().propose(env, num_architectures)


class IgnoresMasks(Sound):
    """Draws from all actions."""

    def masks(self, env: Env) -> Tensor:
        return torch.ones_like(super().masks(env))


class MasksOfTheSpace(Sound):
    """Asks the space what is legal, and so overlooks what constraints of the run forbid."""

    def play(self, env: Env, *, deterministic: bool = False) -> tuple[Played, Tensor]:
        self.prefix = np.empty((env.num_envs, 0), dtype=np.int64)
        return super().play(env, deterministic=deterministic)

    def masks(self, env: Env) -> Tensor:
        known = self.space.legal(self.prefix)
        width = super().masks(env).shape[1]
        return torch.from_numpy(np.pad(known, ((0, 0), (0, width - known.shape[1]))))

    def draw(self, log_probs: Tensor) -> Tensor:
        actions = super().draw(log_probs)
        self.prefix = np.column_stack([self.prefix, actions.numpy()])
        return actions

    def most_likely(self, log_probs: Tensor) -> Tensor:
        actions = super().most_likely(log_probs)
        self.prefix = np.column_stack([self.prefix, actions.numpy()])
        return actions


class OneMaskForAll(Sound):
    """Takes the mask of the first environment for all of them."""

    def masks(self, env: Env) -> Tensor:
        masks = super().masks(env)
        return masks[:1].expand(len(masks), -1)


# Faults of probabilities -------------------------------------------------------------------------------------------


class UnmaskedLogProbs(Sound):
    """Draws from the masked distribution, and learns from the log-probabilities of the unmasked one."""

    def log_softmax(self, logits: Tensor, masks: Tensor) -> Tensor:  # noqa: ARG002
        return logits.log_softmax(dim=-1)

    def sample_log_softmax(self, logits: Tensor, masks: Tensor) -> Tensor:
        return super().log_softmax(logits, masks)


class UnmaskedEntropy(Sound):
    """Rewards the entropy over illegal actions, too."""

    def evaluated(self, batch: Played) -> tuple[Tensor, Tensor]:
        log_probs, _ = super().evaluated(batch)
        unmasked = self.logits.log_softmax(dim=-1)
        return log_probs, -(unmasked.exp() * unmasked).sum(dim=-1).mean()


class OtherTemperature(Sound):
    """Draws from flatter probabilities than it learns with."""

    def sample_log_softmax(self, logits: Tensor, masks: Tensor) -> Tensor:
        return self.log_softmax(logits / 5.0, masks)


class RatioIsOne(Sound):
    """Divides by the present policy: the ratio is 1 at every step."""

    def old_log_probs(self, batch: Played, new: Tensor) -> Tensor:  # noqa: ARG002
        return new.detach()


class RatioWithoutGradient(Sound):
    """Divides by the present policy, gradient and all: nothing moves."""

    def old_log_probs(self, batch: Played, new: Tensor) -> Tensor:  # noqa: ARG002
        return new


# Faults of learning ------------------------------------------------------------------------------------------------


class WrongSign(Sound):
    """Climbs down."""

    def advantages(self, rewards: Tensor) -> Tensor:
        return -super().advantages(rewards)


class OthersReward(Sound):
    """Gives each architecture the reward of its neighbour in the batch."""

    def advantages(self, rewards: Tensor) -> Tensor:
        return super().advantages(rewards).roll(1)


class ForgetsTheStep(Sound):
    """Computes gradients and never applies them."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        super().__init__(space, seed)
        self.optimizer.step = lambda: None  # type: ignore[method-assign, assignment, misc]


class TooTimid(Sound):
    """Learns at a rate that suits millions of episodes."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        super().__init__(space, seed, learning_rate=3e-4)


class Diverges(Sound):
    """Reports a loss that is no number."""

    def update(self, batch: Played) -> dict[str, float]:
        return {**super().update(batch), "policy/loss": math.nan}


# Faults of budget --------------------------------------------------------------------------------------------------


class OverrunsTheLedger(Sound):
    """Plays a fixed number of updates."""

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:  # noqa: ARG002
        for _ in range(200):
            callback(self.update(self.play(env)[0]))


class PeeksBehindTheLedger(Sound):
    """Has what it plans scored by the evaluator itself, past the budget."""

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:
        from rlnas.space import Architecture

        rng = np.random.default_rng(self.seed)
        env.unwrapped._core._scorer._evaluator.evaluate_free(
            [Architecture(self.space.sample(rng).indices) for _ in range(20)]
        )
        super().learn(env, ledger, callback)


class StopsEarly(Sound):
    """Leaves after three updates."""

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:  # noqa: ARG002
        for _ in range(3):
            callback(self.update(self.play(env)[0]))


class Silent(Sound):
    """Never calls back."""

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:  # noqa: ARG002
        super().learn(env, ledger, lambda _: None)


class TenEnvironments(Sound):
    """Believes that there are always ten environments."""

    def draw(self, log_probs: Tensor) -> Tensor:
        return super().draw(log_probs[:1].expand(10, -1)) if len(log_probs) != 10 else super().draw(log_probs)


# Faults of seeds and checkpoints -----------------------------------------------------------------------------------


class IgnoresTheSeed(Sound):
    """Is the same, whatever seed is asked for."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:  # noqa: ARG002
        super().__init__(space, 0)


class GlobalGenerator(Sound):
    """Draws from torch's global generator."""

    def draw(self, log_probs: Tensor) -> Tensor:
        return torch.multinomial(log_probs.exp(), 1).squeeze(-1)


class ForgetsTheOptimiser(Sound):
    """Saves everything but Adam's moments."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "optimizer": None}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore({**state, "optimizer": self.optimizer.state_dict()})


class ForgetsTheBaseline(Sound):
    """Begins with a new baseline after load."""

    def restore(self, state: dict[str, Any]) -> None:
        super().restore({**state, "baseline": math.nan})


class ForgetsTheGenerator(Sound):
    """Draws something else after load."""

    def restore(self, state: dict[str, Any]) -> None:
        super().restore({**state, "generator": self.generator.get_state()})


class ForgetsTheWeights(Sound):
    """Loads all but what it has learned."""

    def restore(self, state: dict[str, Any]) -> None:
        super().restore({**state, "logits": self.logits.detach()})


class Pickles(Sound):
    """Writes a pickle."""

    def save(self, folder: Path) -> None:
        (folder / "agent.bin").write_bytes(pickle.dumps(self.state()))

    def load(self, folder: Path) -> None:
        self.restore(pickle.loads((folder / "agent.bin").read_bytes()))  # noqa: S301


class ClaimsToResume(Sound):
    """Says that it resumes exactly, but learns from each batch twice and keeps it where no checkpoint sees it."""

    resumes_exactly = True

    def learn(self, env: Env, ledger: Any, callback: Any) -> None:
        previous: Played | None = None
        while not ledger.exhausted:
            played, truncated = self.play(env)
            if truncated.any():
                return
            metrics = self.update(played)
            if previous is not None:
                self.update(previous)
            previous = played
            callback(metrics)


class Resumes(Sound):
    """Says that it resumes exactly, and does."""

    resumes_exactly = True


class InJson(Sound):
    """A sound one whose checkpoint is JSON alone, without torch's files and without optional members."""

    log_probs = None  # type: ignore[assignment]

    def update(self, batch: Played) -> dict[str, float]:
        return {"train/reward_mean": float(batch.rewards.mean()), "policy/loss": super().update(batch)["policy/loss"]}

    def save(self, folder: Path) -> None:
        state = self.state()
        moments = state["optimizer"]["state"].get(0, {})
        plain = {
            "logits": state["logits"].tolist(),
            "generator": state["generator"].tolist(),
            "baseline": self.baseline,
            "moments": {name: value.tolist() for name, value in moments.items()},
        }
        (folder / "agent.json").write_text(json.dumps(plain))

    def load(self, folder: Path) -> None:
        plain = json.loads((folder / "agent.json").read_text())
        optimizer = self.optimizer.state_dict()
        if plain["moments"]:
            optimizer["state"] = {0: {name: torch.tensor(value) for name, value in plain["moments"].items()}}
        self.restore(
            {
                "logits": torch.tensor(plain["logits"]),
                "optimizer": optimizer,
                "generator": torch.tensor(plain["generator"], dtype=torch.uint8),
                "baseline": plain["baseline"],
            }
        )
