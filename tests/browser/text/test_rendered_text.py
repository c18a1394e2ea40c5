"""A reply as one view: rendered Markdown, cut into tokens."""

from playwright.sync_api import expect
from readings import READ, WALK

MARKDOWN = """# Head *one*

One **two** `three` &amp; \\*four\\* [link](https://x.example/z) ~~gone~~ $a^2$, costs $5 and $10 \\(x_1\\) 😀
second line
שלום עולם mixed

- [x] done
- loose **4** `a`
  1. nested

> quoted
> goes on

| x | y |
|--|--|
| 1 | **2** |

```python
def f(x):
    return "hi"  # <b>
```

\\[
\\frac{1}{3}
\\]

<b onclick="alert(1)">raw</b> ![picture](https://evil.example/c.png)

The end."""

# A chat of one reply, of tokens of up to three letters; the emoji is two tokens, of which the first has no text.
SHOW = """([source, live]) => {
    const shares = [.95, .7, .4, .2, .05, .01], others = [[1, ' the', .5, .5]];
    const tokens = source.match(/[^]{1,3}/gu).map((text, i) => [i, text, shares[i % 6], .5, others]);
    const at = tokens.findIndex(([, text]) => text.includes('😀'));
    if (at > 0) tokens.splice(at, 0, [1, '', .5, .5, others]);
    const nodes = [{role: 'user', parent: -1, words: 'q'},
        {role: 'assistant', parent: 0, tokens, marks: [], finish: live ? '' : 'length', live, model: 'fake'}];
    Glass.chat.show(Glass.Tree.from({format: 'glass-llama/1', id: 'made', revision: 1, system: '', told_from: null,
        selected: {'-1': 0, '0': 1}, nodes}));
    if (live) Glass.chat.chat.nodes[1].live = true;
    return tokens.length; }"""


# More of a reply that is being written.
GROW = """(text) => { const node = Glass.chat.chat.nodes[1];
    node.tokens.push(...text.match(/[^]{1,3}/g).map((it, i) => [i, it, .5, .5, []]));
    Glass.chat.grow({number: 1, node}); }"""


def show(page, source, live=False):
    page.wait_for_function("window.VendoredMarkdown")
    return page.evaluate(SHOW, [source, live])


def test_a_reply_is_rendered_every_token_is_there_and_colours_are_a_setting(page):
    count = show(page, MARKDOWN)
    body = page.locator(".assistant .body")
    expect(body.locator("math")).to_have_count(3)  # what draws formulas comes when the first one does
    expect(body.locator(".code i").first).to_be_visible()  # and what colours code
    of_spans, rendered, indices = page.evaluate(READ)
    assert of_spans == rendered and "costs $5 and $10" in rendered and "& *four*" in rendered
    assert indices == sorted(indices) and set(indices) == set(range(count))
    found = [body.locator(it).count() for it in ("strong", "em", "del", "li", "td", "blockquote", ".heading", "pre")]
    assert found == [3, 1, 1, 3, 2, 1, 1, 1]

    # What the model writes leads nowhere.
    assert body.locator("a, img, script, b, input, [onclick]").count() == 0
    expect(body).to_contain_text('<b onclick="alert(1)">raw</b> ![picture](https://evil.example/c.png)')
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    body.get_by_role("button", name="Copy this code").click()
    page.wait_for_function("""copied === 'def f(x):\\n    return "hi"  # <b>'""")
    body.get_by_role("button", name="Copy the address").click()
    page.wait_for_function("copied === 'https://x.example/z'")

    # The keys walk through all tokens, also those of which nothing is seen.
    walked = page.evaluate(WALK, count)
    assert walked == list(range(count))

    # Each line has its own direction.
    sides = page.evaluate("""() => { const line = document.querySelectorAll('.assistant p.lines')[1];
        const box = line.getBoundingClientRect(), walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
        const found = {}, range = document.createRange();
        while (walker.nextNode()) for (const letter of 'Oש') { const at = walker.currentNode.data.indexOf(letter);
            if (at < 0 || found[letter]) continue;
            range.setStart(walker.currentNode, at); range.setEnd(walker.currentNode, at + 1);
            found[letter] = range.getBoundingClientRect(); }
        return [found['O'].left - box.left < 3, box.right - found['ש'].right < 3]; }""")
    assert sides == [True, True]
    colours_are_a_setting(page)


def colours_are_a_setting(page):
    show(page, "sure, likely, unsure words of a reply")
    back = "(i) => getComputedStyle(document.querySelectorAll('.assistant .tok')[i]).backgroundColor"
    clear, seen = "rgba(0, 0, 0, 0)", {}
    box = page.get_by_label("Colours")
    expect(box).to_have_value("unsure")
    for choice in ("unsure", "all", "off"):
        box.select_option(choice)
        seen[choice] = [page.evaluate(back, place) != clear for place in (1, 2, 5)]
    assert seen == {"unsure": [False, True, True], "all": [True, True, True], "off": [False, False, False]}
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("off")


def test_earlier_blocks_stay_while_a_reply_is_written(fake, open_page):
    page = open_page(fake)
    show(page, "First *block*.\n\n<think>\n\n1. one\n\n2", live=True)
    page.evaluate("""() => { window.first = document.querySelector('.assistant .body p');
        getSelection().selectAllChildren(first); }""")
    page.evaluate(GROW, ". two\n\n```python\nx = 1\n")
    expect(page.locator(".assistant ol li")).to_have_count(2)  # "2" became an item of the list
    page.evaluate("window.list = document.querySelector('.assistant ol')")
    page.evaluate(GROW, "y = 2\n```\n\nAnd the end")
    page.evaluate("() => { Glass.chat.chat.nodes[1].live = false; Glass.chat.redraw(1); }")
    assert page.evaluate("first.isConnected && list.isConnected && String(getSelection()) === 'First block.'")
    of_spans, rendered, indices = page.evaluate(READ)
    assert of_spans == rendered and indices == sorted(indices)

    show(page, "<think>\nHmm, **so**.\n</think>\n\nThe answer.")
    thought = page.locator(".assistant details")
    expect(thought.locator("strong")).to_be_hidden()
    thought.locator("summary").click()
    expect(thought.locator("strong")).to_have_text("so")
    expect(page.locator(".assistant .body > p")).to_have_text("The answer.")


CALL = '{"name": "weather", "arguments": {"city": "<b onclick=1>Rome</b> *is* \\"}{", "days": 2}}'
OTHER = '{"arguments": {}, "name": "clock"}'
# What models of four families write, and the calls and the words in it.
WRITTEN = [
    (CALL.replace("arguments", "parameters") + "; " + CALL.replace("arguments", "parameters"), ["weather"] * 2, ""),
    (
        f"Let *me* see.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{OTHER}</tool_call>\nDone.",
        ["weather", "clock"],
        "Let me see. Done.",
    ),
    (f"[TOOL_CALLS] [{CALL}, {CALL}]", ["weather"] * 2, ""),
    ('{"a": 1} is JSON, and <tool_call> a tag.', [], '{"a": 1} is JSON, and <tool_call> a tag.'),
    (f"```\n<tool_call>\n{CALL}\n</tool_call>\n```\nThat is a call.", [], "That is a call."),
]


def test_a_call_of_a_tool_is_a_folded_block_of_text(fake, open_page):
    page = open_page(fake, 390, 844, "dark")
    body, folds = page.locator(".assistant .body"), page.locator(".assistant details.call")
    for written, names, words in WRITTEN:
        count = show(page, written)
        expect(folds.locator("summary")).to_have_text([f"Call of {name}" for name in names])
        assert " ".join(body.locator("> p").all_inner_texts()).strip() == words
        for fold in folds.all():
            expect(fold.locator("pre")).to_be_hidden()
        if names:
            folds.last.locator("summary").press("Enter")
            expect(folds.last.locator("pre")).to_be_visible()
            assert folds.last.locator("pre").inner_text() in written
            folds.first.evaluate("(fold) => { fold.open = true; }")
        assert page.evaluate(WALK, count) == list(range(count))
        assert body.locator("b, em:text('is'), [onclick]").count() == 0
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert folds.evaluate_all("(all) => all.every((fold) => fold.scrollWidth <= fold.clientWidth)")  # it wraps

    # While it is written: words, until they can only be a call.
    show(page, '{"name": "wea', live=True)
    expect(body.locator("> p")).to_have_text('{"name": "wea')
    page.evaluate(GROW, 'ther", "parameters": {"ci')
    expect(folds.locator("summary")).to_have_text("Call of weather")
    page.evaluate(GROW, 'ty": "Rome"}}')
    expect(folds.locator("pre")).to_have_text('{"name": "weather", "parameters": {"city": "Rome"}}')
    expect(body.locator("> p")).to_have_count(0)
