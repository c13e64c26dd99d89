#!/usr/bin/env python3
"""Fits of scikit-learn on a small random pool: make_golden.py DIR

Writes DIR/pool.features.safetensors and DIR/expected.json. The intercept and the extras are not
penalised: the columns and the labels are projected on the complement of [1, extras] first, which
leaves scikit-learn a problem without them; their coefficients follow by least squares.
"""

import json
import sys

import numpy as np
import sklearn
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

SEED = 20260527
ROWS, LATENTS = 80, 50
MIN_DF, MAX_DF = 5, 0.9


def pool(rng):
    """Values [ROWS, LATENTS]; latent 0 in all rows, 1 in three, 3 a copy of 2, 4 negative."""
    values = np.where(rng.random((ROWS, LATENTS)) < 0.25, rng.exponential(2, (ROWS, LATENTS)), 0)
    values[:, 0] = 1 + rng.random(ROWS)
    values[3:, 1] = 0
    values[:, 3] = values[:, 2]
    values[:, 4] = -values[:, 4]
    values[7] = 0
    values[7, 0] = 1
    return values.astype(np.float32)


def write_safetensors(path, tensors, metadata):
    names = {"int64": "I64", "uint32": "U32", "uint64": "U64", "float32": "F32"}
    header, data = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def features(values, raw):
    if raw:
        return values.astype(float)
    t = np.sign(values) * np.log1p(np.abs(values.astype(float)))
    norm = np.linalg.norm(t, axis=1, keepdims=True)
    df = (values != 0).sum(axis=0)
    allowed = (df >= MIN_DF) & (df <= MAX_DF * len(values))
    return (t / norm)[:, allowed]


def fit(model, x, free, y, alpha, l1_ratio):
    n = len(y)
    if model == "logistic":
        fitted = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=10**5, solver="newton-cg")
        fitted.fit(x, y)
        w = fitted.coef_[0]
        scores = x @ w + fitted.intercept_[0]
        loss = np.logaddexp(0, -(2 * y - 1) * scores).sum()
        return loss + alpha / 2 * w @ w, scores
    q = np.linalg.qr(free)[0]
    px, py = x - q @ (q.T @ x), y - q @ (q.T @ y)
    if model == "ridge":
        w = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(px, py).coef_
        objective = ((py - px @ w) ** 2).sum() + alpha * w @ w
    else:
        fitted = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-12,
                            max_iter=10**6)
        w = fitted.fit(px, py).coef_
        objective = ((py - px @ w) ** 2).sum() / (2 * n)
        objective += alpha * l1_ratio * np.abs(w).sum() + alpha * (1 - l1_ratio) / 2 * w @ w
    c = np.linalg.lstsq(free, y - x @ w, rcond=None)[0]
    return objective, x @ w + free @ c


def main(directory):
    rng = np.random.default_rng(SEED)
    values = pool(rng)
    tokens = rng.integers(3, 60, ROWS).astype(np.uint32)
    recon = (0.1 + rng.random((ROWS, 2))).astype(np.float32)
    rows, columns = np.nonzero(values)
    write_safetensors(
        directory + "/pool.features.safetensors",
        {
            "indptr": np.searchsorted(rows, np.arange(ROWS + 1)).astype(np.int64),
            "indices": columns.astype(np.uint32),
            "values": values[rows, columns],
            "keys": np.arange(1, ROWS + 1).astype(np.uint64),
            "tokens_used": tokens,
            "recon_mean": recon[:, 0].copy(),
            "recon_max": recon[:, 1].copy(),
        },
        {"format": "saerl.features", "version": "1", "d_sae": str(LATENTS), "pooling": "max"},
    )
    recon = recon.astype(float)
    extras = {"recon": np.sqrt(recon), "length": np.log(tokens.astype(float))[:, None]}
    y = 3 + values[:, 2] - values[:, 5] + 0.5 * extras["length"][:, 0] + 0.3 * rng.normal(size=ROWS)
    labels = {"number": y, "class": (y > np.median(y)).astype(float)}
    cases = []
    for model, label, raw, extra, alpha, l1_ratio in [
        ("ridge", "number", True, [], 1.0, None),
        ("ridge", "number", True, [], 1e-3, None),
        ("ridge", "number", False, ["recon", "length"], 0.3, None),
        ("ridge", "class", False, ["recon"], 10.0, None),
        ("elastic_net", "number", True, [], 0.1, 0.5),
        ("elastic_net", "number", False, ["length"], 0.01, 0.5),
        ("elastic_net", "number", False, ["length"], 0.001, 0.9),
        ("elastic_net", "number", False, [], 0.02, 1.0),
        ("logistic", "class", True, [], 1.0, None),
        ("logistic", "class", False, [], 0.1, None),
    ]:
        free = np.hstack([np.ones((ROWS, 1))] + [extras[name] for name in extra])
        x = features(values, raw)
        objective, scores = fit(model, x, free, labels[label], alpha, l1_ratio)
        cases.append({
            "model": model, "labels": label, "raw": raw, "extra": extra, "alpha": alpha,
            "l1_ratio": l1_ratio, "columns": x.shape[1], "objective": objective,
            "scores": list(scores),
        })
    expected = {
        "scikit-learn": sklearn.__version__, "numpy": np.__version__, "seed": SEED,
        "min_df": MIN_DF, "max_df": MAX_DF,
        "labels": {name: list(column) for name, column in labels.items()}, "cases": cases,
    }
    with open(directory + "/expected.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
