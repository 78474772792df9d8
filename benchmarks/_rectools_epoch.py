"""Epochs of RecTools' SASRec, for ``sequence_epoch.py``; runs under an interpreter that has ``rectools[torch]``.

    python _rectools_epoch.py LOG.npz BATCH DIM LENGTH EPOCHS

Prints one line of JSON: seconds of each epoch, the last epoch's loss, versions.
"""

import json
import sys
import time
import warnings
from importlib import metadata

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet


class Clock(lightning.Callback):
    """Seconds of every epoch."""

    def __init__(self):
        self.seconds = []

    def on_train_epoch_start(self, trainer, module):
        """Starts the clock."""
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer, module):
        """Stops it."""
        self.seconds.append(time.perf_counter() - self.start)
        self.loss = float(trainer.callback_metrics.get("train_loss", float("nan")))


def main(path, batch, dim, length, epochs):
    """Trains and prints."""
    warnings.simplefilter("ignore")
    log = np.load(path)
    frame = pd.DataFrame({
        Columns.User: log["user"], Columns.Item: log["item"], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(log["step"], unit="s"),
    })  # fmt: skip

    def trainer():
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Clock()],
        )  # fmt: skip

    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=dim, dropout_rate=0.1, session_max_len=length, loss="softmax", lr=1e-3,
        batch_size=batch, epochs=epochs, item_net_block_types=(IdEmbeddingsItemNet,), get_trainer_func=trainer,
    ).fit(Dataset.construct(frame))  # fmt: skip
    # RecTools trains by a copy of its trainer, and of what the trainer was given.
    (clock,) = (callback for callback in model.fit_trainer.callbacks if isinstance(callback, Clock))
    versions = {name: metadata.version(name) for name in ("rectools", "torch")}
    print(json.dumps({"seconds": clock.seconds, "loss": clock.loss, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
