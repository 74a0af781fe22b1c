"""What a study puts on disk while it lasts."""

import pandas as pd

from benchmark.running import record


def test_rows_are_written_where_a_run_that_ended_took_the_folder_along(tmp_path, monkeypatch):
    """Two processes: the folder is empty, and removed, between its making and the file's."""
    real, removed = record.put, []

    def put(rows, path):
        if not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        real(rows, path)

    monkeypatch.setattr(record, "put", put)
    study = record.Record(tmp_path / "rows.parquet", each=True)
    study.write([{"a": 1}])
    assert removed and pd.read_parquet(study.folder / record.ENDED)["a"].tolist() == [1]
