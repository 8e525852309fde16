from kuberpa_panel.web.live import Differ, Parts, Rows, Shared, message, partials


def test_a_part_is_sent_once_and_again_when_it_changes() -> None:
    differ = Differ()
    assert differ.changes({"head": "<p id=head>1</p>"}) == {"head": "<p id=head>1</p>"}
    assert differ.changes({"head": "<p id=head>1</p>"}) == {}
    assert differ.changes({"head": "<p id=head>2</p>"}) == {"head": "<p id=head>2</p>"}


def test_a_changed_row_is_sent_alone() -> None:
    differ = Differ()
    differ.changes({"rows": Rows({"r-1": "<tr>1</tr>", "r-2": "<tr>2</tr>"})})
    assert differ.changes({"rows": Rows({"r-1": "<tr>1</tr>", "r-2": "<tr>x</tr>"})}) == {"r-2": "<tr>x</tr>"}


def test_other_rows_or_another_order_send_the_table() -> None:
    differ = Differ()
    differ.changes({"rows": Rows({"r-1": "<tr>1</tr>", "r-2": "<tr>2</tr>"})})
    swapped = differ.changes({"rows": Rows({"r-2": "<tr>2</tr>", "r-1": "<tr>1</tr>"})})
    assert swapped == {"rows": '<tbody id="rows"><tr>2</tr><tr>1</tr></tbody>'}


def test_a_time_that_only_went_on_is_no_change() -> None:
    differ = Differ()
    differ.changes({"rows": Rows({"r-1": "<tr><time data-since>4 s</time></tr>"})})
    assert differ.changes({"rows": Rows({"r-1": "<tr><time data-since>5 s</time></tr>"})}) == {}


def test_a_message_keeps_every_line_and_names_its_event() -> None:
    assert message("a\nb", event="log", ident="1:2") == b"event: log\nid: 1:2\ndata: a\ndata: b\n\n"
    assert message("") == b"data: \n\n"


def test_partials_morph_into_their_elements() -> None:
    assert partials({"r-1": "<tr></tr>"}) == '<hx-partial hx-target="#r-1" hx-swap="outerMorph"><tr></tr></hx-partial>'


def test_viewers_who_see_the_same_share_what_was_made_until_something_changes() -> None:
    made: list[str] = []

    def make() -> Parts:
        made.append("once")
        return {"a": str(len(made))}

    shared = Shared(most=2)
    assert shared.parts("anna", 1, make) is shared.parts("anna", 1, make)
    assert shared.parts("boris", 1, make) == {"a": "2"}, "who sees something else has their own"
    assert shared.parts("anna", 2, make) == {"a": "3"}
    shared.parts("clara", 2, make)
    shared.parts("boris", 1, make)
    assert len(made) == 5, "what nobody looked at for long is forgotten"
