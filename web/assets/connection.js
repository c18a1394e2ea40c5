// Gradio's events are sent by POST (queue/join) and answered in one stream (queue/data), which the server ends when
// the last of them is answered. An event that is sent while the word of that end is under way would wait for an answer
// that no stream brings, until the next event opens one: a question after a slider was moved, on a busy machine. So
// here the stream is opened again if it ends before all is answered.
(() => {
  const send = window.fetch;
  const unanswered = new Set(), early = new Set(); // ids of events; `early` ones were answered before their id was known
  let sending = 0;

  async function join(...request) {
    sending += 1;
    try {
      const answer = await send(...request);
      const { event_id } = answer.ok ? await answer.clone().json() : {};
      if (event_id && !early.delete(event_id)) unanswered.add(event_id);
      return answer;
    } finally { sending -= 1; }
  }

  // The messages of a stream, as texts that end in an empty line.
  async function* messages(answer) {
    let text = "";
    for (const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) yield `${part}\n\n`;
    }
  }

  // What the page has to do with a message.
  function isEnd(message) {
    if (!/"(process_completed|close_stream|unexpected_error)"/.test(message)) return false;
    const { msg, event_id } = JSON.parse(message.slice("data:".length));
    if (msg === "process_completed" && !unanswered.delete(event_id)) early.add(event_id);
    if (msg === "unexpected_error") unanswered.clear();
    return msg === "close_stream";
  }

  async function* answers(request, answer) {
    for (;;) {
      let ended = false;
      for await (const message of messages(answer)) {
        ended = isEnd(message) && Boolean(sending || unanswered.size);
        if (!ended) yield message;
      }
      if (!ended) return;
      answer = await send(request);
    }
  }

  async function open(request) {
    const answer = await send(request);
    if (!answer.ok) return answer;
    const coming = answers(request, answer), bytes = new TextEncoder();
    const body = new ReadableStream({
      async pull(controller) {
        try {
          const { value, done } = await coming.next();
          if (done) controller.close();
          else controller.enqueue(bytes.encode(value));
        } catch (problem) { // the server is gone
          unanswered.clear();
          if (problem.name !== "AbortError") Glass.chat?.lost(); // Gradio says so only when the server is there again
          controller.error(problem);
        }
      },
    });
    return new Response(body, { headers: answer.headers, status: answer.status });
  }

  window.fetch = (...request) => {
    const path = new URL(request[0].url || request[0], location.href).pathname;
    if (path.endsWith("/queue/join")) return join(...request);
    return path.endsWith("/queue/data") ? open(new Request(...request)) : send(...request);
  };
})();
