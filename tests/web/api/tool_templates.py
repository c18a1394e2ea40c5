"""Short chat templates that show tools and calls in the forms that the makers of four families publish."""

import dataclasses
from contextlib import contextmanager

from llama_core.tokenizer.chat_template import Chat

# meta-llama/Llama-3.1-8B-Instruct, chat_template: how it asks for calls, shows them, and takes answers as "ipython".
LLAMA = """{{- bos_token }}{%- for message in messages %}
{{- '<|start_header_id|>' + ('ipython' if message.role == 'tool' else message.role) + '<|end_header_id|>' }}
{%- if loop.first and tools %}{{- 'Respond in the format {"name": function name, "parameters": dictionary}. ' }}
{%- for t in tools %}{{- t | tojson }}{%- endfor %}{%- endif %}
{%- if message.tool_calls is defined %}{%- set call = message.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}' }}
{%- elif message.role == 'tool' %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
{{- '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>' }}{%- endif %}"""

# NousResearch/Hermes-3-Llama-3.1-8B (tool_use) and Qwen/Qwen2.5-7B-Instruct, whose chat templates share this form.
HERMES = """{{- bos_token }}{%- if tools %}{{- '<|start_header_id|>system<|end_header_id|><tools>' }}
{%- for t in tools %}{{- t | tojson }}{%- endfor %}
{{- '</tools> For each call return <tool_call> {"name": n, "arguments": a} </tool_call><|eot_id|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|start_header_id|>' + ('user' if message.role == 'tool' else message.role) + '<|end_header_id|>' }}
{%- if message.role == 'tool' %}{{- '<tool_response>' + message.content + '</tool_response>' }}
{%- else %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}{%- set call = call.function %}
{{- '<tool_call>{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}</tool_call>' }}
{%- endfor %}{{- '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>' }}{%- endif %}"""

# mistralai/Mistral-7B-Instruct-v0.3, chat_template: ids of nine characters, one list of calls.
MISTRAL = """{{- bos_token }}{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if loop.last and tools %}{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{{- '[INST] ' + message.content + '[/INST]' }}
{%- elif message.tool_calls is defined %}{{- '[TOOL_CALLS] [' }}{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{- raise_exception('Tool call IDs should have length 9!') }}{%- endif %}
{{- call.function | tojson }}{%- endfor %}{{- ']' + eos_token }}
{%- elif message.role == 'tool' %}{{- '[TOOL_RESULTS] ' + (message.content | tojson) + '[/TOOL_RESULTS]' }}
{%- else %}{{- ' ' + message.content + eos_token }}{%- endif %}{%- endfor %}"""

TEMPLATES = {"llama": LLAMA, "hermes": HERMES, "mistral": MISTRAL}


@contextmanager
def template_of(family, manager):
    """Meanwhile what is served has the template of this family."""
    served = manager.served
    model = dataclasses.replace(served.model, chat=Chat(served.model.tokenizer, TEMPLATES[family]))
    manager._served = dataclasses.replace(served, model=model)
    yield
    manager._served = served
