// What the scripts of the page share: the table of sentences, making elements, saying things to screen readers. Text
// enters the page as text alone: nothing here sets innerHTML.
window.Glass = (() => {
  const T = window.GLASS_TEXT;

  // make("button", {class: "x", onclick: f}, "words", child)
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const PICTURES = {
    copy: "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z", edit: "M2.5 13.5l.7-3 8-8 2.3 2.3-8 8z", undo: "M6 3L3 6l3 3M3 6h6.5a3.5 3.5 0 010 7H6",
    retry: "M13 8a5 5 0 11-1.5-3.5L13 6M13 2.5V6H9.5", earlier: "M10 3L5 8l5 5", later: "M6 3l5 5-5 5", remove: "M4 4l8 8M12 4l-8 8",
    attach: "M12.5 7.5l-5 5a3 3 0 01-4.3-4.3l5.6-5.5a2 2 0 012.9 2.8l-5.4 5.4a1 1 0 01-1.4-1.4l4.6-4.6", map: "M8 2v4M8 6L3.5 10M8 6l4.5 4M3.5 10v3.500M12.5 10v3.500", sides: "M2.500 3.500h11v9h-11zM8 3.500v9", latest: "M8 3v10M3.5 8.5L8 13l4.5-4.5",
  };
  function picture(name) {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", PICTURES[name]);
    svg.append(path);
    return svg;
  }

  // With a picture the name is for screen readers and the pointer.
  const button = (name, icon, onclick, attributes = {}) =>
    make("button", { type: "button", "aria-label": icon ? name : null, title: icon ? name : null, onclick, ...attributes },
      PICTURES[icon] ? picture(icon) : icon || name);

  // Gradio may put the scripts into a page that is there already.
  const whenThere = (act) => (document.body ? act() : addEventListener("DOMContentLoaded", act));

  const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const percent = (share) => (share === null || share === undefined ? "" :
    share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`);
  // Six steps: the less likely, the warmer.
  const tint = (share) => (share === null ? "x" : share >= 0.9 ? 0 : share >= 0.6 ? 1 : share >= 0.3 ? 2 : share >= 0.1 ? 3 : share >= 0.02 ? 4 : 5);

  let region;
  function say(words) {
    if (!region) document.body.append(region = make("div", { id: "announcer", "aria-live": "polite", role: "status", class: "unseen" }));
    region.textContent = "";
    setTimeout(() => { region.textContent = words; }, 60);
  }

  const textOf = (node) => (node.tokens && node.tokens.length ? node.tokens.map((token) => token[1]).join("") : node.words || "");

  // Whether a key belongs to an input method, which may have an offer open.
  const composes = (event) => event.isComposing || event.keyCode === 229;

  function download(name, text) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text])), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = make("textarea", { class: "unseen" });
      box.value = text;
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    Glass.toasts.say(T.copied);
  }

  return { T, whenThere, make, button, fill, percent, tint, say, composes, textOf, download, copy };
})();
