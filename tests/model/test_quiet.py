"""Other libraries draw no bars while a model is loaded, and have them back afterwards."""

from transformers import modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging

from neurodial.model.quiet import quiet_bars


def test_bars_are_off_inside_and_back_afterwards(capsys, monkeypatch):
    logging.enable_progress_bar()
    before = gguf_reader.tqdm
    with quiet_bars():
        assert list(gguf_reader.tqdm([1, 2], desc="Converting")) == [1, 2]
        assert list(logging.tqdm([1, 2], desc="Loading")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert gguf_reader.tqdm is before
    assert logging.is_progress_bar_enabled()
    monkeypatch.setenv("NEURODIAL_VERBOSE", "1")
    with quiet_bars():
        assert list(gguf_reader.tqdm([1, 2], desc="Converting")) == [1, 2]
    assert "Converting" in capsys.readouterr().err


def test_bars_that_were_off_stay_off():
    logging.disable_progress_bar()
    with quiet_bars():
        pass
    assert not logging.is_progress_bar_enabled()
