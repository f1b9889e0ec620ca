from __future__ import annotations

import pytest
from click.testing import CliRunner

from heartcast.cli.ranking import ranking
from heartcast.core.errors import HeartcastError


def test_without_the_data_the_command_says_where_it_looked(tmp_path):
    done = CliRunner().invoke(ranking, ["eval", "--data", str(tmp_path)])
    assert isinstance(done.exception, HeartcastError)
    assert done.exception.code == "data_missing"
    assert str(tmp_path) in done.exception.detail


@pytest.mark.parametrize("text", ["a\tb\tc\td\n", "1\t2\n"])
def test_a_file_that_is_no_table_of_ratings_ends_in_a_sentence(tmp_path, text):
    folder = tmp_path / "ranking" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_text(text)
    done = CliRunner().invoke(ranking, ["eval", "--data", str(tmp_path)])
    assert isinstance(done.exception, HeartcastError)
    assert done.exception.code == "data_unreadable"
