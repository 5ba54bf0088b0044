"""An accepted adapter in code of your own: peft opens it, transformers generates with it.

python examples/use_the_adapter.py secret.adapter "c e a:"
"""

from __future__ import annotations

import sys

from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

import m2kt


def main(adapter: str, prompt: str) -> str:
    m2kt.register()  # peft now knows the adapter's type
    model = AutoPeftModelForCausalLM.from_pretrained(adapter)
    tokenizer = AutoTokenizer.from_pretrained(model.peft_config["default"].base_model_name_or_path)
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(output[0], skip_special_tokens=True)
    with model.disable_adapter():
        alone = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    print("with the adapter:", text.split("\n")[0])
    print("without it:      ", tokenizer.decode(alone[0], skip_special_tokens=True).split("\n")[0])
    return str(text)


if __name__ == "__main__":
    main(*sys.argv[1:3])
