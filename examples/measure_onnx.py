"""Measure an ONNX model with ONNX Runtime and print what `device=command` reads.

    python measure_onnx.py model.onnx --threads 4

It needs nothing but the packages onnxruntime and numpy, so that it runs on a board as it is: copy it there. The last
line that it prints is a JSON object such as {"latency_ms": 3.21, "latency_ms_low": 3.18, "latency_ms_high": 3.27}.

The time is the wall time of one run with batch 1, the 20th percentile over several rounds; low and high are the least
and the largest of what the rounds give by themselves.
"""

import argparse
import json
import time

import numpy as np
import onnxruntime


def main() -> None:
    """Measure the model that the command line names."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("model", help="path of the ONNX file")
    options.add_argument("--threads", type=int, default=1, help="of the runtime within an operation (default 1)")
    options.add_argument("--rounds", type=int, default=10, help="of timed runs (default 10)")
    options.add_argument("--seconds", type=float, default=1.0, help="for all rounds together (default 1)")
    options.add_argument("--provider", default="CPUExecutionProvider", help="execution provider of the runtime")
    args = options.parse_args()
    session = load(args.model, args.threads, args.provider)
    rounds = measure(session, args.rounds, args.seconds)
    each = [float(np.percentile(times, 20)) for times in rounds]
    latency = float(np.percentile(np.concatenate(rounds), 20))
    low, high = min(*each, latency), max(*each, latency)
    print(json.dumps({"latency_ms": latency, "latency_ms_low": low, "latency_ms_high": high}))


def load(path: str, threads: int, provider: str) -> onnxruntime.InferenceSession:
    """Return a session of the model."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, settings, providers=[provider])


def measure(session: onnxruntime.InferenceSession, num_rounds: int, seconds: float) -> list[np.ndarray]:
    """Return the milliseconds of the runs of each round."""
    rng = np.random.default_rng(0)
    inputs = {}
    for declared in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in declared.shape]
        if declared.type == "tensor(int64)":
            inputs[declared.name] = np.ones(shape, np.int64)  # tokens: 0 would be padding, and every vocabulary has a 1
        else:
            inputs[declared.name] = rng.standard_normal(shape, dtype=np.float32)
    run_ms(session, inputs)  # allocates
    fastest = min(run_ms(session, inputs) for _ in range(3))
    count = max(3, int(seconds * 1e3 / num_rounds / fastest))
    return [np.array([run_ms(session, inputs) for _ in range(count)]) for _ in range(num_rounds)]


def run_ms(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> float:
    """Return the milliseconds of one run."""
    start = time.perf_counter()
    session.run(None, inputs)
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
