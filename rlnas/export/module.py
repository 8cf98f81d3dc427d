"""The Python module of a trained network: its source, its classes, how to normalise inputs and to load weights."""

from __future__ import annotations

import textwrap

from torch import nn

from rlnas.data.task import Task
from rlnas.export.preparing import class_names, statistics
from rlnas.export.source import Addition, standalone_source

_WIDTH = 116
_NORMALISE = '''\
def normalise(inputs: Tensor) -> Tensor:
    """Return inputs (B, C, ...) as the network takes them: each channel less its mean, divided by its deviation."""
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    return (inputs - inputs.new_tensor(MEAN).view(shape)) / inputs.new_tensor(STD).view(shape)'''

_LOAD = '''\
def load(weights: str | Path = Path(__file__).with_name("{weights}")) -> nn.Module:
    """Return the trained network in evaluation mode."""
    trained = network()
    trained.load_state_dict(load_file(weights))
    return trained.eval()'''


def module_source(network: nn.Module, task: Task, title: str, weights: str, description: str = "") -> str:
    """Return the source of a module with ``network()``, ``load()``, ``CLASSES`` and, of numbers, ``normalise()``.

    Args:
        network: Trained or not: the weights are in a file of their own.
        task: That it was built for.
        title: First line of the module's docstring.
        weights: Name of the file of weights, which lies beside the module.
        description: Of the architecture, for the docstring, too.

    Raises:
        ExportError: A layer cannot be written down.
    """
    shape = ", ".join(map(str, ("B", *task.spec.input_shape)))
    tokens = task.spec.vocabulary_size is not None
    normalised = statistics(task)
    constants = {} if normalised is None else dict(zip(("MEAN", "STD"), normalised, strict=True))
    given = "normalise(inputs)" if normalised is not None else "inputs"
    usage = [
        f"    trained = load()  # the weights of {weights}, beside this file",
        f"    logits = trained({given})  # inputs: ({shape}), {'int64, 0 pads' if tokens else 'float32'}",
        "    names = [CLASSES[index] for index in logits.argmax(1)]",
    ]
    about = [*textwrap.wrap(description, _WIDTH, break_on_hyphens=False), ""] if description else []
    addition = Addition(
        imports=("from pathlib import Path", "from safetensors.torch import load_file"),
        constants={"CLASSES": list(class_names(task)), **constants},
        functions=(*([_NORMALISE] if normalised is not None else []), _LOAD.format(weights=weights)),
    )
    return standalone_source(network, "\n".join([title, "", *about, *usage]), addition)
