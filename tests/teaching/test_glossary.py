"""The glossary is read from the sources."""

import pytest

from course_lib.teaching import course, glossary

PAGE = """# %% [markdown]
# # 01 Title
#
# ## First steps
#
# > **tensor**: a block of `numbers`
# > with axes.
#
# > **shape**: the lengths of
# > its axes.
#
# > just a quotation, **not**: a definition

# %%
# > **comment**: no
x = 1
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "01_a.py").write_text(PAGE)
    return tmp_path


def test_definitions_are_found_with_their_section(sources):
    shape, tensor = glossary.terms(sources)[-2:]
    assert (tensor.name, tensor.meaning) == ("tensor", "a block of `numbers` with axes.")
    assert (shape.name, shape.meaning) == ("shape", "the lengths of its axes.")
    assert (tensor.notebook, tensor.heading) == ("01_a", "First steps")


def test_code_cells_define_nothing(sources):
    assert {term.name for term in glossary.terms(sources)} == {"tensor", "shape"}


def test_two_definitions_of_a_term_are_refused(sources):
    (sources / "02_b.py").write_text("# %% [markdown]\n# ## Again\n# > **shape**: another one\n")
    with pytest.raises(ValueError, match=r"'shape' is defined in 01_a \(First steps\) and again"):
        glossary.terms(sources)


def test_the_table_links_to_the_section(sources, displayed, monkeypatch):
    monkeypatch.setattr(glossary, "terms", lambda: [*_terms(sources)])
    glossary.show()
    html = displayed[0][0]["text/html"]
    assert '<a href="01_a.ipynb#First-steps">tensor</a>' in html
    assert "<code>numbers</code>" in html


def _terms(sources, terms=glossary.terms):
    return terms(sources)


def test_the_course_defines_its_first_terms():
    names = {term.name for term in glossary.terms()}
    assert {"tensor", "shape", "batch", "parameter", "logit", "softmax", "loss"} <= names
    assert len(course.CHAPTERS) == 13
