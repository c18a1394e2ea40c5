"""Chat templates that write what the published ones write, with the same features of Jinja. Formats: the models' cards
and the `tokenizer_config.json` of each repository on the Hub."""

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must take turns: user, assistant, user, …') }}{% endif %}"
)
SPLIT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}"
)
LLAMA_3_TURN = (
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>'"
)
LLAMA_3_PROMPT = "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
LLAMA_3_DATED = (
    "{{- bos_token }}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system = messages[0]['content'] | trim %}\n"
    "    {%- set messages = messages[1:] %}\n"
    "{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n"
    "{%- if tools is not none %}\n    {{- 'Environment: ipython\\n' }}\n{%- endif %}\n"
    "{{- 'Cutting Knowledge Date: December 2023\\n' }}\n"
    "{{- 'Today Date: ' + date_string + '\\n\\n' }}\n"
    "{{- system }}\n{{- '<|eot_id|>' }}\n"
    "{%- for message in messages %}\n"
    "    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}\n"
    "        {{- " + LLAMA_3_TURN.replace("\n", "\\n") + " }}\n"
    "    {%- endif %}\n{%- endfor %}\n" + LLAMA_3_PROMPT.replace("\n", "\\n")
)

TEMPLATES = {
    "Llama 2": SPLIT_SYSTEM
    + "{% for message in turns %}"
    + ALTERNATE
    + (
        "{% if loop.first and system != false %}"
        "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "Llama 3": (
        "{% for message in messages %}{% set turn = " + LLAMA_3_TURN + " %}"
        "{% if loop.index0 == 0 %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}" + LLAMA_3_PROMPT
    ),
    "Llama 3.1": "{%- set date_string = '26 Jul 2024' %}" + LLAMA_3_DATED,
    "Llama 3.2": (
        "{%- if strftime_now is defined %}\n    {%- set date_string = strftime_now('%d %b %Y') %}\n"
        "{%- else %}\n    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n" + LLAMA_3_DATED
    ),
    "TinyLlama": (
        "{% for message in messages %}\n{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "SmolLM2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Mistral": SPLIT_SYSTEM
    + (
        "{%- set users = turns | selectattr('role', 'equalto', 'user') | list %}{%- set ns = namespace(index=0) %}"
        "{{- bos_token }}{%- for message in turns %}"
        + ALTERNATE
        + (
            "{%- if message['role'] == 'user' %}"
            "{%- if system != false and loop.last %}{{- '[INST] ' + system + '\n\n' + message['content'] + '[/INST]' }}"
            "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
            "{%- else %}{{- ' ' + message['content'] | trim + eos_token }}{%- endif %}"
            "{%- set ns.index = ns.index + 1 %}{%- endfor %}"
        )
    ),
    "DeepSeek R1": (
        "{{ bos_token }}{% for message in messages %}{% set content = message['content'] %}"
        "{% if message['role'] == 'assistant' %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + content + eos_token }}"
        "{% elif message['role'] == 'user' %}{{ '<|User|>' + content }}{% else %}{{ content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
    ),
    "every trick": (
        "{% macro tag(name) %}{{ '<|' ~ name ~ '|>' }}{% endmacro %}"
        "{%- for message in messages %}{% if message.content == 'skip' %}{% continue %}{% endif %}"
        "{{ message | tojson }}{{ {'a': [1, 'é<']} | tojson(indent=2) }}{{ tag(message.role) }}"
        "{% generation %}{{ message.content | upper }}{% endgeneration %}{% if loop.index > 3 %}{% break %}{% endif %}"
        "{% endfor %}{{ strftime_now('%Y') }}{{ tools is none }}{{ documents is none }}{{ undefined_name }}"
    ),
}
MARKERS = {
    "Llama 2": ["<s>", "</s>"],
    "TinyLlama": ["<s>", "</s>"],
    "Mistral": ["<s>", "</s>", "[INST]", "[/INST]"],
    "SmolLM2": ["<|im_start|>", "<|im_end|>"],
    "DeepSeek R1": ["<s>", "</s>", "<|User|>", "<|Assistant|>", "<think>", "</think>"],
}
LLAMA_3_MARKERS = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]


def markers_of(name):
    """Begin token, end token and the other special ones of the model that this template is for."""
    return MARKERS.get(name, LLAMA_3_MARKERS)
