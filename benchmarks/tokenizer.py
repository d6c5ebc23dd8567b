"""The tokenizer: learned and applied, beside tokenizers, transformers and open_clip.

python -m benchmarks.tokenizer DATA, where DATA holds parquet files of captions in a column `text`.
The peers run in the environment that `make test-interop` builds; contenders take turns, each in a
process of its own on one thread, and CPU time is told.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import tokenizer_peers
from benchmarks.form import Figure, publish
from pipeline import tokenizer

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "interop" / "open_clip" / "bin" / "python"
MERGES, ENCODED, ROUNDS = 48_894, 50_000, 3


def captions(data: Path) -> list[str]:
    found: list[str] = []
    for file in sorted(data.rglob("*.parquet")):
        if "text" in pq.read_schema(file).names:
            texts = pq.read_table(file, columns=["text"])["text"].to_pylist()
            found += [" ".join(text.split()) for text in texts if text]
    return found


def spent(python: str, name: str, texts: Path, merges: Path) -> tuple[float, int | None]:
    threads = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = str(ROOT) if python == sys.executable else ""
    command = [python, "-P", tokenizer_peers.__file__, name, str(texts), str(merges)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told["seconds"], told["told"]


def contest(names: dict[str, str], texts: Path, merges: Path, rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, python in names.items():
            cost, told = spent(python, name, texts, merges)
            seconds[name].append(cost)
            if told is not None:
                print(f"{name}: {told:,} learned, {cost:.1f} s", flush=True)
    return {name: statistics.median(costs) for name, costs in seconds.items()}


def main(data: Path) -> None:
    texts = captions(data)
    print(f"{len(texts):,} captions")
    learned = tokenizer.Tokenizer(tokenizer.learn(tokenizer.count_words(texts), MERGES))
    print(f"{len(learned.merges):,} merges, {learned.vocabulary:,} tokens")
    own, other = sys.executable, str(PEERS)
    with tempfile.TemporaryDirectory(prefix="bench-tokenizer-") as made:
        listed, merges = Path(made, "captions.txt"), Path(made, tokenizer.VOCABULARY)
        some = texts[:: max(1, len(texts) // ENCODED)]
        listed.write_text("\n".join(some), encoding="utf-8")
        learned.save(merges)
        encoding = {"ours_encodes": own, "open_clip_encodes": other, "transformers_encodes": other}
        encoded = contest(encoding, listed, merges, ROUNDS)
        listed.write_text("\n".join(texts), encoding="utf-8")
        learning = {"ours_learns": own, "tokenizers_learns": other}
        taught = contest(learning, listed, merges, ROUNDS)
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
