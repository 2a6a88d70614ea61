"""Valid and invalid tables from spreadsheets and programs."""

import pytest

from gru_audio.data.datasets.tables import read_cells, read_table
from gru_audio.settings import UserError

ROWS = [{"file": "x.wav", "label": "a"}, {"file": "y, z.wav", "label": ""}]


@pytest.mark.parametrize(
    "text",
    [
        'file,label\nx.wav,a\n"y, z.wav",\n',
        "file;label\nx.wav;a\ny, z.wav;\n",
        "file\tlabel\nx.wav\ta\ny, z.wav\t\n",
        "\ufefffile;label\r\nx.wav;a\r\ny, z.wav;\r\n",
        "\n file ; label ;;\n\n;;;\nx.wav;a;;\n  ; ; ;\n y, z.wav ;;;\n",
    ],
)
def test_separators_blank_rows_and_blank_columns(tmp_path, text):
    path = tmp_path / "list.csv"
    path.write_text(text, newline="")
    assert read_table(path, ("file", "label")) == ROWS
    assert read_table(path, ()) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'no column "file"'),
        ("\n\n", 'no column "file"'),
        ("file;label\n", "has no rows"),
        ("file,label\n,\n", "has no rows"),
        ("fil;label\nx;y\n", 'no column "file"'),
        ("file,label,label\nx,y,z\n", 'the column "label" twice'),
        ("file, label,label \nx,y,y\n", 'the column "label" twice'),
        ("file,label,\nx,y,z\n", "column 3 has no name"),
        ("file,label\n\n\nx\n", "line 4: not as many values"),
        ("file,label\nx,y\0\n", "NUL"),
        ('file,label\nx,"y\nz,y\n', "unexpected end of data"),  # a quote that nothing closes
        ('file,label\nx,"y"z\n', "expected after"),
        (f"file,{'x' * 200_000}\nx,y\n", "field larger than field limit"),
    ],
)
def test_a_faulty_table_is_explained(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_cells(path, ("file",))
