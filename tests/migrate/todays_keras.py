"""Runs in a process of its own: evaluates expressions under today's Keras and reports moments.

Reads JSON from stdin, {name: {"code": …, "shape": …}}, and writes JSON to stdout: mean, standard
deviation, kurtosis, least and greatest value of each draw; programs are run and their `weights`
reported alike.
"""

import functools
import inspect
import json
import sys

import numpy as np


def moments(values):
    values = np.asarray(values, np.float64).ravel()
    mean, std = values.mean(), values.std()
    squares = (values - mean) ** 2  # NumPy's fourth power takes fifteen times as long
    kurtosis = float((squares * squares).mean() / std**4) if std > 0 else 0.0
    return {
        "mean": float(mean),
        "std": float(std),
        "kurtosis": kurtosis,
        "least": float(values.min()),
        "greatest": float(values.max()),
    }


def gram(values):
    """How far a matrix of everything but the last axis is from orthogonal, and its scale."""
    matrix = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    small = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    scale = float(np.sqrt(np.diag(small).mean()))
    off = np.abs(small - scale**2 * np.eye(len(small))).max()
    return {"scale": scale, "off": float(off)}


def signature(of):
    return [[p.name, p.default] for p in inspect.signature(of).parameters.values()]


def main():
    import keras

    import fanwise.tf1
    from fanwise.keras import initializers

    try:
        import tensorflow as tf
    except ImportError:
        from types import SimpleNamespace

        tf = SimpleNamespace(keras=keras)
    request = json.load(sys.stdin)
    scope = {"keras": keras, "tf": tf}
    answer = {}
    for name, item in request.get("draws", {}).items():
        initializer = eval(item["code"], scope)
        values = keras.ops.convert_to_numpy(initializer(tuple(item["shape"]), dtype="float32"))
        answer[name] = gram(values) if item.get("gram") else moments(values)
    answer["signatures"] = {
        name: signature(getattr(keras.initializers, name)) for name in request.get("signatures", ())
    }
    answer["names"] = {
        name: functools.reduce(lambda at, part: getattr(at, part, None), name.split("."), tf)
        is not None
        for name in request.get("names", ())
    }
    answer["fanwise"] = {"tf1": dir(fanwise.tf1), "keras": dir(initializers)}
    scope |= {"fanwise": fanwise, "initializers": initializers}
    for name, item in request.get("fanwise", {}).items():
        values = eval(item["code"], scope)(tuple(item["shape"]), dtype="float32")
        answer[name] = moments(keras.ops.convert_to_numpy(values))
    # Last, for a program may switch eager execution off.
    for name, code in request.get("programs", {}).items():
        ran = {}
        exec(code, ran)
        answer[name] = {key: np.asarray(value).tolist() for key, value in ran["weights"].items()}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
