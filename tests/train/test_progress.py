"""What a person sees of a run."""

import io

from rich.console import Console

from llmkit.train.progress import Screen, printable


def row(step: int) -> dict[str, float]:
    return {"step": step, "loss": 2.5, "tokens_per_second": 1234.5, "mfu": 0.456, "learning_rate": 1e-3, "seconds": 2.0}


def told(total: int, *, terminal: bool) -> str:
    stream = io.StringIO()
    with Screen(Console(file=stream, force_terminal=terminal, width=100)) as screen:
        for step in range(1, total + 1):
            screen.step(row(step), total)
    return stream.getvalue()


def test_where_there_is_no_terminal_a_long_run_is_told_in_about_twenty_plain_lines_with_the_time_left():
    lines = told(1000, terminal=False).splitlines()
    assert len(lines) == 20
    assert lines[0] == "step 50/1000  loss 2.500  1,234 tokens/s  46% MFU  lr 1.00e-03  31:40 left"
    assert lines[-1].startswith("step 1000/1000") and lines[-1].endswith("0:00 left")
    assert "\x1b" not in "".join(lines)


def test_a_terminal_shows_a_bar_and_gets_its_cursor_back():
    shown = told(3, terminal=True)
    assert "loss 2.500" in shown and "3/3" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("3/3")


def test_a_stage_of_the_data_is_told_once():
    stream = io.StringIO()
    with Screen(Console(file=stream)) as screen:
        for done in range(3):
            screen.preparing("encoding", done, None)
    assert stream.getvalue() == "preparing data: encoding\n"


def test_a_models_text_cannot_command_a_terminal():
    assert printable("a\x1b[2Jb\x07\nc\x9bd\té") == "a[2Jb\ncd\té"
