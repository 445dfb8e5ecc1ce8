"""Notebooks: cells read as one program, everything else byte for byte."""

import json
from pathlib import Path

import pytest

from fanwise.migrate.notebooks import NotebookError, rewrite_notebook
from fanwise.migrate.options import Options

CORPUS = Path(__file__).parent / "corpus" / "xavier_notebook.ipynb"

IMPORT = "import tensorflow as tf"
OLD = "x = tf.contrib.layers.xavier_initializer()"
NEW = "x = tf.keras.initializers.GlorotUniform()"


def notebook(*sources, indent=1, **metadata):
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": source if isinstance(source, list) else source.splitlines(keepends=True),
        }
        for source in sources
    ]
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=indent, ensure_ascii=False) + "\n"


def sources(text):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]


def migrated(text, **options):
    new, findings = rewrite_notebook(text, Options(**options))
    assert rewrite_notebook(new, Options(**options))[0] == new
    return new, findings


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
def test_only_changed_lines_differ(indent):
    old = notebook(IMPORT, f"y = 'é'\n{OLD}\nz = 1", "print(x)", indent=indent)
    new, findings = migrated(old)
    assert new == old.replace(OLD, NEW)
    assert [(f.cell, f.line) for f in findings] == [(2, 2)]


def test_import_that_moves_stays_in_its_cell():
    old = notebook(
        "# Cell one\nfrom tensorflow.contrib.layers import xavier_initializer\nimport numpy as np",
        "w = xavier_initializer()",
    )
    assert sources(migrated(old)[0]) == [
        "# Cell one\nimport keras\nimport numpy as np",
        "w = keras.initializers.GlorotUniform()",
    ]


def test_import_that_ends_its_cell_can_go():
    old = notebook(
        IMPORT + "\nfrom tensorflow.contrib.layers import xavier_initializer",
        "w = xavier_initializer()",
    )
    assert sources(migrated(old)[0])[0] == IMPORT


@pytest.mark.parametrize(
    "magic",
    ["%matplotlib inline", "!pip install tensorflow", "?tf.nn", "tf.nn?", "files = !ls", "%%time"],
)
def test_magics_stay(magic):
    old = notebook(IMPORT, f"{magic}\n{OLD}\n")
    assert migrated(old)[0] == old.replace(OLD, NEW)


def test_magics_inside_blocks_stay():
    old = notebook(IMPORT, f"for i in range(3):\n    !ls {{i}}\n    {OLD}\nif i:\n    %time")
    assert migrated(old)[0] == old.replace(OLD, NEW)


def test_other_languages_stay():
    old = notebook(IMPORT, f"%%bash\n{OLD}", OLD)
    assert sources(migrated(old)[0]) == [IMPORT, f"%%bash\n{OLD}", NEW]


def test_unparsable_cell_is_reported_and_left():
    old = notebook(IMPORT, f"print x\n{OLD}", OLD, "print 3")
    new, findings = migrated(old)
    assert sources(new) == [IMPORT, f"print x\n{OLD}", NEW, "print 3"]
    assert [(f.kind, f.cell) for f in findings] == [("unread", 2), ("converted", 3)]


def test_source_as_one_string():
    old = notebook(IMPORT, OLD).replace(f'[\n    "{OLD}"\n   ]', f'"{OLD}"')
    assert f'"source": "{OLD}"' in old
    assert migrated(old)[0] == old.replace(OLD, NEW)


def test_escaped_characters_keep_their_spelling():
    old = notebook(IMPORT, f"y = 'é'\n{OLD}").replace("é", "\\u00e9")
    assert migrated(old)[0] == old.replace(OLD, NEW)


def test_outputs_and_markdown_stay():
    text = CORPUS.read_text(encoding="utf-8")
    new, _ = migrated(text)
    before, after = json.loads(text), json.loads(new)
    for old, now in zip(before["cells"], after["cells"], strict=True):
        assert {k: v for k, v in old.items() if k != "source"} == {
            k: v for k, v in now.items() if k != "source"
        }
    assert "xavier_initializer" in new.split('"outputs"', 1)[0]  # The markdown still tells of it.


def test_colab_s_choice_of_tensorflow_1_is_evidence():
    old = notebook("%tensorflow_version 1.x\n" + IMPORT, "x = tf.glorot_normal_initializer()")
    assert sources(migrated(old)[0])[1] == "x = tf.keras.initializers.GlorotNormal()"


@pytest.mark.parametrize("text", ["", "[]", '{"worksheets": []}', '{"cells": 3', "xavier"])
def test_what_is_no_notebook_is_refused(text):
    with pytest.raises(NotebookError, match="it is no notebook of format 4"):
        rewrite_notebook(text, Options())
