// What the page asks of the server: which model it serves, and completions as they come.

/** A refusal or failure, in the server's own words. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The model's card: its id and, where the server tells, {layers, judge, threshold, exits}. */
export async function model(key) {
  const answer = await fetch("v1/models", { headers: heads(key) });
  if (!answer.ok) throw await problem(answer);
  const [card] = (await answer.json()).data;
  return card;
}

/** Chunks of a completion. `body` is the request without `stream`. */
export async function* complete(body, key, signal) {
  const answer = await fetch("v1/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...heads(key) },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!answer.ok) throw await problem(answer);
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Problem(chunk.error.message);
    yield chunk;
  }
}

function heads(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function problem(answer) {
  let message = `the server answered ${answer.status}`;
  try {
    message = (await answer.json()).error.message;
  } catch {
    // no JSON: the status has to do
  }
  return new Problem(message, answer.status);
}

/** The `data` of server-sent events, wherever the network cuts them. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
