"""Nothing that a person wrote or the model answered gets lost, whatever comes between."""

from playwright.sync_api import expect
from steps import questions, reload, set_knob, type_and_enter, wait_until_ready

# The end of Gradio's stream of events arrives only when the test lets it.
HOLD_THE_END = """(() => { const send = window.fetch; window.held = [];
    window.fetch = async (...request) => {
        const answer = await send(...request);
        if (!String(request[0].url || request[0]).includes('/queue/data')) return answer;
        const reader = answer.body.getReader(), letters = new TextDecoder();
        const body = new ReadableStream({ async pull(controller) {
            const { value, done } = await reader.read();
            if (done) { controller.close(); return; }
            const isEnd = letters.decode(value).includes('close_stream');
            if (window.holding && isEnd) await new Promise((go) => held.push(go));
            controller.enqueue(value); } });
        return new Response(body, { headers: answer.headers, status: answer.status }); }; })()"""


def test_a_question_sent_while_the_stream_of_events_ends_is_answered(page):
    page.add_init_script(HOLD_THE_END)
    reload(page)
    expect(page.locator("#status")).to_contain_text("Ready")
    page.evaluate("window.holding = true")
    set_knob(page, "Max tokens", 12)
    page.wait_for_function("window.held.length")
    with page.expect_response("**/queue/join*"):
        type_and_enter(page, "Hello")
    page.evaluate("window.holding = false; window.held.forEach((go) => go())")
    expect(questions(page)).to_have_count(1)
    wait_until_ready(page, "reached the limit of 12 tokens")
