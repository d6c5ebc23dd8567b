"""A contender of benchmarks.tokenizer, in an environment of its own: CPU seconds on one thread.

python tokenizer_peers.py NAME CAPTIONS MERGES, where CAPTIONS has a caption a line and MERGES is a
merges file. Packages are imported where they are used: no environment has all of them.
"""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT, _BATCH, _MERGES = 77, 1024, 48_894


def _seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _batches(texts: list[str]) -> list[list[str]]:
    return [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]


def ours_encodes(texts: list[str], merges: str) -> Callable[[], Any]:
    from pipeline import tokenizer

    cutter = tokenizer.load(Path(merges), _MERGES)
    return lambda: [cutter.encode_batch(batch, _CONTEXT) for batch in _batches(texts)]


def open_clip_encodes(texts: list[str], merges: str) -> Callable[[], Any]:
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "interop" / "scripts"))
    import torchvision_operators  # noqa: F401

    # What others import asks for those operators.
    # isort: split
    from open_clip.tokenizer import SimpleTokenizer

    cutter = SimpleTokenizer(bpe_path=merges)
    return lambda: [cutter(batch, _CONTEXT) for batch in _batches(texts)]


def transformers_encodes(texts: list[str], merges: str) -> Callable[[], Any]:
    import gzip

    from transformers import CLIPTokenizerFast

    lines = gzip.decompress(Path(merges).read_bytes()).decode().split("\n")[1 : _MERGES + 1]
    pairs = [tuple(line.split(" ")) for line in lines if line]
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = sorted(ByteLevel.alphabet())
    spelled = [*symbols, *(s + "</w>" for s in symbols), *map("".join, pairs)]
    spelled += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(spelled))}
    cutter = CLIPTokenizerFast(vocab=vocab, merges=pairs)
    options = {"padding": "max_length", "max_length": _CONTEXT, "truncation": True}
    return lambda: [cutter(batch, **options, return_tensors="np") for batch in _batches(texts)]


def ours_learns(texts: list[str], _: str) -> Callable[[], Any]:
    from pipeline import tokenizer

    tokenizer.learn({"ab": 2}, 1)  # kernels are compiled
    return lambda: len(tokenizer.learn(tokenizer.count_words(texts), _MERGES))


def tokenizers_learns(texts: list[str], _: str) -> Callable[[], Any]:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    found = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    found.normalizer = normalizers.Lowercase()
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(pattern, behavior="removed", invert=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    trainer = trainers.BpeTrainer(
        vocab_size=512 + _MERGES,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return lambda: found.train_from_iterator(texts, trainer) or found.get_vocab_size()


def main(name: str, captions: str, merges: str) -> None:
    texts = Path(captions).read_text(encoding="utf-8").split("\n")
    work = globals()[name](texts, merges)
    before = _seconds()
    told = work()
    seconds = _seconds() - before
    print(json.dumps({"seconds": seconds, "told": told if isinstance(told, int) else None}))


if __name__ == "__main__":
    main(*sys.argv[1:])
