"""PyPI's openai against two servers: openai_client.py REAL_URL MODEL SCRIPTED_URL (see servers.ts)."""

import sys
from typing import Literal

import openai
import pydantic

real_url, name, scripted_url = sys.argv[1:]
client = openai.OpenAI(base_url=f"{real_url}/v1", api_key="none", max_retries=0)
caller = openai.OpenAI(base_url=f"{scripted_url}/v1", api_key="none", max_retries=0)
messages = [{"role": "user", "content": "What is the weather in Rome?"}]
short = {"model": name, "messages": messages, "max_tokens": 24, "temperature": 0}


class weather(pydantic.BaseModel):
    city: str


tools = [openai.pydantic_function_tool(weather)]

# Chat, whole and streamed. The helper takes an answer that its length has cut off for an error: a stop ends this one.
whole = client.chat.completions.create(**short)
stopped = {**short, "stop": whole.choices[0].message.content[12:18]}
text = client.chat.completions.create(**stopped).choices[0].message.content
assert text and len(text) < len(whole.choices[0].message.content)
with client.chat.completions.stream(**stopped, stream_options={"include_usage": True}) as stream:
    final = stream.get_final_completion()
assert final.choices[0].message.content == text
assert final.usage.completion_tokens < whole.usage.completion_tokens == 24

# Completions.
completion = client.completions.create(model=name, prompt=["Once", "One day"], max_tokens=4, logprobs=2, echo=True)
assert [choice.text[:3] for choice in completion.choices] == ["Onc", "One"]

# Calls: parsed, then streamed, then answered.
parsed = caller.chat.completions.parse(model="scripted", messages=messages, tools=tools)
(call,) = parsed.choices[0].message.tool_calls
assert call.function.parsed_arguments == weather(city="Rome")
with caller.chat.completions.stream(model="scripted", messages=messages, tools=tools) as stream:
    deltas = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
    final = stream.get_final_completion()
assert "".join(deltas) == '{"city": "Rome"}' and len(deltas) > 2
assert final.choices[0].message.tool_calls[0].function.parsed_arguments == weather(city="Rome")
turns = [
    *messages,
    parsed.choices[0].message.model_dump(exclude_none=True),
    {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
]
answer = caller.chat.completions.create(model="scripted", messages=turns, tools=tools)
assert answer.choices[0].message.content == "Sunny in Rome, 21 degrees."
assert answer.choices[0].message.reasoning_content == "It is 21 degrees."

# What a schema asks for.


class Animal(pydantic.BaseModel):
    kind: Literal["fox", "bear"]
    age: Literal[1, 2, 3]


animal = client.chat.completions.parse(model=name, messages=messages, response_format=Animal)
assert isinstance(animal.choices[0].message.parsed, Animal)
choice = {"type": "function", "function": {"name": "Animal"}}
called = client.chat.completions.parse(
    model=name, messages=messages, tools=[openai.pydantic_function_tool(Animal)], tool_choice=choice
)
assert isinstance(called.choices[0].message.tool_calls[0].function.parsed_arguments, Animal)

# Responses.
response = client.responses.create(model=name, input="Tell me a story", max_output_tokens=24, temperature=0)
assert response.output_text and response.usage.output_tokens == 24
assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
more = client.responses.create(model=name, input="Go on", previous_response_id=response.id, max_output_tokens=4)
assert more.usage.input_tokens > response.usage.total_tokens
function = {"type": "function", "name": "weather", "parameters": weather.model_json_schema(), "strict": False}
response = caller.responses.create(model="scripted", input=messages, tools=[function])
assert response.output[-1].arguments == '{"city": "Rome"}'
with caller.responses.stream(model="scripted", input=messages, tools=[function]) as stream:
    final = stream.get_final_response()
assert final.output_text == "I will look." and final.output[-1].arguments == '{"city": "Rome"}'

# Errors have the classes that their statuses stand for.
for error, body in [(openai.NotFoundError, {"model": "gpt-4"}), (openai.BadRequestError, {"n": 1000})]:
    try:
        client.chat.completions.create(**{**short, **body})
        raise AssertionError(f"{body} was taken")
    except error as caught:
        assert caught.request_id

print("all passed")
