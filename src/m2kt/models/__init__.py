"""Any Hugging Face causal LM: resolve, load, record and modify hidden states, generate, tokenise.

Only the GGUF writer depends on model families: decoder blocks are found by structure, logits are from the model's head,
and the bytes of tokens from the tokenizer's vocabulary. Three calls matter:

    loaded = load_causal_lm("zoo:addition")                 # a directory, a Hub id, a zoo: or fetched name
    with record(loaded.model, [0, 3]) as states: ...        # hidden states, by hooks
    encoded = encode_units(loaded.tokenizer, ["3+4:", " 7", "\\n"], prompt_boundary=1)
"""

from m2kt._libraries import quieten as quieten

from ._chat import ChatFormat as ChatFormat
from ._chat import conversation_ids as conversation_ids
from ._chat import encode_chat as encode_chat
from ._chat import encode_prompt as encode_prompt
from ._chat import has_template as has_template
from ._digest import digest_of_model as digest_of_model
from ._digest import digest_of_tokenizer as digest_of_tokenizer
from ._end_tokens import end_tokens as end_tokens
from ._end_tokens import own_end_tokens as own_end_tokens
from ._ends import Ends as Ends
from ._ends import answer_ends as answer_ends
from ._ends import ends_among as ends_among
from ._examples import show as show
from ._fetch import Fetched as Fetched
from ._fetch import fetch as fetch
from ._fetch import list_models as list_models
from ._forward import attention_patterns as attention_patterns
from ._forward import forward_arguments as forward_arguments
from ._forward import make_head_input_contiguous as make_head_input_contiguous
from ._forward import next_token_logits as next_token_logits
from ._forward import pad_batch as pad_batch
from ._generate import Completion as Completion
from ._generate import generate_greedy as generate_greedy
from ._generate import logits_along as logits_along
from ._gguf import gguf_config_overrides as gguf_config_overrides
from ._gguf_write import write_gguf as write_gguf
from ._layers import UNLIMITED as UNLIMITED
from ._layers import BlockOutput as BlockOutput
from ._layers import blocks as blocks
from ._layers import cache_argument as cache_argument
from ._layers import context_length as context_length
from ._layers import decoder as decoder
from ._layers import hidden_of as hidden_of
from ._layers import linear_projections as linear_projections
from ._layers import width as width
from ._load import LoadedModel as LoadedModel
from ._load import load_causal_lm as load_causal_lm
from ._load import load_tokenizer as load_tokenizer
from ._load import register_architectures as register_architectures
from ._names import licence_of as licence_of
from ._names import list_zoo as list_zoo
from ._names import local_zoo_dir as local_zoo_dir
from ._names import resolve as resolve
from ._names import zoo_dir as zoo_dir
from ._precision import Dtype as Dtype
from ._precision import computes_bf16 as computes_bf16
from ._prefix import Prefix as Prefix
from ._prefix import common_prefix as common_prefix
from ._prefix import compute_prefix as compute_prefix
from ._prefix import shared_prefix as shared_prefix
from ._prefix import with_prefix as with_prefix
from ._record import Recording as Recording
from ._record import add_to_states as add_to_states
from ._record import record as record
from ._record import run_until as run_until
from ._record import states_at as states_at
from ._text import Encoded as Encoded
from ._text import can_write as can_write
from ._text import encode_units as encode_units
from ._text import end_token as end_token
from ._text import leading_space as leading_space
from ._text import natural_ids as natural_ids
from ._text import set_end_token as set_end_token
from ._text import special_names as special_names
from ._text import special_prefix as special_prefix
from ._text import text_of as text_of
from ._text import token_bytes as token_bytes
from ._text import token_spans as token_spans
from ._text import token_text as token_text
from ._text import tokens_bytes as tokens_bytes
from ._text import writing_problem as writing_problem
