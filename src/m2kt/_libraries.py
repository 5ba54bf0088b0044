"""Settings of the libraries around us, for every process that is ours: the command and the bench's workers."""

from __future__ import annotations

import os
import warnings


def quieten() -> None:
    """Less talk on stderr; a user's own settings win."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft reads an attribute that transformers has since renamed: nothing that a user could do about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
