"""Plan: what `wit plan` assumes of the web, beside what others published of theirs.

The curve of `jobs.plan_pool` goes through four totals of MetaCLIP's first pool (arXiv 2309.16671).
Here it meets figures that it was not fitted to: what caps leave of that pool and of a larger one,
by arithmetic and by pairs that are sampled and cut as a run cuts them; and a download with dead
links and duplicates. With a folder of real captions, how far matches gather on some of them, and
what a row of the first tables takes.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import captions, population
from benchmarks.candidates import arrive
from benchmarks.form import Figure, publish
from benchmarks.shuffles import JOIN_AS_AT_SCALE, shuffled
from jobs import plan_pool, plan_rates, walk
from jobs.plan_report import bytes_of
from jobs.run import Run
from pipeline import shard
from pipeline.match import QueryIndex, Semantics
from pipeline.settings import BalanceSettings, DownloadSettings

_PAPER = "MetaCLIP, arXiv 2309.16671"
_SECOND = 10.7e9
"""Pairs of MetaCLIP's second pool."""
_TOP = (120, 107, 100, 89, 87, 67, 67, 61, 54, 50, 48, 47, 45, 43, 43, 39, 38, 33, 30, 29)
"""Millions of pairs of its 20 most frequent queries: table 3."""
_KEPT = {(plan_pool.PAIRS, 20_000): 400e6, (_SECOND, 20_000): 1e9, (_SECOND, 170_000): 2.5e9}
"""Pairs that a cap left of a pool: figures 2 and 3."""
_SCALE = 2000
_WEB = (
    "laion400m_sample_filtered",
    "cc3m_val_first8000_with_http_status",
    "openverse_behance_commoncrawl",
)
"""Alt texts, of which the first are as crawled."""
_QUERIES = 500_000


def main(data: Path | None) -> None:
    """Simulate, measure where there is data, and publish."""
    rates = plan_rates.reference()
    spread = rates.share("queries_together")
    figures = [*_curve(), *_caps(spread), *_downloads(rates)]
    if data is not None and (data / "captions").is_dir():
        figures += [*_gathered(data), *_rows(data)]
    publish("plan", figures)


def _curve() -> list[Figure]:
    sizes = plan_pool.counts(plan_pool.PAIRS)
    head = sizes > plan_pool.CAP * (1 - 1e-9)
    second = plan_pool.counts(_SECOND)
    tail = second[second < 170_000].sum() / second.sum()
    return [
        Figure("fitted: matches", sizes.sum() / 1e6, "million", 5670, _PAPER),
        Figure("fitted: of queries above 20,000", sizes[head].sum() / 1e6, "million", 5350, _PAPER),
        Figure("fitted: queries above 20,000", float(head.sum()), "queries", 16_000, _PAPER),
        Figure("fitted: first query", sizes[0] / 1e6, "million", 120, _PAPER),
        Figure("predicted: 20 first queries", sizes[:20].sum() / 1e6, "million", sum(_TOP), _PAPER),
        Figure("predicted: 20th query", sizes[19] / 1e6, "million", _TOP[19], _PAPER),
        Figure("predicted: second pool, below 170,000", 100 * float(tail), "%", 6, _PAPER),
    ]


def _caps(spread: float) -> list[Figure]:
    """What caps leave, by arithmetic, by sampling, and as chance alone would have it."""
    figures = []
    for (pairs, cap), published in _KEPT.items():
        scale = _SCALE * (2 if pairs > plan_pool.PAIRS else 1)
        sizes = plan_pool.counts(pairs)
        claims = float(np.minimum(sizes, cap).sum())
        what = f"{pairs / 1e9:g} billion pairs, cap {cap:,}"
        # The curve is of the first pool: a larger one has a larger share of the same web.
        at = scale * plan_pool.PAIRS / pairs
        pool = population.sampled(round(pairs / scale), at, spread, 0)
        kept = population.kept(pool, len(sizes), round(cap / scale)) * scale
        told = {
            "by arithmetic": plan_pool.union(pairs, claims, spread),
            "sampled": kept,
            "by chance": plan_pool.union(pairs, claims, 1e4),
        }
        figures += [
            Figure(f"{what}: {how}", value / 1e6, "million", published / 1e6, _PAPER)
            for how, value in told.items()
        ]
        if pairs == plan_pool.PAIRS:
            with_query = int((np.diff(pool.begins) > 0).sum()) * scale
            figures.append(
                Figure("sampled: with a query", with_query / 1e6, "million", 1600, _PAPER)
            )
    return figures


def _downloads(rates: plan_rates.Rates) -> list[Figure]:
    """Dead links and duplicates: sampled, beside the plan's arithmetic."""
    spread = rates.share("queries_together")
    cap, rounds = BalanceSettings().max_pairs_per_query, DownloadSettings().rounds
    figures = []
    pool = population.sampled(round(plan_pool.PAIRS / _SCALE), _SCALE, spread, 1)
    queries = len(plan_pool.counts(1.0))
    for alive, headroom in (
        (rates.share("alive"), BalanceSettings().headroom),
        (0.5, 1.6),
        (0.8, 1.6),
    ):
        share = rates.share("kept_by_dedup")
        planned = plan_pool.drawn(
            plan_pool.PAIRS, cap, headroom, rounds, alive=alive, kept_by_dedup=share, spread=spread
        )
        came = population.downloaded(
            pool,
            queries,
            cap // _SCALE,
            headroom,
            rounds,
            alive=alive,
            kept_by_dedup=share,
            seed=2,
        )
        what = f"{alive:.0%} alive, headroom {headroom:g}"
        for step, ours, theirs in (
            ("drawn at first", came.first, planned.first),
            ("drawn in all rounds", came.drawn, planned.drawn),
            ("arrived", came.arrived, planned.alive),
            ("balanced", came.balanced, planned.balanced),
        ):
            figures.append(
                Figure(f"{what}: {step}", ours * _SCALE / 1e6, "million", theirs / 1e6, "planned")
            )
        for step, ours, theirs in (
            ("caps filled by one round", came.first_filled, planned.first_filled),
            (f"caps filled by {rounds} rounds", came.filled, planned.filled),
        ):
            figures.append(Figure(f"{what}: {step}", 100 * ours, "%", 100 * theirs, "planned"))
    return figures


# -- real captions -------------------------------------------------------------------------


def _gathered(data: Path) -> list[Figure]:
    """How far matches gather on some captions, under a cap that leaves most to the crowded."""
    listed = captions.queries(data, _QUERIES)
    figures = []
    semantics: Semantics
    for semantics in ("metaclip", "tokens"):
        index = QueryIndex.build(listed, semantics)
        for name, files in (("LAION-400M", _WEB[:1]), ("three sets of alt texts", _WEB)):
            texts = pa.array(_texts(data, files), pa.string())
            found = index.match(texts)
            counts = np.diff(found.offsets.to_numpy())
            values = found.values.to_numpy()
            sizes = np.bincount(values, minlength=len(listed))
            rows = np.repeat(np.arange(len(texts)), counts)
            chances = np.minimum(1.0, 1.0 / np.maximum(sizes, 1))[values]
            has = np.random.default_rng(0).random(len(values)) < chances
            kept, matched = len(np.unique(rows[has])), int((counts > 0).sum())
            spread = plan_pool.together(matched, float(np.minimum(sizes, 1).sum()), kept)
            what = f"{name}, {semantics}"
            figures += [
                Figure(f"{what}: captions with a query", 100 * matched / len(texts), "%"),
                Figure(f"{what}: queries of those", float(counts.sum()) / matched, "queries"),
                Figure(f"{what}: queries_together", spread, ""),
            ]
    return figures


def _texts(data: Path, names: tuple[str, ...]) -> list[str]:
    return [
        str(text)
        for name in names
        for text in pq.read_table(data / "captions" / f"{name}.parquet", columns=["text"])[
            "text"
        ].to_pylist()
        if text
    ]


def _rows(data: Path) -> list[Figure]:
    """Bytes of a row of the first tables: CC3M's, the one set with captions and addresses."""
    dumps = sorted(str(file) for file in (data / "wiki").glob("enwiki-2*-pages-articles.xml.bz2"))
    table = json.dumps(str((data / "captions" / f"{_WEB[1]}.parquet").resolve()))
    config = f"""
[spark]
driver_memory = "2g"
partitions = 4
[derive]
dumps = {json.dumps(dumps)}
min_word_count = 1
min_bigram_count = 2
[ingest]
tables = [{{path = {table}, url = "url", caption = "text"}}]
"""
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "plan.toml"
        path.write_text(config, encoding="utf-8")
        run = Run.open(Path(scratch) / "run", path, [JOIN_AS_AT_SCALE])
        for verb, table in (
            ("derive", "queries"),
            ("ingest", "candidates"),
            ("match", "matched"),
            ("draw", "drawn"),
            ("balance", "balanced"),
        ):
            if verb == "balance":
                arrive(run, hashed=True)
            before = shuffled(run)
            walk.stage_of(verb).make(run)
            rows = run.rows(table)
            figures += [
                Figure(f"{table}: a row, written", bytes_of(run.path(table)) / rows, "bytes"),
                Figure(f"{table}: a row, shuffled", (shuffled(run) - before) / rows, "bytes"),
            ]
        # As the download and the shards are laid out; the images themselves do not travel.
        placed, _ = shard.plan(run.read("balanced"), run.settings.shard)
        for table, rows, by in (
            ("drawn", run.read("drawn"), "raw_shard"),
            ("balanced", placed, "number"),
        ):
            before = shuffled(run)
            rows.repartition(by).write.format("noop").mode("overwrite").save()
            moved = (shuffled(run) - before) / run.rows(table)
            figures.append(Figure(f"{table}: a row, laid out anew", moved, "bytes"))
    return figures


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
