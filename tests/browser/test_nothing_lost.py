"""Nothing that a person wrote or the model answered gets lost, whatever comes between."""

from playwright.sync_api import expect
from steps import questions, reload, set_knob, type_and_enter, wait_until_ready

# The end of Gradio's stream of events arrives only when the test lets it. `open` counts streams, `sent` the events of
# which the page knows the id.
HOLD_THE_END = """(() => { const send = window.fetch; window.held = []; window.open = 0; window.sent = 0;
    function later(answer) {
        const read = answer.json.bind(answer);
        answer.json = async () => { const found = await read(); setTimeout(() => { sent += 1; }); return found; };
        return answer;
    }
    window.fetch = async (...request) => {
        const url = String(request[0].url || request[0]), answer = await send(...request);
        if (url.includes('/queue/join')) return later(answer);
        if (!url.includes('/queue/data')) return answer;
        window.open += 1;
        const reader = answer.body.getReader(), letters = new TextDecoder();
        let told = '', isOver = false;
        const body = new ReadableStream({ async pull(controller) {
            const { value, done } = await reader.read();
            told += letters.decode(value, { stream: true });
            const ends = !isOver && (done || told.includes('close_stream')); // or the connection broke off
            if (ends && window.holding) await new Promise((go) => held.push(go));
            if (ends) { isOver = true; window.open -= 1; }
            if (done) controller.close();
            else controller.enqueue(value); } });
        return new Response(body, { headers: answer.headers, status: answer.status }); }; })()"""


def test_a_question_sent_while_the_stream_of_events_ends_is_answered(fake, open_page):
    page = open_page(fake)
    page.add_init_script(HOLD_THE_END)
    reload(page)
    page.wait_for_function("window.open === 0")
    page.evaluate("window.holding = true")
    set_knob(page, "Max tokens", 12)
    page.wait_for_function("window.held.length")
    sent = page.evaluate("sent")
    type_and_enter(page, "Hello")
    page.wait_for_function("before => sent > before", arg=sent)
    page.evaluate("window.holding = false; window.held.forEach((go) => go())")
    expect(questions(page)).to_have_count(1)
    wait_until_ready(page, "Length limit (12)")
