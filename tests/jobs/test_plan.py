"""jobs.plan and beside it: arithmetic by hand, what must grow with what, and bad input."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs import plan_pool, plan_rates, walk
from jobs.__main__ import app
from jobs.plan import Plan, candidates_for, planned
from jobs.plan_cluster import Cluster, Prices, bill, gpu_hours, timed
from jobs.plan_page import duration, page, size
from pipeline.errors import BadInput
from pipeline.settings import Settings

_RATES = plan_rates.reference()
_SETTINGS = Settings()
_CANDIDATES = st.floats(min_value=1.0, max_value=1e12)


def _plan(candidates: float, *assumed: str, **sections: dict[str, object]) -> Plan:
    found = Settings.model_validate(sections) if sections else _SETTINGS
    return planned(found, candidates, plan_rates.read([], list(assumed)))


def _clock(made: Plan, cluster: Cluster) -> float:
    return sum(stage.seconds for stage in timed(made, cluster, _SETTINGS, _RATES))


# -- arithmetic ----------------------------------------------------------------------------


def test_a_stage_is_its_rows_times_its_rates() -> None:
    made = _plan(1e9, "kept_by_ingest=0.5", "matched=0.9")
    ingest, match = made.stage("ingest"), made.stage("match")
    assert (ingest.rows_in, ingest.rows_out) == (2e9, 1e9)
    of = _RATES.of
    assert ingest.bytes_out == pytest.approx(1e9 * of("ingest", "bytes_out_per_row"))
    assert ingest.shuffle_bytes == pytest.approx(2e9 * of("ingest", "shuffle_bytes_per_row"))
    seconds = 2e9 / of("ingest", "rows_per_core_second")
    seconds += 2e9 / of("ingest", "table_rows_per_core_second")
    assert ingest.core_seconds == pytest.approx(seconds)
    assert match.rows_out == pytest.approx(0.9e9)
    assert match.bytes_in == ingest.bytes_out


def test_a_dead_link_costs_a_fetch_and_an_image_all() -> None:
    made = _plan(1e9, "alive=0.75", "seconds_per_link=2", "bytes_received_per_image=100")
    stage = made.stage("download")
    images, dead = 0.75 * stage.rows_in, 0.25 * stage.rows_in
    assert stage.rows_out == pytest.approx(images)
    rates = _RATES.stages["download"]
    seconds = images / rates["rows_per_core_second"].value
    seconds += dead / rates["dead_links_per_core_second"].value
    assert stage.core_seconds == pytest.approx(seconds)
    assert stage.waiting_seconds == pytest.approx(2 * stage.rows_in)
    assert stage.network_bytes == pytest.approx(100 * images)


def test_a_download_lasts_as_long_as_what_it_waits_for() -> None:
    made = _plan(1e9, "seconds_per_link=1", "busy=1")
    stage = made.stage("download")
    for gbit, per_link, bound in (
        (0.001, 1.0, "line"),
        (None, 1.0, "servers"),
        (None, 0.01, "cores"),
    ):
        rates = plan_rates.read([], [f"seconds_per_link={per_link}", "busy=1"])
        again = planned(_SETTINGS, 1e9, rates)
        cluster = Cluster(2, 5, gbit=gbit)
        found = {on.verb: on for on in timed(again, cluster, _SETTINGS, rates)}["download"]
        assert found.bound == bound
        assert found.seconds == pytest.approx(
            {
                "line": 8 * stage.network_bytes / 1e6,
                "servers": stage.rows_in / (2 * 5 * _SETTINGS.download.threads),
                "cores": stage.core_seconds / 10,
            }[bound]
        )


def test_an_executor_holds_its_jvm_and_a_worker_for_each_core() -> None:
    rates = plan_rates.read([], ["memory_gb_per_executor=3"])
    on = timed(_plan(1e6), Cluster(1, 4), _SETTINGS, rates)
    match = next(stage for stage in on if stage.verb == "match")
    assert match.memory_gb == pytest.approx(3 + 4 * _RATES.of("match", "memory_gb_per_task"))


def test_evaluation_sets_cost_memory_for_every_variant_of_their_images() -> None:
    sets = [{"name": "some", "path": "some.tar"}]
    variants = {"fingerprint": {"variants": ["flip", "square"]}}
    without, with_sets = _plan(1e6), _plan(1e6, "eval_images=1e6", evalsets=sets, **variants)
    more = with_sets.stage("dedup").memory_gb_per_task - without.stage("dedup").memory_gb_per_task
    assert more == pytest.approx(3 * _RATES.of("dedup", "memory_gb_per_million_hashes"))
    assert without.stage("audit").rows_in == 0 < with_sets.stage("audit").rows_in


def test_money_is_that_of_all_cores_for_as_long_as_they_are_held() -> None:
    made, cluster = _plan(1e9), Cluster(2, 5, gpus=4, gpu_tflops=100, mfu=0.5)
    stages = timed(made, cluster, _SETTINGS, _RATES)
    prices = Prices(core_hour=0.1, tb_month=20, egress_gb=0.01, gpu_hour=2, months=3)
    told = bill(made, stages, cluster, prices)
    hours = sum(stage.seconds for stage in stages) / 3600
    assert told.lines["cores"] == pytest.approx(0.1 * 10 * hours)
    assert told.lines["storage"] == pytest.approx(20 * 3 * made.storage_bytes / 1e12)
    gpus = gpu_hours(made, cluster)
    assert gpus == pytest.approx(made.training.flops / (100e12 * 0.5) / 3600)
    assert told.lines["GPUs"] == pytest.approx(2 * (gpus or 0))
    assert told.missing == []
    assert told.total == pytest.approx(math.fsum(told.lines.values()))


def test_what_has_no_price_is_named_and_not_added() -> None:
    made, cluster = _plan(1e9), Cluster()
    told = bill(made, timed(made, cluster, _SETTINGS, _RATES), cluster, Prices(core_hour=1))
    assert list(told.lines) == ["cores"]
    assert len(told.missing) == 3


def test_a_training_is_pairs_times_epochs_times_flops() -> None:
    made = _plan(1e9, train={"model": "ViT-B/32", "epochs": 2.0})
    assert made.training.pairs == pytest.approx(2 * made.pairs)
    assert made.training.flops_per_pair == pytest.approx(44.3e9, rel=0.01)


def test_wats_and_warcs_are_slower_to_read_than_tables() -> None:
    ways = ({}, {"wats": ["a"]}, {"wats": ["a"], "warcs": ["b"]})
    seconds = [_plan(1e9, ingest=dict(way)).stage("ingest").core_seconds for way in ways]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == 3


# -- what must hold of every plan ----------------------------------------------------------


@given(_CANDIDATES, st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(1.0, 4.0))
@settings(max_examples=30, deadline=None)
def test_no_row_is_lost(candidates: float, alive: float, unique: float, headroom: float) -> None:
    assumed = [f"alive={alive}", f"kept_by_dedup={unique}"]
    made = _plan(candidates, *assumed, balance={"headroom": headroom})
    for stage in made.stages:
        assert stage.rows_in == pytest.approx(stage.rows_out + sum(stage.dropped.values()))
        assert 0 <= stage.rows_out <= stage.rows_in
        assert all(rows >= 0 for rows in stage.dropped.values())
    for before, after in (("ingest", "match"), ("match", "draw"), ("download", "dedup")):
        assert made.stage(before).rows_out == made.stage(after).rows_in
    assert made.stage("draw").rows_out <= made.stage("download").rows_in
    assert made.stage("dedup").rows_out == made.stage("balance").rows_in


@given(_CANDIDATES, st.integers(1, 500), st.integers(1, 500), st.integers(1, 64))
@settings(max_examples=30, deadline=None)
def test_more_executors_are_never_slower(
    candidates: float, executors: int, more: int, cores: int
) -> None:
    made = _plan(candidates)
    few, many = (Cluster(count, cores, gbit=1) for count in (executors, executors + more))
    assert _clock(made, many) <= _clock(made, few)


@given(_CANDIDATES, st.floats(1.0, 100.0))
@settings(max_examples=30, deadline=None)
def test_more_candidates_are_never_cheaper(candidates: float, times: float) -> None:
    prices, cluster = Prices(1, 1, 1, 1), Cluster(gpu_tflops=100, mfu=0.4)
    bills = []
    for count in (candidates, candidates * times):
        made = _plan(count)
        bills.append(bill(made, timed(made, cluster, _SETTINGS, _RATES), cluster, prices))
    for what, amount in bills[0].lines.items():
        assert amount <= bills[1].lines[what] * (1 + 1e-9)


def test_every_stage_of_the_walk_is_planned_or_named_as_not() -> None:
    verbs = [stage.verb for stage in _plan(1e6).stages]
    assert [*verbs, "train", "evaluate"] == [stage.verb for stage in walk.STAGES]
    assert verbs == list(plan_rates.STAGES)


def test_as_many_candidates_as_pairs_need() -> None:
    found = candidates_for(_SETTINGS, 400e6, _RATES)
    assert _plan(found).pairs == pytest.approx(400e6, rel=1e-6)
    assert _plan(found * 0.99).pairs < 400e6


# -- the pool ------------------------------------------------------------------------------


def test_the_curve_goes_through_the_published_totals() -> None:
    sizes = plan_pool.counts(plan_pool.PAIRS)
    assert sizes.sum() == pytest.approx(5.67e9, rel=1e-6)
    assert sizes[:16_000].sum() == pytest.approx(5.35e9, rel=1e-6)
    assert sizes[0] == pytest.approx(120e6, rel=1e-6)
    assert int((sizes > 20_000 * (1 - 1e-9)).sum()) == 16_000


def test_what_was_not_fitted_is_near_what_was_published() -> None:
    spread = _RATES.share("queries_together")
    for pairs, cap, published, tolerance in (
        (1.6e9, 20_000, 400e6, 0.05),
        (10.7e9, 170_000, 2.5e9, 0.20),
        (10.7e9, 20_000, 1e9, 0.35),
    ):
        claims = float(plan_pool.counts(pairs).clip(max=cap).sum())
        assert plan_pool.union(pairs, claims, spread) == pytest.approx(published, rel=tolerance)
    second = plan_pool.counts(10.7e9)
    assert second[second < 170_000].sum() / second.sum() == pytest.approx(0.06, abs=0.01)


def test_claims_that_never_meet_and_those_that_always_do() -> None:
    assert plan_pool.union(1e6, 10, 1e4) == pytest.approx(10, rel=1e-4)
    assert plan_pool.union(100, 1e9, 1e4) == pytest.approx(100)
    assert plan_pool.union(0, 0, 1) == 0
    # By chance: 1 - 1/e of the pairs, where there are as many claims.
    assert plan_pool.union(1e6, 1e6, 1e6) == pytest.approx(1e6 * (1 - 1 / math.e), rel=1e-4)


def test_a_headroom_that_is_too_small_for_the_rot_is_made_good_by_further_rounds() -> None:
    def filled(rounds: int, alive: float) -> float:
        return plan_pool.drawn(
            5e9, 20_000, 1.6, rounds, alive=alive, kept_by_dedup=1.0, spread=0.4
        ).filled

    assert filled(1, 0.62) == pytest.approx(1.6 * 0.62, rel=1e-3)
    assert filled(1, 0.5) == pytest.approx(0.8, rel=0.02)
    assert filled(3, 0.5) == pytest.approx(1.0)
    assert filled(1, 0.7) == 1.0


# -- what a person sees --------------------------------------------------------------------


def _wit(*words: str) -> str:
    told = CliRunner().invoke(app, ["plan", *words])
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told.output


def test_the_default_is_the_papers_corpus_from_ten_billion_candidates() -> None:
    told = _wit()
    assert told.startswith("# Plan: clip400m.toml, 10,000,000,000 candidates")
    for name, (_, origin) in _RATES.assumptions.items():
        assert name in told
        assert origin in told
    assert "At the prices given" not in told
    assert "At the prices given: cores " in _wit("--price-core-hour", "0.05")


def test_json_tells_the_same() -> None:
    told = json.loads(_wit("--json", "--candidates", "1e9", "--assume", "alive=0.5"))
    assert told["candidates"] == 1e9
    assert told["assumptions"]["alive"] == {"value": 0.5, "origin": "--assume"}
    download = next(stage for stage in told["stages"] if stage["verb"] == "download")
    assert download["rows_out"] == pytest.approx(download["rows_in"] / 2)
    assert told["money"] is None


def test_a_file_of_rates_is_laid_over_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "rates.toml"
    mine = plan_rates.Figure(12.5, 'at "home"')
    path.write_text(plan_rates.dump({"match": {"rows_per_core_second": mine}}))
    found = plan_rates.read([path])
    assert found.stages["match"]["rows_per_core_second"] == mine
    changed = {**_RATES.stages["match"], "rows_per_core_second": mine}
    assert found.stages == {**_RATES.stages, "match": changed}
    assert 'at "home"' in _wit("--rates", str(path))
    over = tmp_path / "over.toml"
    over.write_text(plan_rates.dump({"match": {"rows_per_core_second": mine._replace(value=7)}}))
    for paths, value in (([path, over], 7), ([over, path], 12.5)):
        assert plan_rates.read(paths).of("match", "rows_per_core_second") == value


def test_an_executor_that_is_too_small_is_told(tmp_path: Path) -> None:
    cluster = Cluster(memory_gb=1.0)
    made = _plan(1e9)
    told = page(made, timed(made, cluster, _SETTINGS, _RATES), cluster, None, _RATES, "x")
    assert "more than its 1 |" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--executors", "0"), "--executors 0: it must be more than 0"),
        (("--cores", "-1"), "--cores -1"),
        (("--memory", "0"), "--memory 0"),
        (("--candidates", "-5"), "--candidates -5"),
        (("--candidates", "nan"), "--candidates nan"),
        (("--candidates", "inf"), "--candidates inf"),
        (("--pairs", "0"), "--pairs 0"),
        (("--pairs", "1e30"), "--pairs 1e\\+30"),
        (("--pairs", "1", "--candidates", "1"), "exclude one another"),
        (("--gpu-tflops", "100"), "--gpu-tflops and --mfu go together"),
        (("--gpu-tflops", "100", "--mfu", "1.5"), "--mfu 1.5"),
        (("--gpus", "8"), "--gpus needs"),
        (("--price-core-hour", "-0.1"), "--price-core-hour -0.1"),
        (("--months", "-1"), "--months -1"),
        (("--assume", "alive"), "write it as --assume name=number"),
        (("--assume", "alive=much"), "write it as --assume name=number"),
        (("--assume", "alive=1.5"), "assumptions.alive is 1.5"),
        (("--assume", "alife=0.5"), "no figure `alife`"),
        (("--assume", "busy=0"), "assumptions.busy is 0"),
        (("--set", "train.model=none"), "no model is called"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(BadInput, match=told) as error:
        _wit(*words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[match", "is not TOML"),
        ("[mach]\nx = 1", "no stage is called `mach`"),
        ("match = 3", "`match` is a table of figures"),
        ("[match]\nspeed = {value = 1, origin = 'x'}", "match has no figure `speed`"),
        ("[match]\nrows_per_core_second = 3", "match.rows_per_core_second has no number"),
        ("[match]\nrows_per_core_second = {origin = 'x'}", "has no number"),
        ("[match]\nrows_per_core_second = {value = 1}", "say in `origin`"),
        ("[match]\nrows_per_core_second = {value = -1, origin = 'x'}", "is -1: it must be"),
        ("[match]\nrows_per_core_second = {value = nan, origin = 'x'}", "is nan: it must be"),
        ("[match]\nrows_per_core_second = {value = true, origin = 'x'}", "has no number"),
    ],
)
def test_a_bad_file_of_rates_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "rates.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=told) as error:
        plan_rates.read([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_rates_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        plan_rates.read([tmp_path / "none.toml"])
    with pytest.raises(BadInput, match="cannot be read"):
        plan_rates.read([tmp_path])
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="is not TOML"):
        plan_rates.read([tmp_path / "bytes.toml"])


def test_a_reference_that_lacks_a_rate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**plan_rates.STAGES, "match": (*plan_rates.STAGES["match"], "new")}
    monkeypatch.setattr(plan_rates, "STAGES", known)
    with pytest.raises(BadInput, match=r"match\.new is missing"):
        plan_rates.reference()


def test_sizes_and_times_have_the_unit_that_suits_them() -> None:
    assert [size(n) for n in (0, 999, 1000, 1.5e12)] == ["0 B", "999 B", "1 kB", "1.5 TB"]
    assert [duration(s) for s in (1, 150, 3600, 90_000, 200_000)] == [
        *("1 s", "2.5 min", "1.0 h", "25.0 h", "2.3 days")
    ]
