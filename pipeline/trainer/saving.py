"""Saving: checkpoints are written while the training goes on, one at a time.

The training waits for a copy of the weights and statistics in memory, not for the disk.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from pipeline.errors import BadInput
from pipeline.settings import TrainSettings
from pipeline.trainer import checkpoint
from pipeline.trainer.checkpoint import State


class Saver:
    """Writes into `folder` what is to be kept by `settings`; at the end of `with` all is written.

    A process that is killed at any moment leaves the last whole checkpoint. Raises BadInput where
    steps are to be kept that are not saved.
    """

    def __init__(self, folder: Path, settings: TrainSettings) -> None:
        every, kept = settings.save_every_steps, settings.keep_every_steps
        if kept is not None and kept % every:
            raise BadInput(
                f"train.keep_every_steps: {kept:,} is no multiple of train.save_every_steps "
                f"({every:,}): such steps would not be saved"
            )
        self._folder, self._keep, self._keep_every = folder, settings.keep_checkpoints, kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._writing: Future[Path] | None = None

    def save(
        self,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        rng: Mapping[str, Tensor],
        state: State,
        *,
        is_copy: bool = False,
    ) -> None:
        """Have a checkpoint written, as checkpoint.save does; first wait for the one before.

        `is_copy`: nobody will change these tensors. Raises NotSaved for the one before.
        """
        self.wait()
        if not is_copy:
            model, optimizer = _copied(model), _copied(optimizer)
        self._writing = self._thread.submit(
            checkpoint.save,
            *(self._folder, model, optimizer, rng, state, self._keep, self._keep_every),
        )

    def wait(self) -> None:
        """Until what was to be saved is saved. Raises NotSaved."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            # What went wrong in the training comes before what went wrong with the disk.
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown()


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
