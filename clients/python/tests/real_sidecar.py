"""`saerl serve` on a small data set of its own: what MockSidecar is, for tests that run on either."""

import json
import os
import signal
import subprocess
import time

import numpy as np

from saerl import Curator, CuratorError, tensorfile


class RealSidecar:
    """Rows are the prompts "row 0", "row 1", ...; killed with SIGKILL, as restart() means it."""

    def __init__(self, program, folder, rows=200, d_in=8, more=""):
        self.program, self.folder, self.rows = program, folder, rows
        self.endpoint = "ipc://%s/real" % folder
        (folder / "data.jsonl").write_text("".join(
            json.dumps({"id": i, "prompt": "row %d" % i}) + "\n" for i in range(rows)))
        rng = np.random.default_rng(0)
        tensorfile.write(str(folder / "acts.safetensors"), {
            "activations": [rng.standard_normal((3 * rows, d_in)).astype(np.float32)],
            "offsets": [np.arange(rows + 1, dtype=np.int64) * 3]}, {})
        (folder / "sae").mkdir()
        (folder / "sae" / "cfg.json").write_text(json.dumps({
            "architecture": "standard", "d_in": d_in, "d_sae": 16, "dtype": "float32",
            "apply_b_dec_to_input": True, "normalize_activations": "none"}))
        w = rng.standard_normal((d_in, 16)).astype(np.float32)
        tensorfile.write(str(folder / "sae" / "sae_weights.safetensors"), {
            "W_enc": [w], "b_enc": [np.zeros(16, np.float32)], "W_dec": [np.ascontiguousarray(w.T)],
            "b_dec": [np.zeros(d_in, np.float32)]}, {})
        (folder / "recipe.yaml").write_text(
            "version: 1\ninput: {data: [data.jsonl], activations: [acts.safetensors]}\n"
            "sae: {path: sae}\nbatches: {size: 16}\nclustering: {clusters: 4}\n" + more)
        self.process = None
        self.start()

    def start(self):
        self.log = open(self.folder / "serve.log", "ab")
        self.process = subprocess.Popen(
            [self.program, "serve", str(self.folder / "recipe.yaml"), "--bind", self.endpoint, "--state",
             str(self.folder / "state")], stdout=self.log, stderr=self.log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while True:
            try:
                with Curator(self.endpoint, "probe", timeout_s=2) as probe:
                    if probe.ping().state == "ready":
                        return
            except CuratorError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "serve.log").read_text()
                self.stop()
                raise RuntimeError("saerl serve did not get ready:\n" + words)
            time.sleep(0.05)

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.log.close()
        self.process = None

    def restart(self):
        self.stop()
        self.start()
