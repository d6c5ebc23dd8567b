"""pipeline.balance"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline import balance as stage
from pipeline.balance import FULL, claiming, cutting, order
from pipeline.errors import BadInput
from pipeline.parts import Part, parts
from pipeline.schemas import BALANCED, DRAWN, FAILED, IMAGES, MATCHED
from pipeline.settings import BalanceSettings

Pairs = dict[str, list[int]]
QUERIES = 4
CAP = 30


def _named(query_ids: list[list[int]]) -> Pairs:
    return {
        hashlib.sha256(str(i).encode()).hexdigest()[:32]: ids for i, ids in enumerate(query_ids)
    }


# Query 0 is crowded, 1 and 2 are rare, and nothing matches 3.
CROWDED = _named([[0] if i % 10 else [0, 1 + i // 10 % 2] for i in range(400)])


def _parts(folder: Path, pairs: Pairs, schema: pa.Schema, *, files: int = 3) -> list[Part]:
    """A table of pairs, whose other columns are empty, in some files of some row groups."""
    folder.mkdir(exist_ok=True)
    names = sorted(pairs)
    for number in range(files):
        mine = names[number::files]
        columns: list[Any] = []
        for field in schema:
            if field.name == "pair_id":
                columns.append(pa.array(mine, pa.string()))
            elif pa.types.is_list(field.type):
                columns.append(pa.array([pairs[name] for name in mine], field.type))
            else:
                kind = field.type
                is_text = pa.types.is_string(kind) or pa.types.is_binary(kind)
                columns.append(pa.array(["" if is_text else 0] * len(mine)).cast(kind))
        pq.write_table(
            pa.table(columns, schema=schema),
            folder / f"{number}.parquet",
            row_group_size=max(50, len(pairs) // 6),
        )
    return parts(sorted(folder.glob("*.parquet")), rows=1)


def _rows(folder: Path, column: str) -> Pairs:
    files = sorted(folder.glob("part-*.parquet"))
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    return dict(zip(table["pair_id"].to_pylist(), table[column].to_pylist(), strict=True))


def _pool(pairs: Pairs) -> np.ndarray:
    counts = Counter(query for ids in pairs.values() for query in ids)
    return np.array([counts[query] for query in range(QUERIES)], np.int64)


def _balanced(
    spark: SparkSession,
    root: Path,
    pairs: Pairs,
    settings: BalanceSettings,
    *,
    files: int = 3,
    pool: Any = None,
) -> Pairs:
    todo = _parts(root / f"in{files}", pairs, IMAGES, files=files)
    out = root / f"out{files}"
    out.mkdir()
    pool = _pool(pairs) if pool is None else pool
    told, _ = stage.balance(spark, todo, pool, settings, str(out))
    kept = _rows(out, "kept_for")
    assert told.counts["rows"] == len(kept)
    assert told.counts["rows"] + told.counts[FULL] == len(pairs)
    return kept


def _by_hand(pairs: Pairs, cap: int, seed: int) -> Pairs:
    """Every query's pairs sorted, and cut."""
    kept: Pairs = {}
    for query in range(QUERIES):
        mine = [name for name, ids in pairs.items() if query in ids]
        half = {name: np.uint64(int(name[16:], 16)) for name in mine}
        mine.sort(key=lambda name: (int(order.priority(half[name], query, seed)), name[:16]))
        for name in mine[:cap]:
            kept.setdefault(name, []).append(query)
    return kept


SETTINGS = BalanceSettings(max_pairs_per_query=CAP, headroom=1.0, pairs_per_raw_shard=20)


# -- the order -----------------------------------------------------------------------------


@hypothesis.settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), unique=True), st.integers(0, 2**20), st.integers(0, 9))
def test_no_two_pairs_have_one_priority_for_a_query(
    lower: list[int], query: int, seed: int
) -> None:
    found = [int(order.priority(np.uint64(half), query, seed)) for half in lower]
    assert len(set(found)) == len(lower)


def test_priorities_of_one_query_say_nothing_of_those_of_another() -> None:
    lower = np.arange(10_000, dtype=np.uint64)
    ranks = []
    for query in (0, 1):
        found = np.array([order.priority(half, query, 0) for half in lower], np.uint64)
        ranks.append(found.argsort().argsort())
    assert abs(np.corrcoef(ranks[0], ranks[1])[0, 1]) < 0.05


def test_a_tie_is_broken_by_the_other_half_of_the_name() -> None:
    names = [f"{upper:016x}{7:016x}" for upper in range(5)]
    batch = pa.record_batch(
        {"pair_id": names, "query_ids": pa.array([[0]] * 5, pa.list_(pa.int32()))}
    )
    rule = claiming.Rule(1, 0)
    found = claiming.claims(batch, rule)
    last = np.array([order.priority(np.uint64(7), 0, 0)], np.uint64)
    kept = claiming.kept(found, rule, order.Cut(last, np.array([2], np.uint64)))
    assert np.diff(kept.begins).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", ["", "g" * 32, "A" * 32, "0" * 31, "0" * 33, "é" * 16])
def test_a_name_that_is_no_pair_id_is_refused(name: str) -> None:
    batch = pa.record_batch({"pair_id": [name], "query_ids": pa.array([[0]], pa.list_(pa.int32()))})
    with pytest.raises(BadInput, match="32 hexadecimal digits"):
        claiming.claims(batch, claiming.Rule(1, 0))


@pytest.mark.parametrize("query", [-1, 4])
def test_a_query_that_the_list_has_not_is_refused(query: int) -> None:
    lists = pa.array([[0], [query]], pa.list_(pa.int32()))
    batch = pa.record_batch({"pair_id": ["0" * 32] * 2, "query_ids": lists})
    with pytest.raises(BadInput, match="wit match --again"):
        claiming.claims(batch, claiming.Rule(QUERIES, 0))


def test_the_cuts_of_another_list_of_queries_are_refused() -> None:
    lists = pa.array([[3]], pa.list_(pa.int32()))
    batch = pa.record_batch({"pair_id": ["0" * 32], "query_ids": lists})
    rule = claiming.Rule(QUERIES, 0)
    with pytest.raises(BadInput, match=r"cuts of 3 queries, .* has 4: run `wit draw --again`"):
        claiming.kept(claiming.claims(batch, rule), rule, cutting.everything(QUERIES - 1))


# -- the caps ------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 3])
def test_a_query_keeps_the_first_of_its_order_up_to_its_cap_however_the_table_is_cut(
    spark: SparkSession, tmp_path: Path, files: int
) -> None:
    kept = _balanced(spark, tmp_path, CROWDED, SETTINGS, files=files)
    assert kept == _by_hand(CROWDED, CAP, seed=0)
    counts = Counter(query for queries in kept.values() for query in queries)
    assert counts == {0: CAP, 1: 20, 2: 20}
    # A rare query keeps a pair that a crowded one drops.
    assert [1] in kept.values()


def test_another_seed_keeps_other_pairs_and_as_many(spark: SparkSession, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"seed": -7})
    kept = _balanced(spark, tmp_path, CROWDED, settings)
    assert kept == _by_hand(CROWDED, CAP, seed=-7 % 2**63)
    assert kept != _by_hand(CROWDED, CAP, seed=0)


def test_a_bound_that_is_too_low_is_raised_until_the_cut_is_found(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = _parts(tmp_path / "in", CROWDED, MATCHED)
    pool, targets = _pool(CROWDED), np.minimum(_pool(CROWDED), CAP)
    rule = claiming.Rule(QUERIES, 0)
    right = cutting.cuts(spark, todo, pool, targets, rule)
    # As if the query had ten times as many pairs: the bound is a tenth of what it must be.
    wrong = cutting.cuts(spark, todo, pool * 10, targets, rule)
    assert right.priority[0] == wrong.priority[0]
    assert right.name[0] == wrong.name[0]


def test_a_pair_that_comes_twice_is_told(spark: SparkSession, tmp_path: Path) -> None:
    todo = _parts(tmp_path / "in", CROWDED, IMAGES)
    (tmp_path / "out").mkdir()
    # The cap of an odd number falls between the two.
    settings = SETTINGS.model_copy(update={"max_pairs_per_query": CAP + 1})
    with pytest.raises(BadInput, match="comes twice"):
        stage.balance(spark, [*todo, *todo], _pool(CROWDED) * 2, settings, str(tmp_path / "out"))


def test_rarest_keeps_a_pair_for_the_rarest_of_its_queries_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"semantics": "rarest"})
    kept = _balanced(spark, tmp_path, CROWDED, settings)
    pool = _pool(CROWDED)
    rarest = {name: [min(ids, key=lambda q: (pool[q], q))] for name, ids in CROWDED.items()}
    assert kept == _by_hand(rarest, CAP, seed=0)


# -- draws ---------------------------------------------------------------------------------


def _draw(
    spark: SparkSession, root: Path, todo: list[Part], pool: Any, settings: Any, **more: Any
) -> tuple[stage.Drawn, Pairs]:
    root.mkdir()
    drawn = stage.draw(spark, todo, pool, settings, str(root), **more)
    return drawn, _rows(root, "drawn_for")


def test_drawing_again_after_failures_equals_balancing_after_the_download(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Until no query is short and has pairs left: then as if the dead links had never been."""
    pairs = _named([[0] if i % 10 else [0, 1 + i // 10 % 2] for i in range(900)])
    settings = SETTINGS.model_copy(update={"headroom": 1.3})
    pool, todo = _pool(pairs), _parts(tmp_path / "matched", pairs, MATCHED)
    alive = {name for name in pairs if int(name[:2], 16) % 3 == 0}
    drawn, got = _draw(spark, tmp_path / "draw0", todo, pool, settings)
    fetched, rounds = set(got), [len(got)]
    while True:
        arrived = {name: pairs[name] for name in fetched & alive}
        there = _parts(tmp_path / f"arrived{len(rounds)}", arrived, IMAGES)
        have = stage.arrivals(spark, there, pool, settings, drawn.cut)
        targets = stage.further(drawn.targets, drawn.sizes, have, CAP)
        if (targets == drawn.targets).all():
            break
        drawn, got = _draw(
            spark,
            tmp_path / f"draw{len(rounds)}",
            todo,
            pool,
            settings,
            targets=targets,
            before=drawn.cut,
        )
        assert not fetched & set(got)
        assert drawn.tally.counts[stage.BEFORE] == len(fetched)
        assert drawn.tally.per_query.tolist() == drawn.targets.tolist()
        fetched |= set(got)
        rounds.append(len(got))
    assert 1 < len(rounds) < 6
    assert len(fetched) < len(pairs)
    kept = _balanced(spark, tmp_path, arrived, settings, pool=pool)
    assert kept == _by_hand({name: pairs[name] for name in alive}, CAP, seed=0)


def test_a_failed_pair_is_tried_again_for_a_short_query_that_comes_as_far(
    spark: SparkSession, tmp_path: Path
) -> None:
    pairs = _named([[0], [0, 1], [1], [2], [0, 2]] * 20)
    failed = _parts(tmp_path / "failed", pairs, FAILED)
    pool = _pool(pairs)
    rule = claiming.Rule(QUERIES, 0)
    cut = cutting.cuts(spark, failed, pool, np.array([50, 5, 40, 0]), rule)
    (tmp_path / "again").mkdir()
    told = stage.again(
        spark,
        failed,
        pool,
        SETTINGS,
        str(tmp_path / "again"),
        cut=cut,
        is_short=np.array([False, True, False, False]),
    )
    got = _rows(tmp_path / "again", "drawn_for")
    # The five first of query 1; the other queries that come as far drew them too.
    first = {name for name, ids in _by_hand(pairs, 5, seed=0).items() if 1 in ids}
    assert set(got) == first
    assert told.counts["rows"] == 5
    assert told.counts[FULL] == len(pairs) - 5
    as_far = _by_hand(pairs, 50, seed=0)
    assert got == {name: [q for q in as_far[name] if q in (0, 1)] for name in first}


def test_a_drawn_pair_goes_to_one_task_of_about_the_size_asked_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    todo = _parts(tmp_path / "in", CROWDED, MATCHED)
    settings = BalanceSettings(max_pairs_per_query=1000, pairs_per_raw_shard=100)
    drawn, got = _draw(spark, tmp_path / "out", todo, _pool(CROWDED), settings)
    assert set(got) == set(CROWDED)
    assert drawn.tally.counts == {"rows": 400, FULL: 0, stage.BEFORE: 0}
    table = pa.concat_tables(
        [pq.read_table(f) for f in sorted((tmp_path / "out").glob("*.parquet"))]
    )
    assert table.schema.names == DRAWN.names
    sizes = Counter(table["raw_shard"].to_pylist())
    assert sorted(sizes) == [0, 1, 2, 3]
    assert max(sizes.values()) < 150


def test_cuts_come_back_from_their_table(spark: SparkSession, tmp_path: Path) -> None:
    todo = _parts(tmp_path / "in", CROWDED, MATCHED)
    drawn, _ = _draw(spark, tmp_path / "out", todo, _pool(CROWDED), SETTINGS)
    table = stage.to_table(drawn.cut, drawn.targets, drawn.tally.per_query)
    assert table["last_priority"].is_null().to_pylist() == [False, True, True, True]
    back = stage.from_table(table)
    for column, same in zip(drawn.cut, back, strict=True):
        assert column.tolist() == same.tolist()


def test_kept_pairs_have_the_columns_of_their_table(spark: SparkSession, tmp_path: Path) -> None:
    _balanced(spark, tmp_path, CROWDED, SETTINGS)
    file = sorted((tmp_path / "out3").glob("*.parquet"))[0]
    assert pq.read_schema(file).names == BALANCED.names


def test_a_query_of_which_all_is_drawn_asks_for_no_further_draw(
    spark: SparkSession, tmp_path: Path
) -> None:
    # Of the crowded query's pairs it has those alone that have no rarer one.
    pairs = _named([[0, 1] if i % 3 else [0] for i in range(60)] + [[1]] * 20)
    pool = np.array([60, 60, 0, 0])
    settings = SETTINGS.model_copy(update={"semantics": "rarest", "max_pairs_per_query": 50})
    todo = _parts(tmp_path / "matched", pairs, MATCHED)
    drawn, _ = _draw(spark, tmp_path / "drawn", todo, pool, settings)
    assert drawn.sizes.tolist() == [60, 20, 0, 0]
    have = np.array([40, 20, 0, 0])
    assert stage.further(drawn.targets, drawn.sizes, have, 50).tolist() == [60, 20, 0, 0]


def test_bernoulli_keeps_the_cap_on_average_after_a_further_draw_too(
    spark: SparkSession, tmp_path: Path
) -> None:
    pairs = _named([[0] for _ in range(9000)])
    settings = SETTINGS.model_copy(
        update={"semantics": "bernoulli", "max_pairs_per_query": 1000, "headroom": 1.0}
    )
    pool, todo = _pool(pairs), _parts(tmp_path / "matched", pairs, MATCHED)
    drawn, got = _draw(spark, tmp_path / "draw0", todo, pool, settings)
    targets = np.array([4000, 0, 0, 0])
    drawn, more = _draw(
        spark, tmp_path / "draw1", todo, pool, settings, targets=targets, before=drawn.cut
    )
    arrived = {name: ids for name, ids in {**got, **more}.items() if int(name[:4], 16) % 2}
    there = _parts(tmp_path / "arrived", arrived, IMAGES)
    (tmp_path / "kept").mkdir()
    told, _ = stage.balance(
        spark, there, pool, settings, str(tmp_path / "kept"), targets=drawn.targets
    )
    assert abs(told.per_query[0] - 1000) < 4 * 1000**0.5


@pytest.mark.parametrize("alive", [1.0, 0.6])
def test_bernoulli_keeps_the_cap_on_average_and_rare_queries_whole(
    spark: SparkSession, tmp_path: Path, alive: float
) -> None:
    pairs = _named([[0] if i % 100 else [0, 1] for i in range(9000)])
    changes = {"semantics": "bernoulli", "max_pairs_per_query": 1000, "headroom": 2.0}
    settings = SETTINGS.model_copy(update=changes)
    todo = _parts(tmp_path / "matched", pairs, MATCHED)
    _, got = _draw(spark, tmp_path / "drawn", todo, _pool(pairs), settings)
    arrived = {name: ids for name, ids in got.items() if int(name[:4], 16) < alive * 2**16}
    kept = _balanced(spark, tmp_path, arrived, settings, pool=_pool(pairs))
    counts = Counter(query for queries in kept.values() for query in queries)
    assert counts[1] == sum(1 in ids for ids in arrived.values())
    assert abs(counts[0] - 1000) < 4 * 1000**0.5
    assert counts[0] != 1000
