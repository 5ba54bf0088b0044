"""Settings of transformers, tokenizers and peft for every process of m2kt: the command and the bench's workers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def quieten() -> None:
    """Reduce the output of libraries on stderr; the user's environment variables win."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft reads an attribute that transformers has renamed: no user can change that
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Switch off transformers' progress bars and advice; we report problems as errors."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
