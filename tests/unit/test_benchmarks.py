"""`make bench` evaluates its figures: ratios, claims, the order of the runs, the document."""

import pytest
from pydantic import ValidationError

from tests.bench.speed import claims, document, figures, plan, report
from tests.bench.speed.contenders import BY_NAME, CONTENDERS, COPY, NAIVE, OURS, READ
from tests.bench.speed.data_path import data_path
from tests.bench.speed.figures import Figures, Run, Series
from tests.bench.speed.measuring import in_turn

MILLION, TEN_MILLION = 1_000_000, 10_000_000


def run(seconds: float, cpu_s: float = 0.1, sink_cpu_s: float | None = None, peak_mb: float = 100) -> Run:
    return Run(seconds=seconds, peak_mb=peak_mb, cpu_s=cpu_s, sink_cpu_s=sink_cpu_s)


def series(contender: str, seconds: list[float], rows: int = MILLION, moved: int | None = None) -> Series:
    return Series(
        contender=contender, table="narrow", rows=rows, moved=moved or rows, runs=[run(each) for each in seconds]
    )


def measured(*found: Series, **more: dict[str, str]) -> Figures:
    versions = more.pop("versions", {"Python": "3.11"})
    return Figures(machine="2 cores", sink="the double", versions=versions, series=list(found), **more)


def verdicts(taken: Figures) -> dict[str, bool | None]:
    return {each.claim: each.holds for each in claims.claims(taken)}


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    # The machine was half as fast in the second round, which changes no ratio.
    ours, other = series(OURS, [10, 20, 10]), series(COPY, [6, 12, 7])
    assert figures.speed_ratio(ours, other) == pytest.approx((0.6, 0.6, 0.7))


def test_growth_is_the_time_for_a_row_at_the_larger_size() -> None:
    small, large = series(OURS, [10, 10]), series(OURS, [110, 90], TEN_MILLION)
    assert figures.growth(small, large) == pytest.approx((1.0, 0.9, 1.1))


def test_what_is_measured_again_takes_the_place_of_the_same_group_and_the_rest_stays() -> None:
    earlier = measured(series(OURS, [10]), series(COPY, [6]), series(OURS, [100], TEN_MILLION))
    both = measured(series(OURS, [110], TEN_MILLION)).with_earlier(earlier)
    assert both.groups() == [("narrow", MILLION), ("narrow", TEN_MILLION)]
    assert both.find(OURS, "narrow", TEN_MILLION) == series(OURS, [110], TEN_MILLION)
    assert both.find(COPY, "narrow", MILLION) == series(COPY, [6])


def test_figures_of_other_versions_are_not_mixed() -> None:
    earlier = measured(series(OURS, [10]), versions={"Python": "3.10"})
    with pytest.raises(ValueError, match="of another version"):
        measured(series(OURS, [110], TEN_MILLION)).with_earlier(earlier)


def test_the_start_of_one_that_moves_few_rows_is_taken_off() -> None:
    slow = series("dlt", [30], moved=20_000)
    slow.start = run(10)
    assert slow.rates == [1000]


def test_what_the_sink_did_for_the_other_counts_for_nothing() -> None:
    naive = Series(contender=NAIVE, table="narrow", rows=MILLION, moved=1000, runs=[run(5, 0.2, 4)], start=run(0.5))
    assert naive.rates_of_client == pytest.approx([1000 / 0.5])
    assert figures.least_ratio(series(OURS, [10]), naive).median == pytest.approx(100_000 / 2000)


def test_nobody_is_faster_than_its_own_cpu() -> None:
    naive = Series(contender=NAIVE, table="narrow", rows=MILLION, moved=1000, runs=[run(5, 0.8, 4.9)])
    assert naive.rates_of_client == pytest.approx([1000 / 0.8])


def test_more_rows_than_there_are_cannot_be_moved() -> None:
    with pytest.raises(ValidationError, match="20 of 10 rows"):
        series(OURS, [1], rows=10, moved=20)


def test_the_raw_limit_is_that_of_the_slower_side() -> None:
    found = measured(series(READ, [1, 1]), series(COPY, [6, 6]))
    limit = figures.slower_limit(found, "narrow", MILLION, [READ, COPY])
    assert limit is not None
    assert limit.contender == COPY
    assert figures.slower_limit(measured(series(COPY, [6])), "narrow", MILLION, [READ, COPY]) is None


def test_a_claim_holds_does_not_hold_or_was_not_measured() -> None:
    limits = [series(READ, [1]), series(COPY, [6])]
    good = verdicts(measured(*limits, series(OURS, [9.9]), series(NAIVE, [300])))
    bad = verdicts(measured(*limits, series(OURS, [10.1]), series(NAIVE, [180])))
    of_limit = f"1,000,000 rows: at least 0.6 of the raw limit of the slower side ({COPY})"
    of_naive = "1,000,000 rows: at least 20 times the naive script"
    assert (good[of_limit], good[of_naive]) == (True, True)
    assert (bad[of_limit], bad[of_naive]) == (False, False)
    assert good["1,000,000 rows: at least 5 times sling"] is None
    assert good["10,000,000 rows: at least 20 times the naive script"] is None


def test_a_claim_that_only_a_slow_stand_in_bears_out_says_so() -> None:
    runs = [run(20, cpu_s=3, sink_cpu_s=17)]
    dlt = Series(contender="dlt", table="narrow", rows=MILLION, moved=100_000, runs=runs)
    found = {each.claim: each for each in claims.claims(measured(series(OURS, [10]), dlt))}
    claim = found["1,000,000 rows: at least 5 times dlt"]
    assert (claim.measured, claim.holds, claim.remark) == (
        "20.0 (20.0 to 20.0); at least 3.00",
        True,
        "on the double",
    )


def test_linear_growth_and_memory_are_claims_about_us() -> None:
    large = Series(contender=OURS, table="narrow", rows=TEN_MILLION, moved=TEN_MILLION, runs=[run(130, peak_mb=310)])
    found = verdicts(measured(series(OURS, [10]), large))
    assert [holds for claim, holds in found.items() if "linearly" in claim] == [False]
    assert found["Peak memory below 300 MB at every size"] is False


def test_the_section_says_who_could_not_run_and_why() -> None:
    found = data_path(measured(series(OURS, [10]), absent={"dlt, narrow": "there is no ODBC here"}))
    assert "dlt, narrow: could not be run here, because there is no ODBC here." in found.notes


def test_a_line_says_how_many_rows_were_moved_and_how_much_faster_we_are() -> None:
    naive = series(NAIVE, [50, 40], moved=5000)
    (table,) = data_path(measured(series(OURS, [10, 10]), naive)).tables
    line = dict(zip(table.columns, next(row for row in table.rows if row[0] == NAIVE), strict=True))
    assert line["rows moved"] == "5,000"
    assert line["rows/s"] == "112"
    assert line["`etl run` is"] == "900 (800 to 1,000)"


def test_a_document_has_its_sections_claims_plots_tables_and_notes() -> None:
    section = document.Section(
        title="On a cluster",
        text=["Eleven tasks."],
        claims=[document.Claim(claim="fast", measured="2 s", holds=False)],
        plot="tasks.svg",
        tables=[document.Table(title="Seconds:", columns=["", "s"], rows=[["a task", "2"]])],
        notes=["One node."],
    )
    written = document.document([section])
    assert written.startswith("# Benchmarks\n")
    for part in (
        "## On a cluster",
        "Eleven tasks.",
        "| fast | 2 s | does **not** hold |",
        "![On a cluster](benchmarks/tasks.svg)",
        "Seconds:\n\n|  | s |\n|---|---:|\n| a task | 2 |",
        "* One node.",
    ):
        assert part in written
    assert written.endswith("\n")


def test_every_round_has_every_contender_and_every_other_goes_backwards() -> None:
    chosen = [BY_NAME[name] for name in (OURS, COPY, NAIVE)]
    order = [(number, each.name) for number, each in in_turn(chosen, 2)]
    assert order == [(0, OURS), (0, COPY), (0, NAIVE), (1, NAIVE), (1, COPY), (1, OURS)]


def test_who_is_slow_moves_fewer_rows_and_is_measured_once() -> None:
    few, many = plan.groups([100_000, MILLION], [])
    names = [[each.name for each in group.contenders] for group in (few, many)]
    slow = [each for each in CONTENDERS if each.most]
    assert {each.name for each in slow} == {NAIVE, "GenericTransfer", "sling", "dlt"}
    assert not {each.name for each in slow} & set(names[0])
    assert {each.name for each in slow} < set(names[1])
    assert all(each.rows("narrow", MILLION) <= 50_000 for each in slow)
    assert BY_NAME[OURS].rows("narrow", MILLION) == MILLION


def test_what_remains_is_told_by_what_runs_have_taken() -> None:
    (group,) = plan.groups([MILLION], [], [OURS, COPY])
    ours, copy = group.contenders
    remaining = plan.Remaining([(group, ours), (group, ours), (group, copy)])
    remaining.give_up(group, copy)
    remaining.done(group, ours, 12.5)
    assert remaining.seconds() == 12.5


def test_the_document_is_what_its_figures_make() -> None:
    assert report.DOCUMENT.read_text() == document.document(report.read_sections(report.FOLDER))
    for section in report.read_sections(report.FOLDER):
        assert section.plot is None or (report.FOLDER / section.plot).exists()
