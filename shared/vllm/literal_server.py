"""vLLM's server, with tokenizers that read text from outside literally (shared/literal.py).

``python literal_server.py MODULE ARGUMENTS…`` runs ``MODULE`` as ``python -m`` does. It is run by its path, because the
interpreter that has vLLM need not know this package. vLLM applies the chat template and the processor in its own
process, so the services send it text with escapes (shared/escapes.py), and its tokenizers put the characters back.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])
# As with ``python -m``: run by its path, Python would look for modules beside this file instead.
sys.path[0] = str(Path.cwd())
if ROOT not in sys.path:
    sys.path.insert(1, ROOT)

from transformers import PreTrainedTokenizerBase  # noqa: E402

from shared.literal import escapes_of  # noqa: E402


def teach_tokenizers() -> None:
    """From now on, every tokenizer that is loaded puts escapes back."""
    base: Any = PreTrainedTokenizerBase
    plain = base.from_pretrained.__func__

    def from_pretrained(kind: Any, *arguments: Any, **options: Any) -> Any:
        tokenizer = plain(kind, *arguments, **options)
        escapes_of(tokenizer)
        return tokenizer

    base.from_pretrained = classmethod(from_pretrained)


def main() -> None:
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")


# At import as well: vLLM's own processes import this file before they begin.
teach_tokenizers()

if __name__ == "__main__":
    main()
