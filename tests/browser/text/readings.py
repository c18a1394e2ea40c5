"""What is read off a reply that stands on the page."""

# The text of the spans, the text that is seen (without our own buttons), and the numbers of the tokens in order.
READ = """() => { const body = document.querySelector('.assistant .body'), spans = [...body.querySelectorAll('.tok')];
    const copy = body.cloneNode(true);
    copy.querySelectorAll('.bar, .address').forEach((it) => it.remove());
    return [spans.map((it) => it.textContent).join(''), copy.textContent, spans.map((it) => Number(it.dataset.i))]; }"""

# Which tokens the right arrow leads to, `count` times from the first one.
WALK = """(count) => { document.querySelector('.assistant .tok').focus();
    return Array.from({length: count}, () => { const at = document.activeElement;
        at.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
        return Number(at.dataset.i); }); }"""
