import pytest
from pages import with_region

PAGE = "before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\nafter\n"


def test_only_the_named_region_changes_and_doing_it_twice_changes_nothing():
    once = with_region(PAGE, "a", r"new \1 $1")
    assert once == PAGE.replace("old", r"new \1 $1")
    assert with_region(once, "a", r"new \1 $1") == once
    assert with_region(PAGE, "b", "new") == PAGE.replace("<!-- b -->\n", "<!-- b -->\nnew\n")


@pytest.mark.parametrize("text", ["", PAGE.replace("<!-- a -->", ""), PAGE + PAGE])
def test_a_region_that_is_missing_or_there_twice_is_refused(text):
    with pytest.raises(ValueError, match="one region <!-- a -->"):
        with_region(text, "a", "new")
