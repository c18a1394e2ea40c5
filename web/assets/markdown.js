// The Markdown that models write, as elements: paragraphs, headings, lists, quotes, tables, code, emphasis. Built node by
// node from text, so no word of a model can become markup; links and pictures stay what they are: text.
Glass.markdown = (() => {
  const { make } = Glass;
  const INLINE = /(`+)([\s\S]+?)\1|(\*\*|__)(?=\S)([\s\S]+?\S)\3|(\*|_)(?=\S)([^*_]*?\S)\5(?!\w)/;

  function inline(text) {
    const found = text.length < 20000 ? text.match(INLINE) : null;
    if (!found) return [text];
    const [whole, , code, , strong, , soft] = found;
    const element = code !== undefined ? make("code", {}, code) :
      strong !== undefined ? make("strong", {}, ...inline(strong)) : make("em", {}, ...inline(soft));
    return [text.slice(0, found.index), element, ...inline(text.slice(found.index + whole.length))];
  }

  const STARTS = [
    [/^ {0,3}(`{3,}|~{3,})/, fence],
    [/^ {0,3}#{1,6} /, heading],
    [/^ {0,3}([-*_])( *\1){2,} *$/, (lines) => (lines.shift(), make("hr"))],
    [/^ {0,3}> ?/, quote],
    [/^ {0,3}([-*+]|\d{1,9}[.)]) /, list],
  ];

  function fence(lines) {
    const mark = lines.shift().trim().match(/^(`+|~+)/)[0], body = [];
    while (lines.length && !lines[0].trim().startsWith(mark)) body.push(lines.shift());
    lines.shift();
    return make("pre", { tabindex: 0 }, make("code", {}, body.join("\n")));
  }

  function heading(lines) {
    const [, marks, words] = lines.shift().match(/^ {0,3}(#{1,6}) (.*?)#*$/);
    return make("p", { class: "heading", role: "heading", "aria-level": Math.min(6, marks.length + 2) }, ...inline(words));
  }

  function quote(lines) {
    const body = [];
    while (lines.length && /^ {0,3}>/.test(lines[0])) body.push(lines.shift().replace(/^ {0,3}> ?/, ""));
    return make("blockquote", {}, ...blocks(body));
  }

  function list(lines) {
    const ordered = /^ {0,3}\d/.test(lines[0]);
    const first = ordered ? parseInt(lines[0]) : null;
    const items = [], start = ordered ? /^ {0,3}\d{1,9}[.)] / : /^ {0,3}[-*+] /;
    while (lines.length) {
      if (start.test(lines[0])) items.push([lines.shift().replace(start, "")]);
      else if (/^( {2,}|\t)/.test(lines[0])) items.at(-1).push(lines.shift().replace(/^( {1,4}|\t)/, ""));
      else break;
    }
    return make(ordered ? "ol" : "ul", { start: first }, ...items.map((item) => make("li", {}, ...blocks(item, true))));
  }

  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|");

  function table(lines) {
    const row = (kind) => make("tr", {}, ...cells(lines.shift()).map((cell) => make(kind, {}, ...inline(cell.trim()))));
    const head = row("th"), body = [];
    lines.shift();
    while (lines.length && lines[0].includes("|")) body.push(row("td"));
    return make("div", { class: "table", tabindex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  }

  const isTable = (lines) => lines.length > 1 && lines[0].includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[1]) && lines[1].includes("|");

  function blocks(lines, tight = false) {
    const made = [];
    while (lines.length) {
      if (!lines[0].trim()) { lines.shift(); continue; }
      const start = STARTS.find(([pattern]) => pattern.test(lines[0]));
      if (start) { made.push(start[1](lines)); continue; }
      if (isTable(lines)) { made.push(table(lines)); continue; }
      const paragraph = [];
      do paragraph.push(lines.shift());
      while (lines.length && lines[0].trim() && !STARTS.some(([pattern]) => pattern.test(lines[0])));
      made.push(make(tight ? "span" : "p", { dir: "auto", class: "lines" }, ...inline(paragraph.join("\n"))));
    }
    return made;
  }

  return (text) => blocks(text.split("\n"));
})();
