"""A process that reads batches and tells what is in them, to be killed and begun again.

python loader_process.py SHARDS FIRST LAST WORKERS RANK RANKS: of each row of its part of each
batch a line `step row digest`, as soon as the batch is there. Of its workers' processes first a
line `workers pid ...`.
"""

import hashlib
import sys
from contextlib import closing
from pathlib import Path

import psutil

from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.samples import Batches, Samples


def main(shards: str, *numbers: str) -> None:
    first, last, workers, rank, ranks = map(int, numbers)
    samples = Samples(Path(shards), LoaderSettings(batches_ahead=1))
    tokenizer = Tokenizer([])
    batches = Batches(samples, tokenizer, 12, 48, 32, 5, rank, ranks)
    with closing(batches.between(first, last, workers)) as stream:
        for batch in stream:
            if batch.step == first:
                _tell("workers", *[child.pid for child in psutil.Process().children()])
            rows = zip(batch.pair_ids, batch.image_BHWC, batch.tokens_BL.tolist(), strict=True)
            for row, (pair_id, image, tokens) in enumerate(rows):
                text = tokens[: tokens.index(tokenizer.end) + 1]
                content = pair_id.encode() + image.numpy().tobytes() + repr(text).encode()
                digest = hashlib.sha256(content).hexdigest()
                _tell(batch.step, rank * batches.rows + row, digest)


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
