"""Files as people have them are read right, or refused in one sentence."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import threading
import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from churn_serving.errors import DataError
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.tables import content, opening, parts, records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.learning.dataset import Dataset

    Write = Callable[..., Path]

HEADER = (
    "tenure_months,monthly_charges,total_charges,num_products,has_phone_service,has_internet,"
    "contract_type,payment_method,churn"
)
LEFT = "2,20.5,41,1,true,false,month-to-month,bank,1"
STAYED = "34,56.95,1891.5,4,true,true,one-year,mailed,0"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, and return its path."""

    def write_file(content: bytes | str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def refusal_of(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as refused:
        load_dataset(path, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


def same(path: Path, expected: Dataset) -> Dataset:
    """Read a table that must hold the expected customers, and return it."""
    read = load_dataset(path)
    np.testing.assert_array_equal(read.X, expected.X)
    np.testing.assert_array_equal(read.y, expected.y)
    return read


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def by_arrow(content: bytes, codec: str) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, codec) as stream:
        stream.write(content)
    packed: bytes = target.getvalue().to_pybytes()
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: by_arrow(content, "zstd"),
    "lz4": lambda content: by_arrow(content, "lz4"),
    "zip": lambda content: zipped({"table.csv": content}),
}


class TestRowsThatDoNotFitTheHeader:
    def test_a_decimal_comma_never_shifts_a_row(self, write: Write) -> None:
        path = write(f"{HEADER}\n34,56,95,1891,4,true,true,one-year,mailed,0\n{LEFT}\n")
        assert refusal_of(path) == (
            "table.csv: row 1 has 10 cells, the header 9; a decimal comma needs quotes, or "
            "semicolons between the cells."
        )

    @pytest.mark.parametrize("before", [0, 1, 7, 200_000])
    def test_the_row_is_named_however_far_down_it_stands(self, before: int, write: Write) -> None:
        rows = f"{STAYED}\n" * before
        path = write(f"{HEADER}\n\n  \n{rows}{STAYED},\n{LEFT}\n")
        assert refusal_of(path) == (
            f"table.csv: row {before + 1:,} has 10 cells, the header 9; it ends with a separator."
        )

    @pytest.mark.parametrize(
        ("row", "cells"),
        [
            (f"1,{STAYED}", "10 cells"),  # an index without a name
            (STAYED.rpartition(",")[0], "8 cells"),
            ("Total: 2", "1 cell"),
            (f"{STAYED},{LEFT}", "18 cells"),
        ],
    )
    def test_any_other_number_of_cells_is_refused(self, row: str, cells: str, write: Write) -> None:
        message = refusal_of(write(f"{HEADER}\n{LEFT}\n{row}\n"))
        assert message.startswith(f"table.csv: row 2 has {cells}, the header 9")

    @pytest.mark.parametrize("name", ["churn", "note", " tenure_months "])
    def test_a_name_that_stands_twice_in_the_header_is_refused(
        self, name: str, write: Write
    ) -> None:
        message = refusal_of(write(f"{HEADER},note,{name}\n{LEFT},x,y\n{STAYED},x,y\n"))
        assert message == f"Column '{name.strip()}' is there more than once."

    def test_a_name_that_stands_twice_in_two_spellings_is_refused(self, write: Write) -> None:
        message = refusal_of(write(f"{HEADER},Tenure Months\n{LEFT},1\n{STAYED},2\n"))
        assert message == (
            "Column 'tenure_months' is there more than once: as 'tenure_months', 'Tenure Months'."
        )

    def test_columns_without_a_name_are_no_trouble(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        table = raw.assign(a=1, b=2).to_csv(index=True)
        same(write(table.replace("Churn,a,b", "Churn,,", 1)), small)

    def test_rows_of_separators_and_blank_lines_are_left_out(self, write: Write) -> None:
        read = load_dataset(write(f"{HEADER}\n{LEFT}\n,,,,,,,,\n\n{STAYED}\n,,,,,,,,\n \n\x1a"))
        assert read.y.tolist() == [1, 0]
        assert "2 rows without any value are left out." in read.notices


class TestQuotes:
    @pytest.mark.parametrize("opened", [5, 1])
    def test_a_quote_that_closes_ten_rows_later_is_told_of(
        self, opened: int, raw: pd.DataFrame, write: Write
    ) -> None:
        lines = raw.assign(note="x").to_csv(index=False).splitlines()
        lines[opened] = lines[opened].removesuffix("x") + '"'
        lines[opened + 10] = lines[opened + 10].removesuffix("x") + 'x"'
        read = load_dataset(write("\n".join(lines)))
        assert read.rows == len(raw) - 10
        assert read.notices[-1] == (
            "10 lines that look like rows stand between quotes and are no customers here, the "
            f"first in row {opened}: is a quote opened there by mistake?"
        )

    def test_a_text_of_several_lines_is_nothing_to_tell(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        path = write(raw.assign(note='first,\n "second"\r\n\nthird').to_csv(index=False))
        assert not any("quote" in notice for notice in same(path, small).notices)

    @pytest.mark.parametrize("row", [1, 5, 400])
    def test_a_quote_that_is_never_closed_is_refused(
        self, row: int, raw: pd.DataFrame, write: Write
    ) -> None:
        lines = raw.assign(note="x").to_csv(index=False).splitlines()
        lines[row] = lines[row].removesuffix("x") + '"x'
        message = refusal_of(write("\n".join(lines)))
        assert message == f"table.csv: row {row} opens a quote that is never closed."

    def test_a_quote_that_is_not_closed_in_megabytes_is_refused(self, write: Write) -> None:
        rows = f"{STAYED},x\n" * 450_000
        message = refusal_of(write(f'{HEADER},note\n{LEFT},"x\n{rows}'))
        assert message == (
            "table.csv: row 1 is longer than 8 MB: is a quote opened and never closed?"
        )

    def test_inch_marks_and_doubled_quotes_are_part_of_a_text(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        lines = raw.assign(note="x").to_csv(index=False).splitlines()
        lines[3] = lines[3].removesuffix("x") + '5" pipe'
        lines[4] = lines[4].removesuffix("x") + '"a ""word"", said"'
        same(write("\n".join(lines)), small)

    def test_quotes_behind_backslashes_are_read_as_spark_writes_them(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        header, *lines = raw.to_csv(index=False).splitlines()
        rows = [f'{line},"a \\"word\\", said"' for line in lines]
        same(write("\n".join([f"{header},note", *rows])), small)

    def test_single_quotes_around_every_cell(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        same(write(raw.to_csv(index=False, quotechar="'", quoting=1)), small)


class TestHowATableIsWritten:
    @pytest.mark.parametrize(
        ("separator", "note"),
        [(";", "semicolons between cells"), ("\t", "tabs between cells"), ("|", "bars between")],
    )
    @pytest.mark.parametrize("decimal", [".", ","])
    def test_separators_are_found(
        self,
        *,
        separator: str,
        note: str,
        decimal: str,
        raw: pd.DataFrame,
        write: Write,
        small: Dataset,
    ) -> None:
        table = raw.assign(
            MonthlyCharges=raw["MonthlyCharges"].str.replace(".", decimal),
            TotalCharges=raw["TotalCharges"].str.replace(".", decimal),
        )
        read = same(write(table.to_csv(index=False, sep=separator)), small)
        assert note in read.notices[0]
        assert ("decimal commas" in read.notices[0]) is (decimal == ",")

    @pytest.mark.parametrize("line", ["sep=^", '"sep=^"', "SEP=^"])
    def test_a_line_that_names_the_separator_is_obeyed(
        self, line: str, own: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        same(write(f"{line}\r\n" + own.to_csv(index=False, sep="^")), small)

    @pytest.mark.parametrize(
        "encoding",
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"],
    )
    def test_encodings_are_found(
        self, encoding: str, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        read = same(write(raw.assign(note="é, ü").to_csv(index=False).encode(encoding)), small)
        assert ("Windows-1252" in read.notices[0]) is (encoding in {"latin-1", "cp1252"})

    def test_a_letter_of_another_encoding_late_in_the_file_is_found_too(
        self, raw: pd.DataFrame, write: Write
    ) -> None:
        table = pd.concat([raw] * 30)
        table.iloc[-1, 0] = "Müller"
        read = load_dataset(write(table.to_csv(index=False).encode("latin-1")))
        assert read.ids is not None
        assert read.ids[-1] == "Müller"
        assert "Windows-1252 (Latin-1)" in read.notices[0]

    def test_damaged_utf_8_is_told_of(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        table = raw.assign(note=["é"] * 399 + ["DAMAGE"]).to_csv(index=False).encode()
        read = same(write(table.replace(b"DAMAGE", b"\xff")), small)
        assert "Some characters are no UTF-8 and were replaced." in read.notices

    def test_utf_16_that_ends_within_a_letter_is_refused(
        self, raw: pd.DataFrame, write: Write
    ) -> None:
        message = refusal_of(write(raw.to_csv(index=False).encode("utf-16")[:-1]))
        assert message == "table.csv is no UTF-16-LE text: it is damaged or cut off."

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends_are_found(
        self, end: str, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        same(write(raw.to_csv(index=False, lineterminator=end)), small)

    def test_line_ends_may_be_mixed(self, raw: pd.DataFrame, small: Dataset, write: Write) -> None:
        lines = raw.to_csv(index=False).splitlines()
        ends = ("\n", "\r\n", "\r", "\n\n")
        same(write("".join(line + ends[n % 4] for n, line in enumerate(lines))), small)

    @pytest.mark.parametrize(
        "titles", ["Export\n", "Export of churn, all customers\n\n2026-01-01;report\n", ",,,\n"]
    )
    @pytest.mark.parametrize("separator", [",", ";"])
    def test_lines_above_the_header_are_left_out(
        self, *, titles: str, separator: str, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        read = same(write(titles + raw.to_csv(index=False, sep=separator)), small)
        assert "above the header left out" in read.notices[0]


class TestJson:
    def test_a_line_for_each_customer(
        self, raw: pd.DataFrame, own: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        for table in (raw, own):
            read = same(write(table.to_json(orient="records", lines=True), "t.jsonl"), small)
            assert "JSON lines" in read.notices[0]

    @pytest.mark.parametrize("indent", [None, 2])
    def test_a_list_of_customers(
        self, indent: int | None, own: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        same(write(json.dumps(own.to_dict("records"), indent=indent), "t.json"), small)

    def test_values_of_several_types_in_one_column(
        self, own: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        rows = own.to_dict("records")
        rows[0]["churn"] = "No"
        rows[1]["churn"] = False
        rows[2]["monthly_charges"] = str(rows[2]["monthly_charges"])
        same(write("\n".join(json.dumps(row) for row in rows)), small)

    def test_names_of_empty_values_may_be_left_out(self, write: Write) -> None:
        row = dict(zip(HEADER.split(","), LEFT.split(","), strict=True))
        first = {k: v for k, v in row.items() if k != "total_charges"} | {"tenure_months": 1}
        stayed = row | {"churn": 0}
        read = load_dataset(write("\n".join(map(json.dumps, (first, stayed)))))
        assert read.X[0, 2] == 20.5

    def test_dates_as_ids_stay_texts(self, own: pd.DataFrame, write: Write) -> None:
        table = own.assign(customer_id="2026-01-01")
        read = load_dataset(write(table.to_json(orient="records", lines=True)))
        assert read.ids is not None
        assert set(read.ids) == {"2026-01-01"}

    @pytest.mark.parametrize(
        "ids", [[12345678901234567890, 12345678901234567891], [1, 2], [1.0, 2]]
    )
    def test_long_numbers_as_ids_stay_apart(
        self, ids: list[float], own: pd.DataFrame, write: Write
    ) -> None:
        rows = own.head(20).to_dict("records")
        for number, row in enumerate(rows):
            row["customer_id"] = ids[number % 2]
        read = load_dataset(write("\n".join(json.dumps(row) for row in rows)))
        assert read.ids is not None
        assert read.ids.tolist() == [str(int(id_)) for id_ in ids] * 10

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"churn": 1\n{}\n', "row 1 is no JSON object in one line"),
            ('{"churn": 1}\n[1]\n', "row 2 is no JSON object"),
            ('{"churn": 1, "churn": 0}\n', "a name is there twice"),
            ("[1, 2]", "found a list of something else"),
            ("[" * 100_000, "it is no JSON"),
            ("[{]", "it is no JSON"),
            ("[]", "No column is known"),
            ("{}", "No column is known"),
            ('{"churn": {"a": 1}}', "Missing columns"),
            ('{"customer_id": "\\ud800", "churn": 1}', "Missing columns"),
        ],
    )
    def test_what_is_no_list_of_customers_is_refused(
        self, content: str, said: str, write: Write
    ) -> None:
        assert said in refusal_of(write(content))

    @pytest.mark.parametrize("value", [["a"], {"a": 1}])
    @pytest.mark.parametrize("mixed", [False, True])
    def test_a_cell_that_holds_more_than_a_value_is_refused(
        self, *, value: Any, mixed: bool, own: pd.DataFrame, write: Write
    ) -> None:
        rows = own.to_dict("records")
        for row in rows[2 if mixed else 0 :]:
            row["contract_type"] = value
        message = refusal_of(write("\n".join(json.dumps(row) for row in rows)))
        assert message in {
            "table.csv: row 3 holds a list or an object in a cell.",
            "Column 'contract_type': expected texts, found the type list<item: string>.",
            "Column 'contract_type': expected texts, found the type struct<a: int64>.",
        }

    def test_a_long_list_and_a_long_line_are_refused(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(records, "_MAX_LIST", 1 << 20)
        monkeypatch.setattr(records, "_BLOCK", 1 << 18)
        assert "a JSON list of more than" in refusal_of(write("[" + "1," * (1 << 20)))
        assert "a line of JSON is longer" in refusal_of(write('{"a": "' + "x" * (1 << 22)))


class TestParquet:
    def test_columns_of_odd_types_read_like_the_plain_ones(
        self, own: pd.DataFrame, small: Dataset, tmp_path: Path
    ) -> None:
        plain = pa.Table.from_pandas(own, preserve_index=False)
        kinds = {
            "tenure_months": pa.int8(),
            "monthly_charges": pa.decimal128(10, 2),
            "total_charges": pa.decimal256(12, 3),
            "num_products": pa.float32(),
            "has_phone_service": pa.int64(),
            "has_internet": pa.string(),
            "contract_type": pa.dictionary(pa.int16(), pa.large_string()),
            "payment_method": pa.binary(),
            "churn": pa.float64(),
        }
        arrays = [
            plain.column(name).combine_chunks().dictionary_encode().cast(kind)
            if pa.types.is_dictionary(kind)
            else plain.column(name).cast(kind)
            for name, kind in kinds.items()
        ]
        path = tmp_path / "odd.parquet"
        pa.parquet.write_table(pa.table(dict(zip(kinds, arrays, strict=True))), path)
        same(path, small)

    @pytest.mark.parametrize(
        ("column", "values", "kind"),
        [
            ("tenure_months", pd.date_range("2026-01-01", periods=400), "timestamp"),
            ("monthly_charges", [[1.0]] * 400, "list"),
            ("contract_type", [{"a": 1}] * 400, "struct"),
            ("total_charges", [b"\xff\xfe"] * 400, "UTF8"),
        ],
    )
    def test_columns_that_cannot_be_what_they_are_called_are_refused(
        self, *, column: str, values: Any, kind: str, own: pd.DataFrame, tmp_path: Path
    ) -> None:
        own.assign(**{column: values}).to_parquet(tmp_path / "odd.parquet")
        message = refusal_of(tmp_path / "odd.parquet")
        assert kind in message
        assert column in message or kind == "UTF8"

    def test_missing_numbers_are_named(self, own: pd.DataFrame, tmp_path: Path) -> None:
        table = own.assign(monthly_charges=own["monthly_charges"].where(own.index != 2))
        table.to_parquet(tmp_path / "gap.parquet")
        assert refusal_of(tmp_path / "gap.parquet") == (
            "Column 'monthly_charges', row 3: expected a number, found an empty cell."
        )

    def test_content_counts_and_not_the_end_of_the_name(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        target = io.BytesIO()
        raw.to_parquet(target)
        same(write(target.getvalue(), "t.csv"), small)
        same(write(raw.to_csv(index=False), "t.parquet"), small)

    def test_more_rows_than_can_be_trained_on_are_refused_at_once(
        self, raw: pd.DataFrame, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = io.BytesIO()
        raw.to_parquet(target)
        for module in ("columnar", "delimited", "records", "reading"):
            monkeypatch.setattr(f"churn_serving.learning.tables.{module}.MAX_ROWS", 399)
        assert parts.MAX_ROWS > 10_000_000
        for table in (
            target.getvalue(),
            raw.to_csv(index=False),
            raw.to_json(orient="records", lines=True),
        ):
            assert "400 rows or more" in refusal_of(write(table))


class TestFolders:
    def test_parquet_parts_are_one_table(
        self, own: pd.DataFrame, small: Dataset, tmp_path: Path
    ) -> None:
        own.iloc[:150].to_parquet(tmp_path / "part-0.parquet")
        # Another order, and other types: the parts of a nightly export are not always alike.
        own.iloc[150:, ::-1].astype({"tenure_months": float}).to_parquet(
            tmp_path / "part-1.parquet"
        )
        (tmp_path / "_SUCCESS").touch()
        (tmp_path / ".part-0.parquet.crc").write_bytes(b"crc")
        read = same(tmp_path, small)
        assert read.source == tmp_path.name
        assert len(read.sha256) == 64

    def test_names_of_folders_hold_a_column(
        self, raw: pd.DataFrame, small: Dataset, tmp_path: Path
    ) -> None:
        for value, rows in raw.groupby("Churn"):
            folder = tmp_path / f"Churn={value}"
            folder.mkdir()
            rows.drop(columns="Churn").to_parquet(folder / "part-0.parquet")
        read = load_dataset(tmp_path)
        assert read.rows == 400
        assert read.y.sum() == small.y.sum()

    def test_a_bad_row_is_named_with_its_file(self, own: pd.DataFrame, tmp_path: Path) -> None:
        own.iloc[:150].to_parquet(tmp_path / "a.parquet")
        own.iloc[150:].assign(tenure_months=999).to_parquet(tmp_path / "b.parquet")
        assert refusal_of(tmp_path) == (
            "Column 'tenure_months', rows 1, 2, 3, 4, 5 and 245 more of "
            f"{tmp_path.name}/b.parquet: expected less than or equal to 120, found '999.0'."
        )

    def test_parts_of_two_kinds_of_table_are_refused(
        self, own: pd.DataFrame, raw: pd.DataFrame, tmp_path: Path
    ) -> None:
        own.to_parquet(tmp_path / "a.parquet")
        raw.to_parquet(tmp_path / "b.parquet")
        assert "do not fit together" in refusal_of(tmp_path)

    def test_a_truncated_part_is_named(self, own: pd.DataFrame, tmp_path: Path) -> None:
        own.to_parquet(tmp_path / "a.parquet")
        whole = (tmp_path / "a.parquet").read_bytes()
        (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
        assert f"{tmp_path.name}/b.parquet is not a readable table" in refusal_of(tmp_path)

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            ([], "found none"),
            (["_SUCCESS", ".hidden.parquet"], "found none"),
            (["a.csv", "b.csv"], "found 'a.csv', 'b.csv'"),
            (["a.parquet", "b.csv"], "expected Parquet files alone, found 'b.csv', too"),
        ],
    )
    def test_a_folder_without_parts_is_refused(
        self, names: list[str], found: str, tmp_path: Path
    ) -> None:
        for name in names:
            (tmp_path / name).touch()
        message = refusal_of(tmp_path)
        assert message.startswith(f"{tmp_path} is a folder: ")
        assert found in message


class TestArchives:
    @pytest.mark.parametrize("kind", PACKERS)
    def test_packed_tables_read_like_the_others(
        self, kind: str, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        table = raw.to_csv(index=False).encode()
        path = write(PACKERS[kind](table), f"table.csv.{kind}")
        read = same(path, small)
        assert f".{kind}" in read.notices[0]
        assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        target = io.BytesIO()
        raw.to_parquet(target)
        same(write(PACKERS[kind](target.getvalue())), small)

    @pytest.mark.parametrize("kind", PACKERS)
    @pytest.mark.parametrize("cut", [-1, -8, 0.5, 30])
    def test_an_archive_that_is_cut_off_is_refused(
        self, kind: str, cut: float, raw: pd.DataFrame, write: Write
    ) -> None:
        packed = PACKERS[kind](raw.to_csv(index=False).encode())
        end = cut if isinstance(cut, int) else int(len(packed) * cut)
        message = refusal_of(write(packed[:end]))
        assert f"the .{kind} archive is" in message
        assert "cut off" in message

    @pytest.mark.parametrize("kind", PACKERS)
    def test_a_damaged_archive_is_refused(self, kind: str, raw: pd.DataFrame, write: Write) -> None:
        packed = bytearray(PACKERS[kind](raw.to_csv(index=False).encode()))
        packed[len(packed) // 2] ^= 0xFF
        if kind != "lz4":  # it has no checksum of its own
            assert f"the .{kind} archive is damaged" in refusal_of(write(bytes(packed)))

    @pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "zip"])
    def test_an_empty_archive_is_an_empty_file(self, kind: str, write: Write) -> None:
        assert "the file is empty" in refusal_of(write(PACKERS[kind](b"")))

    @pytest.mark.parametrize("level", range(1, 10))
    def test_each_level_of_bz2_is_known(
        self, level: int, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        same(write(bz2.compress(raw.to_csv(index=False).encode(), level)), small)

    def test_what_else_a_zip_holds_is_no_table(
        self, raw: pd.DataFrame, small: Dataset, write: Write
    ) -> None:
        table = raw.to_csv(index=False).encode()
        same(write(zipped({"a.csv": table, "__MACOSX/._a.csv": b"x", "b/": b""})), small)
        members = {"table.csv": table, "README.md": b"x", "licence.pdf": b"x"}
        same(write(zipped(members)), small)

    @pytest.mark.parametrize(
        ("members", "found"),
        [
            ({}, "found none."),
            ({"a.csv": b"x", "b.csv": b"x"}, "found 'a.csv', 'b.csv'."),
            ({f"{n}": b"x" for n in range(9)}, "found '0', '1', '2', '3', '4' and 4 more."),
        ],
    )
    def test_a_zip_of_no_table_or_of_several_is_refused(
        self, members: dict[str, bytes], found: str, write: Write
    ) -> None:
        message = refusal_of(write(zipped(members), "t.zip"))
        assert message == f"t.zip: expected an archive of one table, {found}"

    def test_a_locked_zip_is_refused(self, write: Write) -> None:
        packed = bytearray(zipped({"a": b"x" * 100}))
        packed[6] |= 1
        packed[packed.index(b"PK\x01\x02") + 8] |= 1
        assert "locked by a password" in refusal_of(write(bytes(packed)))

    def test_a_table_that_is_packed_twice_is_refused(self, write: Write) -> None:
        message = refusal_of(write(gzip.compress(zipped({"a": b"x"})), "t.gz"))
        assert message == "t.gz is packed twice: unpack it first."

    @pytest.mark.parametrize(("filler", "said"), [(b"\0", "NUL"), (f"{LEFT}\n".encode(), "times")])
    def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(
        self, *, filler: bytes, said: str, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(content, "_SMALL", 1 << 20)
        rows = filler * (8_000_000 // len(filler))
        packed = gzip.compress(f"{HEADER}\n".encode() + rows)
        assert said in refusal_of(write(packed, "t.gz"))
        assert said == "NUL" or "expected a table" in refusal_of(write(packed, "t.gz"))

    def test_an_archive_of_a_parquet_bomb_is_refused_too(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(content, "MAX_BYTES", 1 << 20)
        packed = gzip.compress(b"PAR1" + os.urandom(1 << 21))
        assert "unpacks to more than" in refusal_of(write(packed))


class TestWhatIsNoTable:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "the file is empty: expected a header and rows."),
            (b"\n\r\n \t\n", "the file is empty: expected a header and rows."),
            (b"\xef\xbb\xbf", "the file is empty: expected a header and rows."),
            (bytes(range(256)) * 20, "is no text: it holds a NUL character."),
            (b"PAR1\xff\xfe\x00", "is not a readable table: "),
            (b"PAR1" + bytes(range(256)) * 20 + b"PAR1", "is not a readable table: "),
            ("naïve\n1\n".encode("latin-1"), "found 'naïve'."),
            (b"a,b\n1,2\n1,2,3,4\n", "found 'a', 'b'."),
            (b'a,b\n1,"2\n', "found 'a', 'b'."),
            (b"<!DOCTYPE html><html>", "it is a web page or XML"),
            (b"%PDF-1.7", "is a PDF document."),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook (.xls): save the sheet as CSV."),
            (b"SQLite format 3\x00", "is an SQLite database: export the table as CSV."),
            (b"\0" * 257 + b"ustar\0", "is a tar archive: unpack it first."),
            (b"x" * (9 << 20), "no header was found"),
            (b"," * (1 << 20), "No column is known"),
            (b"sep=", "No column is known"),
            (b"sep=\n", "No column is known"),
            (b"sep=;\n", "no header was found"),
            (b"sep=\xff\n1", "No column is known"),
        ],
    )
    def test_a_file_that_is_no_table_is_refused_in_a_sentence(
        self, content: bytes, said: str, write: Write
    ) -> None:
        assert said in refusal_of(write(content))

    def test_an_excel_workbook_is_refused_with_advice(self, write: Write) -> None:
        message = refusal_of(write(zipped({"xl/workbook.xml": b"", "x": b""}), "t.xlsx"))
        assert message == "t.xlsx is an Excel workbook: save the sheet as CSV."

    @pytest.mark.parametrize("content", [HEADER, f"{HEADER}\n", f"{HEADER}\n\n\n", f"{HEADER}\r"])
    def test_a_header_alone_is_refused(self, content: str, write: Write) -> None:
        assert refusal_of(write(content)) == "The table has no rows."


class TestPaths:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "missing.csv"
        assert refusal_of(path) == f"Cannot read {path}: No such file or directory."

    @pytest.mark.parametrize(
        "address", ["https://example.com/t.csv", "s3://bucket/t.csv", "file:///tmp/t.csv"]
    )
    def test_an_address_is_refused_with_advice(self, address: str, tmp_path: Path) -> None:
        message = refusal_of(type(tmp_path)(address))
        scheme = address.partition(":")[0]
        assert message.startswith(f"Cannot read {scheme}://")
        assert "download the table, or send it through standard input with --data -." in message

    def test_a_tilde_is_the_home_folder(
        self, raw: pd.DataFrame, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        raw.to_csv(tmp_path / "t.csv", index=False)
        same(type(tmp_path)("~/t.csv"), small)
        missing = refusal_of(type(tmp_path)("~/missing.csv"))
        assert missing == f"Cannot read {tmp_path}/missing.csv: No such file or directory."
        assert "home" in refusal_of(type(tmp_path)("~nobody-of-this-name/t.csv"))

    @pytest.mark.parametrize("name", ["a\0b.csv", "x" * 5000, "/dev/zero", "/dev/null"])
    def test_a_name_that_is_no_file_is_refused(self, name: str, tmp_path: Path) -> None:
        assert refusal_of(type(tmp_path)(name)).startswith("Cannot read ")

    def test_standard_input_is_read(
        self, raw: pd.DataFrame, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = gzip.compress(raw.to_csv(index=False).encode())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(table)))
        read = same(type(tmp_path)("-"), small)
        assert read.source == "standard input"
        assert read.sha256 == hashlib.sha256(table).hexdigest()

    def test_standard_input_that_is_closed_or_endless_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", None)
        assert refusal_of(type(tmp_path)("-")) == "Cannot read standard input: it is closed."
        monkeypatch.setattr(opening, "MAX_BYTES", 1 << 20)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"x" * (1 << 22))))
        assert "Standard input holds more than 1 MB." in refusal_of(type(tmp_path)("-"))

    def test_a_named_pipe_is_read(self, raw: pd.DataFrame, small: Dataset, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=[raw.to_csv(index=False).encode()])
        writer.start()
        try:
            same(path, small)
        finally:
            writer.join()

    def test_a_file_that_changes_while_it_is_read_is_refused(
        self, raw: pd.DataFrame, write: Write
    ) -> None:
        path = write(raw.to_csv(index=False))

        def change(phase: str, *_: int) -> None:
            if phase.startswith("reading"):
                with path.open("ab") as file:
                    file.write(b"\n")

        assert (
            refusal_of(path, progress=change) == "table.csv changed while it was read: try again."
        )


def test_every_phase_tells_how_far_it_is(raw: pd.DataFrame, write: Write) -> None:
    told: list[tuple[str, int, int]] = []
    path = write(pd.concat([raw] * 400).to_csv(index=False))
    load_dataset(path, progress=lambda *step: told.append(step))
    phases = list(dict.fromkeys(phase for phase, _, _ in told))
    assert phases == ["checksum (MB)", "reading (MB)", "checking"]
    for phase in phases:
        steps = [(done, total) for name, done, total in told if name == phase]
        assert steps == sorted(steps)
        assert len({total for _, total in steps}) == 1
        assert steps[-1][0] == steps[-1][1]
