"""A run on one machine: complete or not, never half; what is done is never done again."""

from __future__ import annotations

import io
import json
import os
import signal
from multiprocessing import active_children
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churn_serving.bulk import delimited, rowgroups
from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.bulk.identities import count_repeated, hashes_of, write_hashes
from churn_serving.bulk.local import Job, Result, score, try_out
from churn_serving.bulk.run import Run
from churn_serving.bulk.tables import open_table
from churn_serving.errors import DataError
from churn_serving.model.artifact import load_artifact
from churn_serving.model.policy import Policy
from tests.customer_tables import customers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.learning.dataset import Dataset
    from churn_serving.model.artifact import Artifact

ROWS = 1000
GROUP = 100


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small, so that a small table has several pieces."""
    monkeypatch.setattr(rowgroups, "PIECE_ROWS", 2 * GROUP)
    monkeypatch.setattr(delimited, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(delimited, "_BLOCK", 4_000)


@pytest.fixture
def artifact(saved: str) -> Artifact:
    return load_artifact(saved)


@pytest.fixture(scope="session")
def table(telco: Dataset) -> Any:
    return customers(telco, ROWS)


@pytest.fixture
def file(table: Any, tmp_path: Path) -> Path:
    path = tmp_path / "customers.parquet"
    pq.write_table(table, path, row_group_size=GROUP)
    return path


class Scored:
    """Scores tables into one folder, and looks at the results."""

    def __init__(self, artifact: Artifact, output: Path) -> None:
        self.artifact = artifact
        self.output = output
        self.told = 0

    def job(self, place: Path | str, *, policy: Policy | None = None, **wanted: Any) -> Job:
        table = open_table(str(place))
        top = wanted.pop("top", 0)
        shape = Wanted(**wanted)
        engine = make_engine(self.artifact, policy or Policy(), table.schema, shape)
        return Job(
            table=table,
            engine=engine,
            wanted=shape,
            model=self.artifact,
            output=self.output,
            top=top,
        )

    def __call__(
        self,
        place: Path | str,
        *,
        workers: int = 1,
        limit: float = 0.01,
        told: Callable[[int], None] | None = None,
        **wanted: Any,
    ) -> Result:
        self.told = 0

        def count(rows: int) -> None:
            self.told += rows
            if told is not None:
                told(rows)

        job = self.job(place, **wanted)
        return score(job, workers=workers, max_reject_rate=limit, told=count)


@pytest.fixture
def scored(artifact: Artifact, tmp_path: Path) -> Scored:
    return Scored(artifact, tmp_path / "scores")


def parts(folder: Path) -> dict[str, bytes]:
    """The content of everything that a reader of the results sees."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith("_")
    }


def results(folder: Path, kind: str = "scored") -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((folder / kind).iterdir())]
    return [row for table in tables for row in table.to_pylist()]


def test_every_row_is_scored_in_its_order_and_accounted_for(
    scored: Scored, file: Path, table: Any
) -> None:
    result = scored(file, workers=2)
    assert [row["customer_id"] for row in results(result.folder)] == table.column(0).to_pylist()
    manifest = json.loads((result.folder / "_MANIFEST.json").read_text())
    assert manifest == result.manifest
    assert manifest["rows"] == {"in": ROWS, "scored": ROWS, "rejected": 0}
    assert sum(manifest["actions"].values()) == ROWS == scored.told
    assert manifest["repeated_ids"] == 0
    assert manifest["model"]["tag"] == scored.artifact.tag
    assert manifest["parts"] == sorted(parts(result.folder))
    assert len(manifest["parts"]) == 5
    assert (result.folder / "_SUCCESS").exists()
    assert not list(result.folder.rglob("*.tmp"))
    assert not list(result.folder.rglob("*.ids"))


def test_the_same_command_does_nothing_after_success(scored: Scored, file: Path) -> None:
    first = scored(file)
    before = {path: path.stat().st_mtime_ns for path in scored.output.rglob("*")}
    again = scored(file, workers=2, limit=0.5)
    assert again.was_complete
    assert again.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in scored.output.rglob("*")} == before


class Stop(Exception):  # noqa: N818 - no error of ours
    """What a test raises in the middle of a run."""


@pytest.mark.parametrize("after", [1, 350, 650, 950])
def test_a_run_that_stopped_goes_on_and_gives_the_same_bytes(
    after: int, scored: Scored, file: Path, tmp_path: Path
) -> None:
    undisturbed = Scored(scored.artifact, tmp_path / "undisturbed")(file, workers=2)

    def stop(_: int) -> None:
        if scored.told > after:
            raise Stop

    with pytest.raises(Stop):
        scored(file, told=stop)
    folder = scored.job(file).run.folder
    assert not (folder / "_SUCCESS").exists()
    assert not list(folder.rglob("*.tmp"))
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("part-*")}
    result = scored(file, workers=2)
    assert result.kept == len(kept)
    assert scored.told == ROWS
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert parts(result.folder) == parts(undisturbed.folder)
    same = {**undisturbed.manifest, "scored_at": result.manifest["scored_at"]}
    assert result.manifest == same


def test_a_part_that_is_gone_or_cut_off_is_written_again(scored: Scored, file: Path) -> None:
    result = scored(file, limit=-1)  # so that it is no success
    before = parts(result.folder)
    first, second, *_ = sorted((result.folder / "scored").iterdir())
    first.unlink()
    second.write_bytes(b"PAR1")
    assert scored(file).kept == 3
    assert parts(result.folder) == before


@pytest.mark.parametrize("change", ["table", "time", "policy", "options"])
def test_whatever_changes_the_result_is_another_run_beside(
    change: str, scored: Scored, file: Path, table: Any
) -> None:
    first = scored(file)
    before = parts(first.folder)
    wanted: dict[str, Any] = {}
    if change == "table":
        pq.write_table(table.slice(1), file, row_group_size=GROUP)
    elif change == "time":
        os.utime(file, (1, 1))
    elif change == "policy":
        wanted["policy"] = Policy(acceptance=0.5)
    else:
        wanted["journal"] = True
    second = scored(file, **wanted)
    assert not second.was_complete
    assert second.folder != first.folder
    assert parts(first.folder) == before


def test_refused_rows_stand_apart_with_file_row_and_reason(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    for number in range(2):
        rows = table.slice(number * 500, 500).to_pylist()
        rows[130]["tenure_months"] = 121
        rows[499]["monthly_charges"] = None
        spoiled = pa.Table.from_pylist(rows, schema=table.schema)
        pq.write_table(spoiled, folder / f"{number}.parquet", row_group_size=GROUP)
    result = scored(folder, workers=2)
    assert [
        (row["file"], row["row"], row["reason"]) for row in results(result.folder, "rejected")
    ] == [
        (f"{number}.parquet", row, reason)
        for number in range(2)
        for row, reason in [
            (131, "tenure_months: expected less than or equal to 120"),
            (500, "monthly_charges: expected a value"),
        ]
    ]
    assert result.manifest["rows"] == {"in": ROWS, "scored": ROWS - 4, "rejected": 4}
    assert result.is_complete


def test_more_refused_rows_than_allowed_are_no_success_until_they_are(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    rows = table.to_pylist()
    for row in rows[::50]:
        row["has_internet"] = None
    file = tmp_path / "spoiled.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file, row_group_size=GROUP)
    result = scored(file, limit=0.01)
    assert not result.is_complete
    assert result.manifest["rejected"] == {"has_internet: expected a value": 20}
    assert not (result.folder / "_SUCCESS").exists()
    allowed = scored(file, limit=0.02)
    assert allowed.is_complete
    assert allowed.kept == 5
    assert (allowed.folder / "_SUCCESS").exists()


def test_ids_that_come_again_are_counted_and_kept(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    file = tmp_path / "twice.parquet"
    pq.write_table(pa.concat_tables([table, table.slice(0, 30)]), file, row_group_size=GROUP)
    result = scored(file)
    assert result.manifest["repeated_ids"] == 30
    assert len(results(result.folder)) == ROWS + 30


@pytest.mark.parametrize(
    "ids",
    [
        [5, -1, 5, None, None, 2**60],
        ["", "a", "a" * 7, "a" * 8, "a" * 9, "a" * 16, "a\0", "ab", "ba", "a" * 9, None, ""],
        ["x" * 5000, "x" * 5001, "x" * 5000],
        [1.5, 2.5, 1.5],
        [],
    ],
)
def test_equal_ids_have_equal_numbers_and_others_have_not(ids: list[Any], tmp_path: Path) -> None:
    array = pa.array([None, *ids])
    known = [each for each in ids if each is not None]
    for one in (array, array.slice(1), array.dictionary_encode()):
        numbers = hashes_of(one).tolist()
        assert len(numbers) == len(known)
        assert len(set(numbers)) == len(set(known))
    write_hashes(tmp_path / "ids", [hashes_of(array)])
    assert count_repeated([tmp_path / "ids"]) == len(known) - len(set(known))


def test_repeated_ids_are_found_across_pieces(tmp_path: Path) -> None:
    for number in range(3):
        ids = pa.array(range(number * 50_000, number * 50_000 + 70_000))
        write_hashes(tmp_path / f"{number}", [hashes_of(ids.slice(0, 9)), hashes_of(ids.slice(9))])
    write_hashes(tmp_path / "none", [])
    assert count_repeated(sorted(tmp_path.iterdir())) == 40_000


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_file_is_cut_after_whole_rows(
    separator: str, scored: Scored, file: Path, table: Any, tmp_path: Path
) -> None:
    notes = [f'said "no{separator}\n\n never" {n}' if n % 3 else "" for n in range(ROWS)]
    text = tmp_path / "customers.csv"
    pyarrow.csv.write_csv(
        table.append_column("note", pa.array(notes)),
        text,
        pyarrow.csv.WriteOptions(delimiter=separator),
    )
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    result = scored(text, workers=2, keep=("note",))
    assert len(open_table(str(text)).pieces) > 5
    told = results(result.folder)
    assert [row.pop("note") for row in told] == notes
    expected = results(scored(file).folder)
    assert [row["customer_id"] for row in told] == [row["customer_id"] for row in expected]
    for name in ("churn_probability", "expected_profit"):  # the last bit depends on the cut
        assert [row[name] for row in told] == pytest.approx([row[name] for row in expected], 1e-12)


def test_lines_that_are_no_rows_are_refused_and_rows_keep_their_numbers(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    text = tmp_path / "customers.csv"
    pyarrow.csv.write_csv(table, text)
    lines = text.read_text().splitlines()
    lines[200] = lines[200].rpartition(",")[0]
    lines[500] += ",1"
    lines[600] = lines[600].replace(lines[600].split(",")[1], "-7", 1)
    lines[700] = "\n"
    text.write_text("\r\n".join(lines))
    result = scored(text)
    width = table.num_columns
    assert [(row["row"], row["reason"]) for row in results(result.folder, "rejected")] == [
        (200, f"{width - 1} cells: expected {width}"),
        (500, f"{width + 1} cells: expected {width}"),
        (600, "tenure_months: expected greater than or equal to 0"),
    ]
    assert result.manifest["rows"] == {"in": ROWS - 1, "scored": ROWS - 4, "rejected": 3}


def test_a_quote_within_a_cell_is_a_letter_and_takes_no_rows_with_it(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    notes = {5: '5" disk', 300: 'a""b', 301: 'said "x', 302: '"x, y" z"'}
    text = tmp_path / "customers.csv"
    pyarrow.csv.write_csv(table, text)
    header, *lines = text.read_text().splitlines()
    lines = [f"{line},{notes.get(row, '')}" for row, line in enumerate(lines)]
    text.write_text("\n".join([f'{header},"note"', *lines]))
    told = results(scored(text, keep=("note",)).folder)
    assert [row["customer_id"] for row in told] == table.column(0).to_pylist()
    assert {row: one["note"] for row, one in enumerate(told) if one["note"]} == {
        **notes,
        302: 'x, y z"',
    }


@pytest.mark.parametrize("block", [1, 2, 3, 7, 4_000])
def test_rows_end_where_arrow_ends_them_however_the_file_is_read(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK", block)
    draw = np.random.default_rng(block)
    compared = 0
    for _ in range(500):
        text = b"a,a\n" + draw.choice(list(b',"\n\ra'), 20).astype(np.uint8).tobytes()
        try:
            cuts = list(delimited._cuts(io.BytesIO(text), 0, ord('"'), ord(",")))
        except DataError:
            continue  # a quote is never closed
        compared += 1
        assert sum(cuts[-1][2:]) == _rows_of_arrow(text), text
    assert compared > 100


def _rows_of_arrow(text: bytes) -> int:
    odd: list[Any] = []

    def skip(row: Any) -> str:
        odd.append(row)
        return "skip"

    table = pyarrow.csv.read_csv(
        io.BytesIO(text),
        pyarrow.csv.ReadOptions(column_names=["a", "b"], use_threads=False),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(column_types={"a": pa.string(), "b": pa.string()}),
    )
    return int(table.num_rows) + len(odd)


def test_a_quote_that_is_never_closed_is_told_with_its_row(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    text = tmp_path / "customers.csv"
    pyarrow.csv.write_csv(table, text, pyarrow.csv.WriteOptions(quoting_style="none"))
    lines = text.read_text().splitlines()
    lines[700] = '"' + lines[700]
    text.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"customers\.csv: a quote is opened in row 700 and never"):
        scored(text)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([b"\xff%d" % row for row in range(ROWS)]),
        pa.array([b"\xff%7d" % row for row in range(ROWS)], pa.binary(8)),
        pa.array([f"{row}" for row in range(ROWS)], pa.string_view()),
        pa.array([b"\xff%d" % row for row in range(ROWS)], pa.binary_view()),
        pa.array(range(ROWS), pa.timestamp("us", "Europe/Berlin")),
        pa.array(range(ROWS), pa.date32()),
        pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([b"%16d" % row for row in range(ROWS)], pa.binary(16))
        ),
    ],
    ids=lambda ids: str(ids.type),
)
def test_an_id_of_any_type_comes_back_as_it_came(
    ids: Any, scored: Scored, table: Any, tmp_path: Path
) -> None:
    file = tmp_path / "customers.parquet"
    rows = table.to_pylist()
    rows[7]["tenure_months"] = -1
    table = pa.Table.from_pylist(rows, schema=table.schema)
    pq.write_table(table.set_column(0, "customer_id", ids), file)
    result = scored(file, top=3)
    told = pq.read_table(result.folder / "scored").column("customer_id")
    refused = pq.read_table(result.folder / "rejected").column("customer_id")
    expected = ids.to_pylist()
    assert (told.type, refused.type) == (ids.type, ids.type)
    assert refused.to_pylist() == [expected.pop(7)]
    assert told.to_pylist() == expected
    assert result.manifest["repeated_ids"] == 0
    assert len((result.folder / "top.csv").read_text().splitlines()) == 4


def test_an_id_that_is_no_single_value_is_refused_and_may_be_kept(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    file = tmp_path / "customers.parquet"
    pairs = pa.array([[row, row] for row in range(ROWS)])
    pq.write_table(table.append_column("pair", pairs), file)
    with pytest.raises(DataError, match=r"Column 'pair': expected an id, .* list<.*with --id"):
        scored(file, id="pair")
    result = scored(file, keep=("pair",), top=3)
    assert [row["pair"] for row in results(result.folder)] == pairs.to_pylist()
    assert '"[' in (result.folder / "top.csv").read_text()


def test_a_worker_that_is_killed_is_replaced_once_for_each_piece(
    scored: Scored, file: Path
) -> None:
    killed: list[int] = []

    def kill_one(_: int) -> None:
        workers = active_children()
        if workers and not killed:
            killed.append(workers[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    result = scored(file, workers=2, told=kill_one)
    assert killed
    assert len(results(result.folder)) == ROWS


def test_rows_that_are_done_again_are_counted_once(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    file = tmp_path / "customers.parquet"
    many = pa.concat_tables([table] * 400)  # one piece of several batches
    pq.write_table(many, file, row_group_size=len(many))
    killed: list[int] = []

    def kill_one(rows: int) -> None:
        if rows and not killed:
            (worker,) = active_children()
            killed.append(worker.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    scored(file, told=kill_one)
    assert killed
    assert scored.told == len(many)


def test_the_best_are_listed_for_people(scored: Scored, file: Path) -> None:
    result = scored(file, top=7)
    contacts = [row for row in results(result.folder) if row["action"] == "contact"]
    contacts.sort(key=lambda row: -row["expected_profit"])
    listed = pyarrow.csv.read_csv(result.folder / "top.csv").to_pylist()
    assert [row["customer_id"] for row in listed] == [row["customer_id"] for row in contacts[:7]]


def test_a_try_writes_nothing_and_says_what_is_wrong(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    rows = table.to_pylist()
    for row in rows[10:13]:
        row["num_products"] = 0
    file = tmp_path / "spoiled.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file, row_group_size=GROUP)
    job = scored.job(file)
    sample = try_out(job.table, job.engine)
    assert sample.rows == ROWS
    (finding,) = sample.findings
    assert (finding.rows, finding.first, finding.file) == (3, 11, "spoiled.parquet")
    assert not scored.output.exists()


def test_a_table_that_changes_during_the_run_is_no_success(scored: Scored, file: Path) -> None:
    with pytest.raises(DataError, match=r"customers\.parquet was changed during the run"):
        scored(file, told=lambda _: os.utime(file, (1, 1)))
    assert not list(scored.output.rglob("_SUCCESS"))


def test_two_commands_at_one_run_do_not_meet(scored: Scored, file: Path) -> None:
    with (
        scored.job(file).run.opened(),
        pytest.raises(DataError, match="Another command is at this run"),
    ):
        scored(file)


def test_an_output_that_holds_something_else_is_left_alone(scored: Scored, file: Path) -> None:
    scored.output.mkdir()
    (scored.output / "thesis.docx").touch()
    with pytest.raises(DataError, match=r"something else than runs \('thesis\.docx'\)"):
        scored(file)
    assert [path.name for path in scored.output.iterdir()] == ["thesis.docx"]


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "a.csv: it is empty"),
        ("a.csv.gz", b"\x1f\x8b\x08", "packed with gzip"),
        ("a.parquet", b"customer_id,tenure\n", "a.parquet: it is no Parquet file"),
        ("a.parquet", b"PAR1" + bytes(100), "a.parquet is not a readable table"),
        ("a.csv", "customer_id,\0".encode("utf-16-le"), "no text in UTF-8"),
        ("a.csv", b"customer_id\rA\r", "carriage returns alone"),
        ("a.csv", b"customer_id,tenure_months\n", "has no rows"),
        ("a.csv", b'a,b\n1,"' + b"x" * 50_000, "is a quote opened and never closed"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(
    name: str, content: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_LONGEST", 40_000)
    with pytest.raises(DataError, match=sentence):
        open_table(str(_write(tmp_path / name, content)))


def test_a_place_without_a_table_is_refused_in_a_sentence(tmp_path: Path, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    _write(tmp_path / "mixed" / "a.parquet", file.read_bytes())
    _write(tmp_path / "mixed" / "notes.txt", b"")
    for place, sentence in [
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "*.nothing", "No file is named like"),
        (tmp_path / "empty", "found no file"),
        (tmp_path / "mixed", r"found 'notes\.txt'"),
        (tmp_path / "pipe", "a pipe or a device"),
        ("s3://bucket/customers", "expected a file, a folder"),
    ]:
        with pytest.raises(DataError, match=sentence):
            open_table(str(place))


def test_a_parquet_file_that_is_damaged_inside_stops_the_run_and_keeps_the_rest(
    scored: Scored, file: Path
) -> None:
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"customers\.parquet is not a readable table"):
        scored(file)
    assert list(scored.output.rglob("part-*.parquet"))
    assert not list(scored.output.rglob("_SUCCESS"))


def test_files_that_do_not_fit_together_are_refused_before_anything_is_scored(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(table.drop_columns(["num_products"]), folder / "b.parquet")
    with pytest.raises(
        DataError, match=r"a\.parquet has a column 'num_products', b\.parquet has not"
    ):
        scored(folder)
    numbers = table.set_column(0, "customer_id", pa.array(range(ROWS)))
    pq.write_table(numbers, folder / "b.parquet")
    with pytest.raises(DataError, match=r"'customer_id' is of the type string in a\.parquet"):
        scored(folder)
    place = table.schema.get_field_index("tenure_months")
    times = table.set_column(place, "tenure_months", pa.array([0] * ROWS, pa.timestamp("s")))
    pq.write_table(times, folder / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: Column 'tenure_months': expected numbers"):
        scored(folder)
    assert not scored.output.exists()


def test_files_may_have_their_columns_in_any_order_and_type(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    pq.write_table(table.slice(0, 500), folder / "a.parquet")
    other = table.slice(500).select(table.schema.names[::-1])
    place = other.schema.get_field_index("num_products")
    other = other.set_column(place, "num_products", other.column(place).cast(pa.string()))
    pq.write_table(other, folder / "b.parquet")
    told = results(scored(str(folder / "*.parquet")).folder)
    assert [row["customer_id"] for row in told] == table.column(0).to_pylist()


def test_bytes_that_are_no_text_refuse_their_row_and_name_it(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    words = [word.encode() for word in table.column("contract_type").to_pylist()]
    words[7] = b"\xff"
    place = table.schema.get_field_index("contract_type")
    file = tmp_path / "customers.parquet"
    pq.write_table(table.set_column(place, "contract_type", pa.array(words)), file)
    (refused,) = results(scored(file).folder, "rejected")
    assert (refused["row"], refused["field"]) == (8, "contract_type")
    text = tmp_path / "customers.csv"
    pyarrow.csv.write_csv(table, text)
    lines = text.read_bytes().split(b"\n")
    lines[800] = b'"M\xfcller"' + lines[800][lines[800].index(b",") :]
    text.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"customers\.csv: row 800 is no text in UTF-8"):
        scored(text)


def test_a_column_of_values_is_in_all_files_or_in_none(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    worth = pa.array([500.0] * ROWS)
    pq.write_table(table.append_column("customer_value", worth), folder / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has a column 'customer_value', a\.parquet"):
        scored(folder)
    assert not scored.output.exists()


def test_cells_that_are_kept_may_be_empty_in_a_later_file(
    scored: Scored, table: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    full = pa.field("region", pa.int64(), nullable=False)
    pq.write_table(table.append_column(full, pa.array([1] * ROWS)), folder / "a.parquet")
    empty = pa.nulls(ROWS, pa.int64())
    pq.write_table(table.append_column("region", empty), folder / "b.parquet")
    kept = [row["region"] for row in results(scored(folder, keep=("region",)).folder)]
    assert kept == [1] * ROWS + [None] * ROWS


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: it is a pipe or a device"):
        open_table(str(tmp_path))


def test_a_name_that_is_no_text_is_scored(scored: Scored, table: Any, tmp_path: Path) -> None:
    file = tmp_path / "kunden\udcff\n.csv"
    pyarrow.csv.write_csv(table, tmp_path / "customers.csv")
    (tmp_path / "customers.csv").rename(file)
    assert scored(file).manifest["inputs"][0]["name"] == "kunden??.csv"


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", None])
def test_a_complete_run_without_a_manifest_is_told_with_what_to_do(
    content: bytes | None, scored: Scored, file: Path
) -> None:
    manifest = scored(file).folder / "_MANIFEST.json"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    with pytest.raises(DataError, match=r"_MANIFEST\.json .*: remove .*run=\w+ and run"):
        scored(file)


def test_a_run_that_another_command_has_just_completed_is_left_alone(
    scored: Scored, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = parts(scored(file).folder)
    seen: list[bool] = []

    def late(run: Run) -> bool:
        """Tell the first time what was there before the other command was done."""
        seen.append(len(seen) > 0 and (run.folder / "_SUCCESS").exists())
        return seen[-1]

    monkeypatch.setattr(Run, "is_complete", property(late))
    result = scored(file)
    assert seen == [False, True]
    assert result.was_complete
    assert scored.told == 0
    assert parts(result.folder) == before


def test_results_are_not_scored_again(scored: Scored, file: Path) -> None:
    result = scored(file, journal=True)
    pattern = str(scored.output.parent / "**" / "*.parquet")
    with pytest.raises(DataError, match=r"part-00000\.parquet is in the folder of the results"):
        scored(pattern)
    assert [path.name for path in scored.output.iterdir()] == [result.folder.name]
