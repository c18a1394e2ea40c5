"""The examples of the CommonMark specification 0.31 (CC BY-SA 4.0, John MacFarlane), drawn by the page, against its own
HTML. In `commonmark-0.31.json`: section, source, HTML."""

import json
import re
from collections import Counter
from pathlib import Path

EXAMPLES = json.loads((Path(__file__).parent / "commonmark-0.31.json").read_text(encoding="utf-8"))

# What the page refuses on purpose: HTML and pictures stay the text that they are. The sections about them.
REFUSED = {"HTML blocks", "Raw HTML", "Images"}
# Elsewhere in the specification a few examples have HTML or a picture in them as well; no more than these.
REFUSED_ELSEWHERE = 40

DRAWN = r"""(examples) => {
    const refuses = (node) => ['html', 'image', 'imageReference'].includes(node.type) ||
        (node.children || []).some(refuses);
    const rename = (old, tag) => { const made = document.createElement(tag);
        made.append(...old.childNodes); old.replaceWith(made); };
    // Both sides without what only one of them can have: names for styles, classes, addresses, space between blocks.
    const ours = (home) => {
        home.querySelectorAll('.bar, .address, .box').forEach((it) => it.remove());
        home.querySelectorAll('[role=heading]').forEach((it) => rename(it, 'h' + it.dataset.depth));
        home.querySelectorAll('.link, .table, div.code, li > span.lines').forEach((it) =>
             it.replaceWith(...it.childNodes));
        return plain(home); };
    const theirs = (html) => { const home = document.createElement('div');
        home.append(...new DOMParser().parseFromString(html, 'text/html').body.childNodes);
        home.querySelectorAll('a').forEach((it) => it.replaceWith(...it.childNodes));
        return plain(home); };
    const plain = (home) => {
        home.querySelectorAll('*').forEach((it) => [...it.attributes].forEach(({ name }) => {
            if (name !== 'start') it.removeAttribute(name); }));
        home.normalize();
        home.querySelectorAll('pre code').forEach((it) => { it.textContent =
            it.textContent.replace(/\n$/, '').replace(/\n/g, '\u2028').replace(/ /g, '\u2029'); });
        return home.innerHTML.replace(/<br>\s*/g, '<br>').
            replace(/\s*(<\/?(p|li|ul|ol|blockquote|h\d|pre|hr)( start="\d+")?>)\s*/g, '$1').
            trim(); };
    return examples.map(([section, source, html]) => {
        const home = document.createElement('div');
        const view = new Glass.View(home, 1, { words: source }, { hover() {}, show() {} });
        const live = home.querySelectorAll('script, iframe, img, a, input, form, [onclick]').length;
        return { section, source, live, refused: refuses(VendoredMarkdown.parse(source)),
            made: ours(home), wanted: theirs(html) }; });
}"""


def test_the_examples_of_the_specification(fake, open_page):
    page = open_page(fake)
    page.wait_for_function("window.VendoredMarkdown")
    drawn = page.evaluate(DRAWN, EXAMPLES)
    assert len(drawn) > 600 and not any(example["live"] for example in drawn)

    refused = Counter(example["section"] for example in drawn if example["refused"])
    assert sum(count for section, count in refused.items() if section not in REFUSED) <= REFUSED_ELSEWHERE
    compared = [example for example in drawn if not example["refused"]]
    other = [example for example in compared if example["made"] != example["wanted"]]
    told = "\n".join(f"{it['section']}: {it['source']!r}\n  {it['made']}\n  {it['wanted']}" for it in other)
    print(f"{len(compared)} compared, {len(other)} differ; refused: {dict(refused)}\n{told}")
    assert len(other) <= 0.02 * len(compared), told


# Each text as tokens of up to eight letters, some of which have no text, with changes of the sampling between; written
# token by token, and at once. Where they are not the same.
WRITTEN = r"""(sources) => sources.map((source) => {
    const words = source.match(/[^]{1,8}/gu) || [], others = [[1, ' the', .5, .5]];
    const tokens = words.flatMap((text, i) => [[i, text, .5, .5, others], ...(i % 5 ? [] : [[i, '', .5, .5, others]])]);
    const marks = tokens.flatMap((_, i) => i % 7 ? [] : [[i, 'changed ' + i]]);
    const begin = (tokens, live) => { const home = document.createElement('div');
        const node = { tokens, marks: marks.filter(([at]) => at <= tokens.length), live };
        return { home, node, view: new Glass.View(home, 1, node, { hover() {}, show() {} }) }; };
    const { home, node, view } = begin(tokens.slice(0, 1), true), html = (it) => it.innerHTML.replace(/"-?\d" /, '');
    for (const token of tokens.slice(1)) {
        node.tokens.push(token);
        node.marks = marks.filter(([at]) => at <= node.tokens.length);
        view.redraw();
        const atOnce = begin([...node.tokens], true).home;
        if (html(home) !== html(atOnce))
            return { source, count: node.tokens.length, at_once: html(atOnce), written: html(home) };
    }
    return null; }).filter(Boolean)"""


def test_what_is_written_token_by_token_looks_as_if_it_came_at_once(fake, open_page):
    """But for links by reference, which are words as long as their address stands in another block."""
    page = open_page(fake)
    page.wait_for_function("window.VendoredMarkdown")
    long = [
        "One two.\nFour & five\n\n" * 3,
        "```py\n" + "x = 1\n\n" * 5 + "```\nend",
        "- a\n- b\n\n  c\n\n      code\n",
    ]
    sources = [source for _, source, _ in EXAMPLES if not re.search(r"^[ >]*\[.+\]:", source, re.MULTILINE | re.DOTALL)]
    assert len(sources) > 550
    assert page.evaluate(WRITTEN, sources + long)[:3] == []
