import pytest

from kuberpa_panel.core.palette import OF_A_KIND, SHOWN, Entry, choose, spellings

ENTRIES = [
    Entry("page", "Robots", "/robots", words="Robots Роботы"),
    Entry("page", "Queues", "/queues", words="Queues Очереди"),
    Entry("robot", "invoices", "/robots/office/invoices", "office"),
    Entry("robot", "inv-post-12", "/robots/office/inv-post-12", "office"),
    Entry("queue", "invoices", "/queues/office/invoices", "office"),
    Entry("activity", "post-invoices-7fk2x", "/activities/office/post-invoices-7fk2x", "office"),
]


def titles(text: str) -> list[str]:
    return [entry.title for entry in choose(ENTRIES, text)]


@pytest.mark.parametrize(
    "text", ["robots", "ROBO", "роботы", "Робот", "кщищеы", "hj,jns"], ids=lambda text: f"typed-{text}"
)
def test_a_page_is_found_in_both_languages_and_in_the_wrong_layout(text: str) -> None:
    assert titles(text)[0] == "Robots"


def test_the_other_layout_is_that_of_the_same_keys() -> None:
    assert spellings("Ьфшд")[:2] == ("ьфшд", "mail")
    assert "роботы" in spellings("hj,jns")


def test_the_name_itself_comes_before_what_only_contains_it() -> None:
    assert titles("invoices") == ["invoices", "invoices", "post-invoices-7fk2x"]


def test_every_word_must_be_there_in_any_order_and_from_its_beginning_it_counts_more() -> None:
    assert titles("12 post") == ["inv-post-12"]
    assert titles("office inv")[0] == "invoices"
    assert titles("nothing of the kind") == []


def test_a_kind_with_many_matches_leaves_room_for_the_others() -> None:
    many = [Entry("activity", f"robots-{number}", "") for number in range(100)]
    found = choose([*many, *ENTRIES], "robots")
    assert sum(entry.group == "activity" for entry in found) == OF_A_KIND
    assert len(found) <= SHOWN
    assert found[0].title == "Robots"
