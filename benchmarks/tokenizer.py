"""The tokenizer: learned and applied, beside tokenizers, transformers and open_clip.

python -m benchmarks.tokenizer DATA, where DATA holds parquet files of captions in a column `text`.
The peers run in the environment that `make test-interop` builds; contenders take turns, each in a
process of its own on one thread, and CPU time is told.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import tokenizer_peers
from benchmarks.form import Figure, alternate, publish, seconds_told
from benchmarks.peers import python_of
from pipeline import tokenizer

ROOT = Path(__file__).parent.parent
MERGES, ENCODED, ROUNDS = 48_894, 50_000, 3


def captions(data: Path) -> list[str]:
    found: list[str] = []
    for file in sorted(data.rglob("*.parquet")):
        if "text" in pq.read_schema(file).names:
            texts = pq.read_table(file, columns=["text"])["text"].to_pylist()
            found += [" ".join(text.split()) for text in texts if text]
    return found


def spent(python: str, name: str, texts: Path, merges: Path) -> float:
    threads = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = str(ROOT) if python == sys.executable else ""
    command = [python, "-P", tokenizer_peers.__file__, name, str(texts), str(merges)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["told"] is not None:
        print(f"{name}: {told['told']:,} learned, {told['seconds']:.1f} s", flush=True)
    return float(told["seconds"])


def contest(names: dict[str, str], texts: Path, merges: Path) -> dict[str, float]:
    contenders = {n: partial(spent, python, n, texts, merges) for n, python in names.items()}
    return alternate(contenders, rounds=ROUNDS, measure=seconds_told)


def main(data: Path) -> None:
    peers = python_of("open_clip")
    if peers is None:
        sys.exit("the peers are not built: run `make test-interop` first")
    texts = captions(data)
    print(f"{len(texts):,} captions")
    learned = tokenizer.Tokenizer(tokenizer.learn(tokenizer.count_words(texts), MERGES))
    print(f"{len(learned.merges):,} merges, {learned.vocabulary:,} tokens")
    own, other = sys.executable, str(peers)
    with tempfile.TemporaryDirectory(prefix="bench-tokenizer-") as made:
        listed, merges = Path(made, "captions.txt"), Path(made, tokenizer.VOCABULARY)
        some = texts[:: max(1, len(texts) // ENCODED)]
        listed.write_text("\n".join(some), encoding="utf-8")
        learned.save(merges)
        encoding = {"ours_encodes": own, "open_clip_encodes": other, "transformers_encodes": other}
        encoded = contest(encoding, listed, merges)
        listed.write_text("\n".join(texts), encoding="utf-8")
        learning = {"ours_learns": own, "tokenizers_learns": other}
        taught = contest(learning, listed, merges)
    rate = {name: len(some) / cost for name, cost in encoded.items()}
    figures = [
        Figure("encoded", rate["ours_encodes"], "texts/s", rate["open_clip_encodes"], "open_clip"),
        Figure(
            "encoded", rate["ours_encodes"], "texts/s", rate["transformers_encodes"], "transformers"
        ),
        Figure(
            "learned, words counted first",
            taught["ours_learns"],
            "s",
            taught["tokenizers_learns"],
            "tokenizers",
            at_most=True,
        ),
    ]
    publish("tokenizer", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
