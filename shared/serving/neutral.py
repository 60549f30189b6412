"""Chat parameters of OpenAI's clients and of vLLM that we do not honour, and the values of them that change nothing.

Clients send these parameters at their neutral value because their libraries fill them in. Such a value is accepted. Any
other value would change the answer somewhere else, so it is refused by name and never ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Neutral:
    """``values`` change nothing, and neither does ``null``. ``hint``: no value changes the answer.

    ``engine_reads``: an engine that knows the parameter gets it, because the model's own default may differ.
    """

    values: tuple[Any, ...] = ()
    hint: bool = False
    engine_reads: bool = False

    def accepts(self, value: Any) -> bool:
        return self.hint or value is None or any(_equal(value, neutral) for neutral in self.values)

    @property
    def words(self) -> str:
        """What is accepted, as it is written in JSON."""
        return "any value" if self.hint else " or ".join(map(json.dumps, (*self.values, None)))


_HINT = Neutral(hint=True)
_NULL = Neutral()
_FALSE = Neutral((False,))
_TRUE = Neutral((True,))
_EMPTY_LIST = Neutral(([],))
_EMPTY_OBJECT = Neutral(({},))
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

OPENAI: Mapping[str, Neutral] = {
    "audio": _NULL,
    "best_of": Neutral((1,)),
    "frequency_penalty": Neutral((0,), engine_reads=True),
    "function_call": Neutral(("none", "auto")),
    "functions": _EMPTY_LIST,
    "logit_bias": _EMPTY_OBJECT,
    "metadata": _HINT,
    "modalities": Neutral((["text"],)),
    "moderation": _NULL,
    "parallel_tool_calls": Neutral((True, False)),
    "prediction": _NULL,
    "presence_penalty": Neutral((0,), engine_reads=True),
    "prompt_cache_key": _HINT,
    "prompt_cache_options": _HINT,
    "prompt_cache_retention": _HINT,
    "reasoning_effort": Neutral(_EFFORTS, engine_reads=True),
    "safety_identifier": _HINT,
    "service_tier": Neutral(("auto", "default")),
    "store": _FALSE,
    "tool_choice": Neutral(("none", "auto")),
    "tools": _EMPTY_LIST,
    "verbosity": Neutral(("medium",)),
    "web_search_options": _NULL,
}
VLLM: Mapping[str, Neutral] = {
    "add_generation_prompt": _TRUE,
    "add_special_tokens": _FALSE,
    "allowed_token_ids": _NULL,
    "bad_words": _EMPTY_LIST,
    "cache_salt": _NULL,
    "chat_template": _NULL,
    "chat_template_kwargs": _EMPTY_OBJECT,
    "continue_final_message": _FALSE,
    "documents": _EMPTY_LIST,
    "early_stopping": _FALSE,
    "echo": _FALSE,
    "guided_choice": _NULL,
    "guided_decoding_backend": _NULL,
    "guided_grammar": _NULL,
    "guided_json": _NULL,
    "guided_regex": _NULL,
    "guided_whitespace_pattern": _NULL,
    "ignore_eos": _FALSE,
    "include_reasoning": _TRUE,
    "include_stop_str_in_output": _FALSE,
    "kv_transfer_params": _NULL,
    "length_penalty": Neutral((1,)),
    "logits_processors": _EMPTY_LIST,
    "min_p": Neutral((0,), engine_reads=True),
    "min_tokens": Neutral((0,)),
    "mm_processor_kwargs": _EMPTY_OBJECT,
    "priority": Neutral((0,)),
    "prompt_logprobs": _NULL,
    "repetition_penalty": Neutral((1,), engine_reads=True),
    "request_id": _HINT,
    "return_token_ids": _FALSE,
    "return_tokens_as_token_ids": _FALSE,
    "session_id": _HINT,
    "skip_special_tokens": _TRUE,
    "spaces_between_special_tokens": _TRUE,
    "stop_token_ids": _EMPTY_LIST,
    "structured_outputs": _NULL,
    "suffix": Neutral(("",)),
    "thinking_token_budget": _NULL,
    "top_k": Neutral((-1, 0), engine_reads=True),
    "truncate_prompt_tokens": _NULL,
    "typical_p": Neutral((1,)),
    "use_beam_search": _FALSE,
    "vllm_xargs": _EMPTY_OBJECT,
}
NEUTRAL: Mapping[str, Neutral] = {**OPENAI, **VLLM}


def _equal(value: Any, neutral: Any) -> bool:
    """As JSON sees it: 0 equals 0.0, and ``false`` is not a number."""
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)
