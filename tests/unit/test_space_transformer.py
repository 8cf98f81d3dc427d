"""The transformer space: masks and canonical form against brute force, networks against published counts, padding."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlnas.data.digits import digits
from rlnas.errors import ConfigError, SpaceError
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.encoder import PatchEmbedding, TokenEmbedding, fitting_patch, patches
from rlnas.nets.transformer import TransformerNetwork
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.chain import Chain
from rlnas.spaces.transformer import Transformer
from rlnas.testing.blocks import check_blocks
from rlnas.testing.spaces import check_space, flop_counter_macs

TINY = Transformer((4, 6), (1, 2), (1, 3), (3,), (1, 2), ("gelu",))
SMALL = Transformer((8, 12), (1, 2, 3), (1, 2, 3), (3, 7), (0.5, 2), ("gelu", "relu", "silu"))
TEXT = TaskSpec("text", (9,), 3, 20)
TASKS = [
    TEXT,
    TaskSpec("digits", (1, 8, 8), 10),
    TaskSpec("odd colour images", (3, 13, 9), 2),
    TaskSpec("one pixel", (1, 1, 1), 2),
    TaskSpec("spectrograms", (1, 40, 63), 10),
    TaskSpec("waves", (2, 3001), 5),
]


def published(**changes: object) -> Transformer:
    """A space of few members that has ViT-Tiny and BERT-Tiny and BERT-Mini."""
    sizes = {"widths": (128, 192, 256), "depths": (2, 4, 12), "heads": (2, 3, 4), "kernels": (), "ratios": (4,)}
    return Transformer(**{**sizes, **changes})  # type: ignore[arg-type]


def built(space: Transformer, architecture: Architecture, task: TaskSpec, seed: int = 0) -> TransformerNetwork:
    torch.manual_seed(seed)
    network = space.build(architecture, task)
    assert isinstance(network, TransformerNetwork)
    with torch.no_grad():
        for parameter in network.parameters():  # far from zero, so that what should not matter would show
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return network.double().eval()


# Published networks ------------------------------------------------------------------------------------------------


def test_vit_tiny_has_the_published_parameters_but_for_the_class_token() -> None:
    space = published(patch=16)
    with torch.device("meta"):
        network = space.build(space.references()["vit_tiny"], TaskSpec("imagenet", (3, 224, 224), 1000))
    assert count_params(network) == 5_717_416 - 2 * 192  # of 5.7 M: the class token, and the code of its position
    by_layer = 196 * 12 * 192**2 + 2 * 196**2 * 192
    assert count_macs(network, (3, 224, 224)) == 196 * 768 * 192 + 12 * by_layer + 192 * 1000


def test_bert_tiny_and_mini_have_the_published_parameters_but_for_pooler_and_token_types() -> None:
    task = TaskSpec("books", (512,), 2, 30_522)
    for name, width, parameters in (("bert_tiny", 128, 4_385_920), ("bert_mini", 256, 11_170_560)):
        with torch.device("meta"):
            network = published().build(published().references()[name], task)
        pooler, token_types, classifier = width * width + width, 2 * width, 2 * width + 2
        assert count_params(network) == parameters - pooler - token_types + classifier


def test_references_are_those_that_the_space_has_and_its_largest() -> None:
    assert set(published().references()) == {"vit_tiny", "bert_tiny", "bert_mini", "encoder"}
    assert {name: Transformer().describe(one) for name, one in Transformer().references().items()} == {
        "bert_tiny": "128 wide, gelu: 2 x attention-2 x4",
        "encoder": "128 wide, gelu: 6 x attention-2 x4",
    }
    assert set(SMALL.references()) == {"encoder"}
    assert SMALL.describe(SMALL.references()["encoder"]) == "12 wide, gelu: 3 x attention-1 x2"
    assert Transformer(heads=()).references() == {}
    for space in (published(), Transformer(), SMALL):
        for architecture in space.references().values():
            assert space.canonical_architecture(architecture) == architecture


# Choices -----------------------------------------------------------------------------------------------------------


def test_masks_leave_out_exactly_heads_that_do_not_divide_the_width() -> None:
    members = set()
    for row in product(*map(range, TINY.num_candidates)):
        names = TINY.to_names(Architecture(row))
        mixers = [value for name, value in names.items() if name.startswith("mixer")]
        if all(not m.startswith("attention") or int(names["width"]) % int(m.split("-")[1]) == 0 for m in mixers):
            members.add(row)
    assert TINY.size == len(members)
    assert {TINY.unrank(rank).indices for rank in range(TINY.size)} == members


def test_canonical_forms_are_equal_exactly_where_networks_are() -> None:
    networks: dict[str, set[Architecture]] = {}
    for rank in range(TINY.size):
        architecture = TINY.unrank(rank)
        canonical = TINY.canonical_architecture(architecture)
        assert TINY.is_legal(canonical.indices)
        assert TINY.describe(canonical) == TINY.describe(architecture)
        networks.setdefault(TINY.describe(architecture), set()).add(canonical)
    assert all(len(forms) == 1 for forms in networks.values())
    assert len(networks) == 4 + 4**2 + 6 + 6**2  # 2 mixers x 2 ratios at width 4, 3 x 2 at 6; one layer or two


def test_equal_forms_build_equal_networks() -> None:
    rng = np.random.default_rng(0)
    tokens = torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        architecture = SMALL.sample(rng)
        forms = architecture, SMALL.canonical_architecture(architecture)
        outputs = [built(SMALL, form, TEXT)(tokens) for form in forms]
        assert torch.equal(*outputs)


def test_choices_with_a_single_candidate_are_left_out() -> None:
    only = Transformer((8,), (2,), (2,), (), (1, 2), ("relu",))
    assert [choice.name for choice in only.choices] == ["ratio0", "ratio1"]
    assert only.describe(only.unrank(1)) == "8 wide, relu: attention-2 x1 > attention-2 x2"
    check_space(only, [TASKS[1], TEXT], num_samples=3)
    layers = Transformer((8,), (1, 2), (2,), (3,), (2,), ("relu",))
    assert [choice.name for choice in layers.choices] == ["depth", "mixer0", "mixer1"]
    check_space(layers, [TEXT], num_samples=4)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_it_keeps_the_contract_for_each_kind_of_input(task: TaskSpec) -> None:
    check_space(SMALL, [task], num_samples=6)


def test_a_mask_of_a_limit_needs_what_each_candidate_adds() -> None:
    everywhere = [SMALL.sample(np.random.default_rng(seed)) for seed in range(8)]
    check_blocks(SMALL, everywhere, TEXT)
    prefix = (0, 0, 0)
    assert SMALL.added_blocks((*prefix, 0, 0), range(3), TEXT) == [{}, {}, {}], "the second layer is absent"


def test_settings_enter_the_key() -> None:
    options: list[dict[str, object]] = [
        {},
        {"widths": (32, 64)},
        {"depths": (1, 2)},
        {"heads": (1, 2)},
        {"kernels": (3,)},
        {"ratios": (1, 2)},
        {"activations": ("gelu",)},
        {"activations": ("relu",)},
        {"patch": 4},
        {"max_positions": 49},
    ]
    assert len({Transformer(**option).key for option in options}) == len(options)  # type: ignore[arg-type]
    assert Transformer(widths=[32, 64, 128], ratios=[1.0, 2.0, 4.0]).key == Transformer().key


# Networks ----------------------------------------------------------------------------------------------------------


def test_weights_start_as_published() -> None:
    space = published(patch=2, kernels=(7,))
    names = {"width": "192", "depth": "2", "activation": "gelu", "mixer0": "attention-3", "mixer1": "convolution-7"}
    architecture = space.from_names({**names, **{f"mixer{i}": "attention-3" for i in range(2, 12)}})
    for task in (TEXT, TASKS[1]):
        torch.manual_seed(0)
        network = space.build(architecture, task)
        for name, parameter in network.named_parameters():
            if "norm" in name or name.endswith("bias"):
                assert bool((parameter == float("norm" in name and name.endswith("weight"))).all()), name
            elif parameter.numel() > 1000:
                kept = parameter[1:] if name == "embedding.embedding.weight" else parameter
                assert float(kept.detach().abs().max()) <= 0.04
                assert float(kept.detach().std()) == pytest.approx(0.0176, rel=0.1)  # .88 of .02: cut off at two
    embedding = network_of(space, architecture, TEXT).embedding
    assert isinstance(embedding, TokenEmbedding)
    assert bool((embedding.embedding.weight[0] == 0).all())


def network_of(space: Transformer, architecture: Architecture, task: TaskSpec) -> TransformerNetwork:
    network = space.build(architecture, task)
    assert isinstance(network, TransformerNetwork)
    return network


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_padding_never_changes_the_output(seed: int, length: int, holes: int) -> None:
    rng = np.random.default_rng(seed)
    network = built(SMALL, SMALL.sample(rng), TEXT, seed)
    tokens = torch.from_numpy(rng.integers(1, 20, (2, 9)))
    tokens[:, length:] = 0
    tokens[0, rng.integers(0, length, holes)] = 0
    expected = network(tokens)
    torch.testing.assert_close(network(tokens[:, :length]), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        embedding = network.embedding
        assert isinstance(embedding, TokenEmbedding)
        embedding.embedding.weight[0] = 100.0
        embedding.positions[length:] = -50.0
    torch.testing.assert_close(network(tokens), expected, rtol=1e-9, atol=1e-9)


def test_what_is_no_padding_does_change_the_output() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        network = built(SMALL, SMALL.sample(rng), TEXT)
        tokens = torch.from_numpy(rng.integers(1, 20, (1, 9)))
        others = [tokens.clone() for _ in range(9)]
        for position, other in enumerate(others):
            other[0, position] = (other[0, position] % 19) + 1
        assert all(not torch.allclose(network(other), network(tokens)) for other in others)


def test_padding_gets_no_gradient() -> None:
    network = network_of(SMALL, SMALL.references()["encoder"], TEXT)
    network(torch.tensor([[3, 4, 0, 0, 0, 0, 0, 0, 0]])).sum().backward()
    embedding = network.embedding
    assert isinstance(embedding, TokenEmbedding)
    gradient = embedding.positions.grad
    assert gradient is not None
    assert bool((gradient[2:] == 0).all())
    assert bool((gradient[:2] != 0).any())


def test_attention_is_what_torch_computes() -> None:
    from rlnas.nets.encoder import Attention

    torch.manual_seed(0)
    ours, theirs = Attention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.project.weight.detach(),
            "in_proj_bias": ours.project.bias.detach(),
            "out_proj.weight": ours.output.weight.detach(),
            "out_proj.bias": ours.output.bias.detach(),
        }
    )
    x, keep = torch.randn(2, 5, 12, dtype=torch.float64), torch.tensor([[1.0, 1, 1, 0, 1], [1, 0, 0, 0, 0]]).double()
    y = ours.norm(x)
    expected = x + theirs(y, y, y, key_padding_mask=keep == 0)[0]
    torch.testing.assert_close(ours(x, keep), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (2, 301)])
def test_inputs_of_other_sizes_than_those_it_was_built_for_work(shape: tuple[int, ...]) -> None:
    space = Transformer((8,), (2,), (2,), (3,), (2,), ("gelu",), max_positions=16)
    architecture = space.from_names({"mixer0": "attention-2", "mixer1": "convolution-3"})
    network = built(space, architecture, TaskSpec("sized", shape, 4))
    for change in (0, 5, -3):
        x = torch.rand(2, shape[0], *(size + change for size in shape[1:]), dtype=torch.float64)
        assert network(x).shape == (2, 4)
        assert bool(network(x).isfinite().all())


def test_the_last_patch_is_filled_up_with_zeros() -> None:
    torch.manual_seed(0)
    embedding = PatchEmbedding(1, (5, 7), 4, 3)
    x = torch.rand(1, 1, 5, 7)
    larger = torch.zeros(1, 1, 8, 8)
    larger[:, :, :5, :7] = x
    assert torch.equal(embedding(x), embedding(larger))


def test_a_longer_sequence_than_it_was_built_for_is_refused() -> None:
    network = network_of(SMALL, SMALL.references()["encoder"], TEXT)
    with pytest.raises(SpaceError, match="10 tokens, and the network was built for 9"):
        network(torch.ones(1, 10, dtype=torch.int64))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=2), st.integers(1, 200))
def test_the_patch_is_the_least_that_leaves_few_enough_positions(sizes: list[int], most: int) -> None:
    patch = fitting_patch(sizes, most)
    enough = [p for p in range(1, 301) if np.prod([-(-size // p) for size in sizes]) <= most]
    assert patch == (1 if max(sizes) == 1 else max(2, enough[0]))
    assert int(np.prod(patches(sizes, patch))) <= most


def test_usual_images_have_usual_patches() -> None:
    sides = {1: 1, 8: 2, 28: 4, 32: 4, 64: 8}
    assert {side: fitting_patch((side, side), 64) for side in sides} == sides
    assert fitting_patch((224, 224), 196) == 16


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_each_activation_trains(activation: str) -> None:
    space = Transformer((16,), (1, 2), (2,), (3,), (2,), (activation,))  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = network_of(space, space.unrank(space.size - 1), TEXT)
    tokens = torch.randint(1, 20, (64, 9), generator=torch.Generator().manual_seed(0))
    targets = (tokens == 7).any(1).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(tokens), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float((network(tokens).argmax(1) == targets).float().mean()) > 0.95


def test_multiply_adds_are_those_of_torch_with_and_without_a_mask() -> None:
    for task in TASKS:
        network: nn.Module = SMALL.build(SMALL.references()["encoder"], task)
        assert count_macs(network, task.input_shape) == flop_counter_macs(network, task.input_shape)


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TaskSpec("odd", (8,), 10), r"'odd' has inputs of shape \(8,\).*images.*signals.*tokens"),
        (TaskSpec("odd", (1, 2, 3, 4), 10), "images.*signals.*tokens"),
        (TaskSpec("odd", (3, 4), 10, 50), r"tokens in inputs of shape \(3, 4\)"),
        (TaskSpec("odd", (3,), 10, 1), "vocabulary of 1"),
        (TaskSpec("odd", (3,), 0, 10), "0 classes"),
        (TaskSpec("odd", (1, 0), 3), r"shape \(1, 0\)"),
        (TaskSpec("odd", (1, 4, 6), 3), r"space\.patch is 8.*at most 6"),
    ],
)
def test_tasks_that_do_not_fit_are_refused_by_name(task: TaskSpec, message: str) -> None:
    space = Transformer(patch=8)
    for build in (space.build, lambda architecture, task: space.blocks(architecture.indices, task)):
        with pytest.raises(SpaceError, match=message):
            build(space.references()["encoder"], task)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": ()}, r"space\.widths is \[\]"),
        ({"widths": (8, 8)}, "distinct"),
        ({"depths": (0, 1)}, r"space\.depths is \[0, 1\]"),
        ({"heads": (0,)}, r"space\.heads"),
        ({"heads": (), "kernels": ()}, "mix positions somehow"),
        ({"heads": (3,), "kernels": ()}, r"none divides the widths \[32, 64, 128\]"),
        ({"kernels": (4,)}, "odd"),
        ({"ratios": ()}, r"space\.ratios is \[\]"),
        ({"ratios": (1, 1.0)}, "distinct"),
        ({"ratios": (-1,)}, "above 0"),
        ({"ratios": (float("nan"),)}, "above 0"),
        ({"widths": (2,), "heads": (1,), "ratios": (1, 1.1)}, "the same at width 2"),
        ({"activations": ("gelu", "gelu")}, "at most once"),
        ({"activations": ("tanh",)}, "choose from"),
        ({"activations": ()}, "choose from"),
        ({"patch": 0}, r"space\.patch is 0"),
        ({"max_positions": 0}, r"space\.max_positions is 0"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Transformer(**arguments)  # type: ignore[arg-type]


def test_an_output_depends_on_where_things_are() -> None:
    rng = np.random.default_rng(0)
    for task in (TEXT, TASKS[1]):
        network = built(SMALL, SMALL.sample(rng), task)
        x: Tensor = torch.arange(1, 10)[None] if task is TEXT else torch.rand(1, 1, 8, 8, dtype=torch.float64)
        assert not torch.allclose(network(x), network(x.flip(-1)))


def test_the_learning_rate_that_suits_the_space_is_part_of_what_results_are_kept_under() -> None:
    task = digits()
    rates = [TrainingProxy(space, task).settings["learning_rate"] for space in (Chain(), Transformer())]
    assert rates == [0.01, 0.001]
    assert TrainingProxy(Transformer(), task, learning_rate=0.02).settings["learning_rate"] == 0.02
    assert TrainingProxy(Chain(), task).settings == TrainingProxy(Chain(), task, learning_rate=0.01).settings
