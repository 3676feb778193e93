"""Serve a model and ask it with the official OpenAI client.

pip install 'dynexit[serve]' openai
python examples/serve_and_call.py
"""

import subprocess
import sys

from openai import OpenAI

MODEL = "reference:mistral"


def main() -> None:
    command = [sys.executable, "-m", "dynexit", "serve", MODEL, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()  # "reference:mistral at http://127.0.0.1:41233, judge ..."
        address = line.split(" at ")[1].split(",")[0]
        ask(OpenAI(base_url=f"{address}/v1", api_key="none"))
    finally:
        server.terminate()
        server.wait()


def ask(client: OpenAI) -> None:
    question = {"role": "user", "content": "What is the capital of France?"}
    answer = client.chat.completions.create(model=MODEL, messages=[question])
    print(answer.choices[0].message.content.strip(), answer.dynexit["exit_layers"])

    # how deep tokens go can be said with every request: a threshold, or a certified risk
    prompt = "Question: Is Sydney the capital of Australia?\nAnswer:"
    stream = client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=32, stream=True, extra_body={"risk": 0.05}
    )
    for chunk in stream:
        if "exit_layer" in chunk.dynexit:
            print(f"{chunk.choices[0].text!r:>14} left after layer {chunk.dynexit['exit_layer']}")
        else:
            print(f"{chunk.dynexit['layer_saving']:.0%} of the layers saved")


if __name__ == "__main__":
    main()
