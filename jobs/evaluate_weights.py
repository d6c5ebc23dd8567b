"""Evaluate weights: the scores of a model that somebody else trained, without a run.

reads   weights of OpenAI, open_clip, Hugging Face or a checkpoint; its vocabulary; evaluation sets
        of a settings file; perhaps the folder of an audit
writes  scores.json, predictions.parquet, report.html
"""

import json
from pathlib import Path

import pyarrow.parquet as pq

from jobs import outside
from jobs.evaluate import overlapping, write
from jobs.lock import alone
from jobs.options import activation_of
from jobs.progress import Progress
from jobs.scores_page import shown
from jobs.train import VOCABULARY
from pipeline import tokenizer
from pipeline.errors import BadInput
from pipeline.evaluate.encode import Encoder
from pipeline.evaluate.scores import score_all
from pipeline.trainer import weights
from pipeline.trainer.architectures import architecture
from pipeline.trainer.parallel import device_of
from pipeline.trainer.weights import Weights

_SECTIONS = ("evalsets", "evaluate", "audit")


def main(
    path: Path,
    vocabulary: Path | None,
    evals: Path,
    out: Path,
    audit: Path | None,
    activation: str | None = None,
) -> None:
    """Score the weights at `path` on the evaluation sets of a settings file."""
    progress = Progress()
    settings = outside.settings_of(evals, _SECTIONS, "these scores", progress)
    if not any(evalset.scored for evalset in settings.evalsets):
        raise BadInput(f"--evals {evals}: no [[evalsets]] to score: name at least one there")
    outside.check_is_no_run(out, "evaluate")
    audited = _audited(audit)
    looked_for = _looked_for(audited)
    model, found = weights.load_model(path, activation=activation_of(activation))
    cutter = _tokenizer(path, vocabulary, found)
    device = device_of(settings.evaluate.device)
    side = architecture(found.model).resolution
    encoder = Encoder(model.to(device).eval(), side, device, settings.evaluate)
    outside.make_folder(out)
    with alone(out):
        scores = score_all(
            settings.evalsets,
            encoder,
            cutter,
            lambda name: overlapping(audited, name) if name in looked_for else None,
            settings.audit.significance,
            progress.note,
        )
        told = {"checkpoint": str(path), "model": found.model, "step": None}
        told |= {"audit": None if audit is None else str(audit)}
        whole = write(out, told, scores)
        from jobs.report import render

        page = render("scores_page.html.j2", name=path.name, scores=shown(whole))
        (out / "report.html").write_text(page, encoding="utf-8")
    progress.say(f"report: {out / 'report.html'}")


def _audited(audit: Path | None) -> list[Path]:
    """The overlaps that an audit's folder tells of: one of `wit audit --corpus`, or of a run."""
    if audit is None:
        return []
    found = sorted(audit.glob("*.parquet")) if audit.is_dir() else []
    named = [file for file in found if file.name == "overlaps.parquet"]
    if not named:
        raise BadInput(
            f"--audit {audit} holds no overlaps.parquet: name the folder that "
            "`wit audit --corpus ... --out FOLDER` wrote, or 10_audit of a run"
        )
    return named


def _looked_for(audited: list[Path]) -> set[str]:
    """The evaluation sets that the audit was of: of others it says nothing."""
    found: set[str] = set()
    for file in audited:
        found.update(pq.read_table(file, columns=["source"])["source"].unique().to_pylist())
        summary = file.with_name("summary.json")
        if summary.is_file():
            try:
                told = json.loads(summary.read_text(encoding="utf-8"))
                found.update(one["evalset"] for one in told["sets"])
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"{summary} is no summary of `wit audit`: make it again") from None
    return found


def _tokenizer(path: Path, vocabulary: Path | None, found: Weights) -> tokenizer.Tokenizer:
    """The tokenizer of the weights. Raises BadInput where it is not theirs, as far as is told."""
    own = path.parent / VOCABULARY
    file = own if vocabulary is None and own.is_file() else vocabulary
    if file is None:
        raise BadInput(
            f"{path} needs --vocabulary FILE, the merges that it was trained with: for OpenAI's "
            "and most others bpe_simple_vocab_16e6.txt.gz"
        )
    cutter = tokenizer.load_for(file, found.vocabulary)
    if cutter.vocabulary != found.vocabulary:
        raise BadInput(
            f"{file} has {cutter.vocabulary:,} tokens, and {path} was trained with "
            f"{found.vocabulary:,}: name its own vocabulary"
        )
    if found.tokenizer not in (None, cutter.digest):
        raise BadInput(f"{file} is not the vocabulary that {path} was trained with: name its own")
    return cutter
